# A workflow of workflows, for thousands of plates: each job is the run of one plate, in a folder of its own. The
# configuration is that of the workflow; docs/how-to/scaling.md says when to use it.
#     snakemake --snakefile workflow/campaign.smk --cores 8 --keep-going --config profile=cluster
from openhcs_omero.core.orchestrator.campaign import Campaign
from openhcs_omero.core.orchestrator.snakemake_faults import go_on_without_failed


configfile: "config/config.yaml"


CAMPAIGN = Campaign(workflow, config)


rule all:
    input:
        expand("runs/{plate}/done", plate=CAMPAIGN.configs),
        "runs/screen_wells.csv" if len(CAMPAIGN.configs) > 1 else [],
    localrule: True
    message:
        "All plates are done"


rule run_plate:
    output:
        touch("runs/{plate}/done"),
    log:
        "runs/{plate}/run.log",
    localrule: True
    threads: 1
    params:
        config=lambda wildcards: CAMPAIGN.record(wildcards.plate),
        script=lambda wildcards: CAMPAIGN.script(wildcards.plate),
    message:
        "Run plate {wildcards.plate}"
    shell:
        "sh {params.script:q} > {log:q} 2>&1"


rule gather_wells:
    input:
        lambda wildcards: expand("runs/{plate}/done", plate=CAMPAIGN.successful),
    output:
        "runs/left_out.parquet",
        table="runs/screen_wells.csv",
        parquet="runs/screen_wells.parquet",
        left_out="runs/left_out.csv",
    log:
        "runs/gather_wells.log",
    localrule: True
    threads: 1
    params:
        tables=lambda wildcards: CAMPAIGN.tables,
        left_out=lambda wildcards: CAMPAIGN.left_out,
    message:
        "Gather the wells of all plates"
    script:
        "scripts/gather_wells.py"


go_on_without_failed([rules.gather_wells.rule], CAMPAIGN.leave_out)


onstart:
    CAMPAIGN.begin()


onsuccess:
    CAMPAIGN.end()


onerror:
    CAMPAIGN.end()
