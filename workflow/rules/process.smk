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
        mem_mb=lambda wildcards, attempt: attempt * PLAN.memory(wildcards.plate),
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
    group:
        "wells"
    resources:
        omero=1,
        mem_mb=lambda wildcards, attempt: attempt * PLAN.memory(wildcards.plate),
        runtime=lambda wildcards, attempt: attempt * 15,
    log:
        f"{PLATE}/logs/process_well_{{well}}.log",
    message:
        "Process well {wildcards.well} of plate {wildcards.plate}"
    run:
        worker_pool.process_well(
            config=config,
            plate=wildcards.plate,
            fingerprint=input.fingerprint,
            derived=input.derived,
            estimates=list(input.estimates),
            outputs=dict(output.items()),
            log=log[0],
        )


# Joins wells to one job of a cluster: what hangs together in a group is submitted together. Snakemake's own
# `group-components` is not made for checkpoints: 9.27 puts wells into several jobs at once when the DAG changes.
rule batch:
    input:
        records_of_batch,
    output:
        touch(f"{PLATE}/batches/{{size}}_{{number}}"),
    group:
        "wells"
    resources:
        mem_mb=100,
        runtime=1,
    wildcard_constraints:
        size=r"\d+",
        number=r"\d+",
    message:
        "Batch {wildcards.number} of the wells of plate {wildcards.plate} is done"
