"""The live page of a run as a Snakemake logger plugin, under the name by which Snakemake finds plugins."""

from openhcs_omero.core.orchestrator.live import LogHandler

__all__ = ["LogHandler"]
