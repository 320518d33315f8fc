# Put the wells of all plates into one table, and attach it to the screens in OMERO
rule gather_wells:
    input:
        of_plates(PLAN.settings.screen_source),
    output:
        f"{SCREEN}/left_out.parquet",
        table=f"{SCREEN}/screen_wells.csv",
        parquet=f"{SCREEN}/screen_wells.parquet",
        left_out=f"{SCREEN}/left_out.csv",
    log:
        f"{SCREEN}/gather_wells.log",
    benchmark:
        f"{SCREEN}/gather_wells.tsv"
    localrule: True
    threads: 1
    params:
        tables=lambda wildcards, input: list(input),
        left_out=lambda wildcards: LEFT_OUT.reasons,
    message:
        "Gather the wells of all plates"
    script:
        "../scripts/gather_wells.py"


rule annotate_screen:
    input:
        derived=of_plates("derived.json"),
        table=rules.gather_wells.output.table,
    output:
        record=f"{SCREEN}/annotations.json",
    log:
        f"{SCREEN}/annotate_screen.log",
    benchmark:
        f"{SCREEN}/annotate_screen.tsv"
    localrule: True
    threads: 1
    resources:
        omero=1,
    params:
        attached=PLAN.attached_record,
    message:
        "Attach the wells of all plates to the screens"
    script:
        "../scripts/annotate_screen.py"


SCREEN_RULES = [
    *([rules.analyze] if PLAN.settings.analysis is not None else []),
    rules.gather_wells,
    rules.annotate_screen,
]
go_on_without_failed([each.rule for each in SCREEN_RULES], RUN.leave_out)
