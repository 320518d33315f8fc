# Analyze the tables of all plates, and write the report of the screen
rule analyze:
    input:
        wells=of_plates("wells.csv"),
    output:
        expand(f"{PLATE}/{{name}}", plate=PROCESSED, name=with_parquet(PLAN.settings.plate_answers)),
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
    # before the figures of the last plate, which nothing waits for
    priority: len(PLATES) + 1
    # large tables are written by two threads; next to the analysis of few plates, figures are drawn
    threads: 2 if len(PLATES) > 20 else 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        analysis=PLAN.analysis_record,
        plates=PROCESSED,
        left_out=lambda wildcards: LEFT_OUT.reasons,
        treatments=[PLAN.treatments_record(plate) for plate in PROCESSED],
    message:
        "Analyze all plates"
    script:
        "../scripts/analyze.py"
