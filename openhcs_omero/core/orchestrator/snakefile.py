"""Where the workflow is: in the clone that contains this package, or where the installation of the package put it."""

from __future__ import annotations

import sysconfig
from pathlib import Path

from openhcs_omero.errors import ConfigError, OpenHCSError

CLONE = Path(__file__).resolve().parents[3]


def find_workflow() -> Path:
    """Find the folder with Snakefile, workflow/, profiles/ and cluster/."""
    installed = Path(sysconfig.get_path("data")) / "share" / "openhcs_omero"
    for folder in (CLONE, installed):
        if (folder / "Snakefile").exists():
            return folder
    raise OpenHCSError(f"the workflow is neither in {CLONE} nor in {installed}: reinstall openhcs-omero")


def find_profile(profile: str) -> Path:
    """Find a Snakemake profile: a folder with a config.yaml, here or next to the workflow, like `cluster`.

    Raises
    ------
    ConfigError
        If the profile does not exist.
    """
    places = [Path(profile), find_workflow() / profile]
    for place in places:
        if (place / "config.yaml").exists():
            return place.resolve()
    raise ConfigError(f"there is no profile {profile!r}: looked for config.yaml in {', '.join(map(str, places))}")
