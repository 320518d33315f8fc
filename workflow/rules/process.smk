rule estimate:
    # no input: a well that changes does not change the estimate, and with it all other wells
    output:
        f"{PLATE}/estimates/{{position}}_{{function}}_c{{channel}}.npy",
    params:
        what=lambda wildcards: PLAN.estimate_record(int(wildcards.position)),
    wildcard_constraints:
        position=r"\d+",
        function=r"\w+",
        channel=r"\d+",
    resources:
        omero=1,
        mem_mb=lambda wildcards, attempt: attempt * PLAN.memory(int(wildcards.plate)),
        runtime=lambda wildcards, attempt: attempt * 30,
    log:
        f"{PLATE}/logs/estimate_{{position}}_{{function}}_c{{channel}}.log",
    message:
        "Estimate for step {wildcards.position} ({wildcards.function}), channel {wildcards.channel} of plate {wildcards.plate}"
    script:
        "../scripts/estimate.py"


rule process_well:
    input:
        fingerprint=fingerprint_of,
        derived=derived_of,
        estimates=estimates_of,
    output:
        record=f"{PLATE}/processed/{{well}}.json",
        features=f"{PLATE}/processed/{{well}}.features.csv",
        objects=f"{PLATE}/processed/{{well}}.objects.csv",
        thumbnail=f"{PLATE}/processed/{{well}}.npy",
    params:
        steps=PLAN.steps_record(),
    resources:
        omero=1,
        mem_mb=lambda wildcards, attempt: attempt * PLAN.memory(int(wildcards.plate)),
        runtime=lambda wildcards, attempt: attempt * 15,
    log:
        f"{PLATE}/logs/process_well_{{well}}.log",
    message:
        "Process well {wildcards.well} of plate {wildcards.plate}"
    script:
        "../scripts/process_well.py"
