rule heatmaps:
    input:
        table=f"{PLATE}/wells.tsv",
        wells=f"{PLATE}/wells.csv",
        columns=f"{PLATE}/columns.csv",
    output:
        report(
            directory(f"{PLATE}/figures/heatmaps"),
            patterns=["{feature}.png"],
            caption="../report/heatmap.rst",
            category="Plate {plate}",
            labels={"figure": "heat map", "feature": "{feature}"},
        ),
    log:
        f"{PLATE}/logs/heatmaps.log",
    benchmark:
        f"{PLATE}/benchmarks/heatmaps.tsv"
    priority: first_plates_first
    localrule: True
    threads: 1
    params:
        features=PLAN.settings.heatmaps,
    message:
        "Draw the heat maps of plate {wildcards.plate}"
    script:
        "../scripts/heatmaps.py"


rule montage:
    input:
        table=f"{PLATE}/wells.tsv",
        processed=f"{PLATE}/processed.sha1",
        qc=f"{PLATE}/image_qc.csv" if PLAN.settings.has_qc else [],
    output:
        montage=report(
            f"{PLATE}/figures/montage.png",
            caption="../report/montage.rst",
            category="Plate {plate}",
            labels={"figure": "montage", "feature": "processed images"},
        ),
        outlines=report(
            directory(f"{PLATE}/figures/outlines"),
            patterns=["{name}.png"],
            caption="../report/outlines.rst",
            category="Plate {plate}",
            labels={"figure": "outlines", "feature": "worst and best wells"},
        ),
    log:
        f"{PLATE}/logs/montage.log",
    benchmark:
        f"{PLATE}/benchmarks/montage.tsv"
    priority: first_plates_first
    localrule: True
    threads: 1
    message:
        "Draw the montage of plate {wildcards.plate}"
    script:
        "../scripts/montage.py"
