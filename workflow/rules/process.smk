rule estimate:
    # no images: a changed well must not change the estimate, and through it all other wells
    input:
        earlier_estimates,
    output:
        f"{PLATE}/estimates/{{position}}_{{function}}_c{{channel}}.npz",
    log:
        f"{PLATE}/logs/estimate_{{position}}_{{function}}_c{{channel}}.log",
    benchmark:
        f"{PLATE}/benchmarks/estimate_{{position}}_{{function}}_c{{channel}}.tsv"
    wildcard_constraints:
        position=r"\d+",
        function=r"\w+",
        channel=r"\d+",
    priority: first_plates_first
    threads: 1
    resources:
        omero=1,
        mem_mb=lambda wildcards, attempt: attempt * PLAN.memory(wildcards.plate),
        runtime=lambda wildcards, attempt: attempt * 30,
    params:
        what=lambda wildcards: PLAN.estimate_record(wildcards.plate, int(wildcards.position)),
    message:
        "Estimate for step {wildcards.position} ({wildcards.function}), channel {wildcards.channel} of plate {wildcards.plate}"
    script:
        "../scripts/estimate.py"


# No `benchmark`: a worker process handles several wells, and Snakemake would measure all of them together.
rule process_well:
    input:
        # ancient: finished wells stay valid when a well is added to the derived plate. If the derived plate itself is
        # gone, the run removes their records before it starts
        ancient(f"{PLATE}/derived.json"),
        estimates_of,
    output:
        f"{PLATE}/processed/{{well}}.zip",
    log:
        f"{PLATE}/logs/process_well_{{well}}.log",
    priority: first_plates_first
    group:
        "wells"
    threads: PLAN.needs.threads
    resources:
        omero=1,
        mem_mb=lambda wildcards, attempt: attempt * (PLAN.memory(wildcards.plate) + PLAN.needs.mem_mb),
        runtime=lambda wildcards, attempt: attempt * PACING.well_minutes(),
        gpu=local_gpus,
        gres=cluster_gpus,
    params:
        steps=lambda wildcards: PLAN.steps_record(wildcards.plate),
        images=lambda wildcards: PLAN.well_record(wildcards.plate, wildcards.well),
    message:
        "Process well {wildcards.well} of plate {wildcards.plate}"
    run:
        worker_pool.process_well(config, wildcards, input, output[0], log[0], threads)


# Combines wells into one cluster job: jobs of a group that depend on each other are submitted together. A batch always
# contains the same wells. Snakemake's `group-components` does not guarantee that: it combines the jobs that are left.
rule batch:
    input:
        wells_of_batch,
    output:
        touch(f"{PLATE}/batches/{{size}}_{{number}}"),
    wildcard_constraints:
        size=r"\d+",
        number=r"\d+",
    priority: first_plates_first
    group:
        "wells"
    threads: 1
    resources:
        mem_mb=100,
        runtime=lambda wildcards, attempt: attempt * PACING.batch_minutes(int(wildcards.size)),
        gres=cluster_gpus,
    message:
        "Batch {wildcards.number} of the wells of plate {wildcards.plate} is done"


# Only on a cluster, and only for many wells
checkpoint pace:
    input:
        ancient(f"{PLATE}/batches/{FIRST}_1".format(plate=PACING.first)),
    output:
        PLAN.settings.pace_file,
    log:
        f"{PLAN.settings.pace_file}.log",
    localrule: True
    params:
        steps=lambda wildcards: PLAN.steps_record(PACING.first),
    message:
        "Measure how long a well takes"
    run:
        PACING.write(max(1, (workflow.resource_settings.cores or 1) // PLAN.needs.threads), Path(log[0]))
