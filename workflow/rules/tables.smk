rule aggregate:
    input:
        wells=f"{PLATE}/wells.tsv",
        records=processed(".json"),
        features=processed(".features.csv"),
        objects=processed(".objects.csv"),
    output:
        features=f"{PLATE}/features.csv",
        wells=f"{PLATE}/wells.csv",
        objects=f"{PLATE}/objects.csv",
        columns=f"{PLATE}/columns.csv",
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
    localrule: True
    threads: 1
    params:
        wells=lambda wildcards: PLAN.tables_record(wildcards.plate),
        treatments=lambda wildcards: PLAN.treatments_record(wildcards.plate),
    message:
        "Collect the tables of plate {wildcards.plate}"
    script:
        "../scripts/aggregate.py"


# attached only as files: several columns per feature can exceed the limit of an OMERO.table, about 800 columns
WIDE = ["normalised.csv"]


rule annotate:
    input:
        derived=f"{PLATE}/derived.json",
        records=processed(".json"),  # OMERO.tables refer to images by id
        tables=[
            f"{PLATE}/{name}"
            for name in ["features.csv", "wells.csv", "objects.csv"]
            + [name for name in PLAN.settings.plate_answers if name not in WIDE]
        ],
        about=[
            f"{PLATE}/{name}"
            for name in ["columns.csv", "failed.csv"] + [name for name in PLAN.settings.plate_answers if name in WIDE]
        ],
    output:
        record=f"{PLATE}/annotations.json",
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
