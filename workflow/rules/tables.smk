rule aggregate:
    input:
        wells=f"{PLATE}/wells.tsv",
        processed=processed_wells,
        qc=f"{PLATE}/image_qc.csv" if PLAN.settings.has_qc else [],
    output:
        [f"{PLATE}/{name}.parquet" for name in ["features", "wells", "objects", "columns", "failed"]],
        features=f"{PLATE}/features.csv",
        wells=f"{PLATE}/wells.csv",
        objects=f"{PLATE}/objects.csv",
        columns=f"{PLATE}/columns.csv",
        manifest=f"{PLATE}/processed.sha1",
        failed=report(
            f"{PLATE}/failed.csv",
            caption="../report/failed.rst",
            category="Plate {plate}",
            labels={"figure": "failed wells", "feature": ""},
        ),
    log:
        f"{PLATE}/logs/aggregate.log",
    benchmark:
        f"{PLATE}/benchmarks/aggregate.tsv"
    priority: first_plates_first
    localrule: True
    threads: 1
    params:
        wells=lambda wildcards: PLAN.tables_record(wildcards.plate),
        treatments=lambda wildcards: PLAN.treatments_record(wildcards.plate),
    message:
        "Collect the tables of plate {wildcards.plate}"
    script:
        "../scripts/aggregate.py"


rule annotate:
    input:
        derived=f"{PLATE}/derived.json",
        processed=f"{PLATE}/processed.sha1",  # OMERO.tables refer to images by id
        tables=[
            f"{PLATE}/{name}"
            for name in ["features.csv", "wells.csv"]
            + (["image_qc.csv"] if PLAN.settings.has_qc else [])
            + PLAN.settings.plate_answers
        ],
        objects=f"{PLATE}/objects.csv",
        about=[f"{PLATE}/{name}" for name in ["columns.csv", "failed.csv"]],
    output:
        record=f"{PLATE}/annotations.json",
        crate=f"{PLATE}/ro-crate-metadata.json",
        snakefile=f"{PLATE}/Snakefile",
        run=report(
            f"{PLATE}/run.yaml",
            caption="../report/run.rst",
            category="Plate {plate}",
            labels={"figure": "provenance", "feature": ""},
        ),
    log:
        f"{PLATE}/logs/annotate.log",
    benchmark:
        f"{PLATE}/benchmarks/annotate.tsv"
    priority: first_plates_first
    localrule: True
    threads: 1
    resources:
        omero=1,
    params:
        published=lambda wildcards: PLAN.published_record(wildcards.plate),
    message:
        "Attach the tables to plate {wildcards.plate} and the plate derived from it"
    script:
        "../scripts/annotate.py"
