# A plate in OMERO through Snakemake and back into OMERO. What is done to which plates: config/README.md.

configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/wells.smk"
include: "workflow/rules/process.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/report.smk"


localrules:
    all,
    wells,
    derive_plate,
    aggregate,
    annotate,
    heatmaps,
    montage,


rule all:
    default_target: True
    message:
        "All plates are done"
    input:
        processed(".json"),  # named here so that a missing one is made again
        batches,
        on_every_plate("features.csv"),
        on_every_plate("wells.csv"),
        on_every_plate("objects.csv"),
        on_every_plate("annotations.json"),
        on_every_plate("figures/heatmaps"),
        on_every_plate("figures/montage.png"),
