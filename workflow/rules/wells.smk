checkpoint wells:
    output:
        table=f"{PLATE}/wells.tsv",
    params:
        state=lambda wildcards: PLAN.states[wildcards.plate].fingerprint,
    resources:
        omero=1,
    log:
        f"{PLATE}/logs/wells.log",
    message:
        "List the wells of plate {wildcards.plate}"
    script:
        "../scripts/wells.py"


# a checkpoint too, since the wells depend on its record's content and not on that it ran
checkpoint derive_plate:
    input:
        table=f"{PLATE}/wells.tsv",
        token=f"{PLATE}/derive.token",
    output:
        record=f"{PLATE}/derived.json",
    resources:
        omero=1,
    log:
        f"{PLATE}/logs/derive_plate.log",
    message:
        "Make the plate derived from plate {wildcards.plate}, or bring it up to date"
    script:
        "../scripts/derive_plate.py"
