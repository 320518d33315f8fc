"""Start the embedded OMERO server, a separate product (packages/omero-embedded), as a process."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from openhcs_omero.errors import OpenHCSError
from openhcs_omero.password import child_environment

if TYPE_CHECKING:
    from omero_embedded.process import EmbeddedServer

NOT_INSTALLED = 'the embedded server is not installed: pip install "openhcs-omero[embedded]"'


def start_embedded(
    data: Path, port: int = 0, password_file: Path | None = None, detached: bool = False
) -> EmbeddedServer:
    """Start an embedded server; see `omero_embedded.process.start` for the parameters.

    Raises
    ------
    OpenHCSError
        If the server is not installed or does not start.
    """
    try:
        from omero_embedded.process import CannotStart, start
    except ModuleNotFoundError:
        raise OpenHCSError(NOT_INSTALLED) from None
    try:
        return start(data, port, password_file, detached=detached)
    except CannotStart as error:
        raise OpenHCSError(str(error)) from None


def certificate_of(data: Path) -> str | None:
    """The certificate file of the embedded server whose data are in the folder `data`; None if there is none."""
    file = data / "server.pem"
    return str(file.resolve()) if file.exists() else None


def become_embedded(data: Path, options: Sequence[str]) -> None:
    """Replace this process with an embedded server; this function does not return.

    Parameters
    ----------
    data
        The data folder.
    options
        Further options of `omero-embedded serve`.

    Raises
    ------
    OpenHCSError
        If the server is not installed.
    """
    if importlib.util.find_spec("omero_embedded") is None:
        raise OpenHCSError(NOT_INSTALLED)
    command = [sys.executable, "-m", "omero_embedded.cli", "serve", "--data", str(data), *options]
    os.execve(sys.executable, command, child_environment())
