# Measure the quality of the images, before and apart from the steps
rule measure_images:
    output:
        f"{PLATE}/qc/{{size}}_{{number}}.csv",
    log:
        f"{PLATE}/logs/measure_images_{{size}}_{{number}}.log",
    benchmark:
        f"{PLATE}/benchmarks/measure_images_{{size}}_{{number}}.tsv"
    wildcard_constraints:
        size=r"\d+",
        number=r"\d+",
    priority: first_plates_first
    threads: 1
    resources:
        omero=1,
        mem_mb=lambda wildcards, attempt: attempt * PLAN.memory(wildcards.plate),
        runtime=lambda wildcards, attempt: attempt * 60,
    params:
        images=lambda wildcards: PLAN.images_record(wildcards.plate, qc_wells(wildcards)),
        wells=lambda wildcards: qc_wells(wildcards),
    message:
        "Measure the images of part {wildcards.number} of plate {wildcards.plate}"
    script:
        "../scripts/measure_images.py"


rule qc:
    input:
        qc_parts,
    output:
        report(
            f"{PLATE}/image_qc.csv",
            caption="../report/image_qc.rst",
            category="Plate {plate}",
            labels={"figure": "quality of the images", "feature": ""},
        ),
        f"{PLATE}/image_qc.parquet",
    log:
        f"{PLATE}/logs/qc.log",
    benchmark:
        f"{PLATE}/benchmarks/qc.tsv"
    priority: first_plates_first
    localrule: True
    threads: 1
    params:
        conditions=PLAN.qc_record,
        channels=lambda wildcards: PLAN.channels(wildcards.plate),
    message:
        "Compare the images of plate {wildcards.plate}"
    script:
        "../scripts/qc.py"
