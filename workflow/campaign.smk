# A workflow of workflows, for thousands of plates: each job is the run of one plate, in a folder of its own. The
# configuration is that of the workflow; docs/how-to/scaling.md says when to use it.
#     snakemake --snakefile workflow/campaign.smk --cores 8 --keep-going --config profile=cluster
from openhcs_omero.core.orchestrator.campaign import Campaign


configfile: "config/config.yaml"


CAMPAIGN = Campaign(workflow, config)


rule all:
    input:
        expand("runs/{plate}/done", plate=CAMPAIGN.configs),
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


onstart:
    CAMPAIGN.begin()


onsuccess:
    CAMPAIGN.end()


onerror:
    CAMPAIGN.end()
