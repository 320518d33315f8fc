"""What is noted on everything that a run writes."""
from __future__ import annotations

import hashlib
import json
import os

from openhcs_omero.core.config import Settings
from openhcs_omero.version import __version__

RUN_VARIABLE = "OPENHCS_OMERO_RUN"


def marks(settings: Settings) -> dict[str, str]:
    """What is noted on everything that is written: by which run, code and configuration."""
    what = [settings.output, settings.wells, [[s.call, s.name, s.channels, s.params] for s in settings.steps]]
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    return {"run": os.environ.get(RUN_VARIABLE, "unknown"), "version": __version__, "config": digest[:16]}
