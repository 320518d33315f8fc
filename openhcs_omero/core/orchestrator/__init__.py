"""Running the workflow from Python: the same Snakefile, started through Snakemake's API."""
