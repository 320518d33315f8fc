rule wells:
    output:
        table=f"{PLATE}/wells.tsv",
    log:
        f"{PLATE}/logs/wells.log",
    benchmark:
        f"{PLATE}/benchmarks/wells.tsv"
    priority: first_plates_first
    localrule: True
    threads: 1
    params:
        state=lambda wildcards: PLAN.wells_record(wildcards.plate),
        problem=lambda wildcards: PLAN.problems.get(wildcards.plate),
    message:
        "List the wells of plate {wildcards.plate}"
    script:
        "../scripts/wells.py"


rule derive_plate:
    output:
        record=f"{PLATE}/derived.json",
    log:
        f"{PLATE}/logs/derive_plate.log",
    benchmark:
        f"{PLATE}/benchmarks/derive_plate.tsv"
    priority: first_plates_first
    localrule: True
    threads: 1
    resources:
        omero=1,
    params:
        state=lambda wildcards: PLAN.derived_record(wildcards.plate),
    message:
        "Create or update the plate derived from plate {wildcards.plate}"
    script:
        "../scripts/derive_plate.py"
