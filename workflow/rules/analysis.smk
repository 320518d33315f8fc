# Analyze the tables of all plates, and write the report of the screen
SCREEN = f"{PLAN.settings.results}/screen_{PLAN.settings.output}"


rule analyze:
    input:
        wells=expand(f"{PLATE}/wells.csv", plate=PLATES),
    output:
        expand(f"{PLATE}/{{name}}", plate=PLATES, name=PLAN.settings.plate_answers),
        expand(f"{SCREEN}/{{name}}", name=PLAN.settings.screen_answers),
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
        treatments=[PLAN.treatments_record(plate) for plate in PLATES],
    message:
        "Analyze all plates"
    script:
        "../scripts/analyze.py"
