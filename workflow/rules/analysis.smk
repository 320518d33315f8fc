# Analyze the tables of all plates, and write the report of the screen
SCREEN = f"{PLAN.settings.results}/screen_{PLAN.settings.output}"
ANALYZED = [plate for plate in PLATES if plate not in PLAN.problems]


rule analyze:
    input:
        wells=expand(f"{PLATE}/wells.csv", plate=ANALYZED),
    output:
        expand(f"{PLATE}/{{name}}", plate=ANALYZED, name=with_parquet(PLAN.settings.plate_answers)),
        expand(f"{SCREEN}/{{name}}", name=with_parquet(PLAN.settings.screen_answers)),
        report=report(
            f"{SCREEN}/report.html",
            caption="../report/screen.rst",
            category="Screen",
            labels={"figure": "report", "feature": "all plates"},
        ),
    log:
        f"{SCREEN}/analyze.log",
    benchmark:
        f"{SCREEN}/analyze.tsv"
    threads: 2
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        analysis=PLAN.analysis_record,
        problems=PLAN.problems,
        treatments=[PLAN.treatments_record(plate) for plate in ANALYZED],
    message:
        "Analyze all plates"
    script:
        "../scripts/analyze.py"
