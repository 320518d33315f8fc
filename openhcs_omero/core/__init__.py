"""What the workflow's rules and scripts call, in the order of a run.

Before anything runs, in the head process:
    `config`, `config_check`, `needs`, `command`, `command_versions` read and check the configuration. `selection` finds
    its plates, `plates` and `materialization` open them, `channels` numbers their channels. `inspection` compares them
    with what earlier runs left (`state`, `stale`, `treatments`) and makes the `plan`. `batches` and `pace` say how many
    wells share a job of a cluster.

In the jobs, each called by a function of `rules`:
    `estimate_job` and `estimates` compute what steps need of a whole plate, `qc` measures images. `well` runs the steps
    (`steps/`) on a well, in processes of `worker_pool`; `kept` and `kept_file` keep images between steps. `records` and
    `well_file` store what was found, `failures` why a well failed, `joblog` what the job printed, which
    `log_size` bounds. `outputs/` writes images and tables to OMERO or to folders, with `notes` on wells.

From wells to tables and pictures:
    `plate_tables` with `features` and `statistics`, `figures`, `outlines`; `screen_wells` and `screen_analysis` for all
    plates together, but for those that `left_out` names; `provenance` and `crate` say how all of it was made.

What people see of a run:
    `progress`, `status`, `run_page`, `summary` and `notify`.

`orchestrator/` is the side of Snakemake: it starts the workflow from Python, and connects the Snakefile with all this.
"""
