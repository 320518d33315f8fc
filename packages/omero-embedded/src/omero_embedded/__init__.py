"""An OMERO server in Python, for tests, teaching and demonstrations. Don't keep data in it.

Importing this package imports nothing of omero-py or Ice.

Examples
--------
>>> from pathlib import Path
>>> from omero_embedded import start
>>> with start(Path("folder")) as server:  # doctest: +SKIP
...     print(server.host, server.port, server.password)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omero_embedded.errors import CannotStart
    from omero_embedded.plates import site_pixels
    from omero_embedded.process import EmbeddedServer, start
    from omero_embedded.testing import OmeroServer, OmeroUser

__all__ = ["CannotStart", "EmbeddedServer", "OmeroServer", "OmeroUser", "site_pixels", "start"]
_MODULES = {
    "CannotStart": "errors",
    "EmbeddedServer": "process",
    "OmeroServer": "testing",
    "OmeroUser": "testing",
    "site_pixels": "plates",
    "start": "process",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
