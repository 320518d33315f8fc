"""A high-content screening plate in OMERO, through Snakemake, and back into OMERO."""

__version__ = "0.2.0"
