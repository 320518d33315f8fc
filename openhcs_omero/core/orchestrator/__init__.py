"""The workflow run from Python: the same Snakefile, started through Snakemake's own API."""
