# Put the wells of all plates into one table, and attach it to the screens in OMERO
rule gather_wells:
    input:
        expand(
            f"{PLATE}/{{name}}",
            plate=PROCESSED,
            name="wells.csv" if PLAN.settings.analysis is None else "normalised.csv",
        ),
    output:
        table=f"{SCREEN}/screen_wells.csv",
        parquet=f"{SCREEN}/screen_wells.parquet",
    log:
        f"{SCREEN}/gather_wells.log",
    benchmark:
        f"{SCREEN}/gather_wells.tsv"
    localrule: True
    threads: 1
    message:
        "Gather the wells of all plates"
    script:
        "../scripts/gather_wells.py"


rule annotate_screen:
    input:
        derived=expand(f"{PLATE}/derived.json", plate=PROCESSED),
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
