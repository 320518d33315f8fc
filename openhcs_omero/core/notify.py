"""One message at the end of a run, to channels such as mail, Slack or Teams, through apprise.

The configuration names the channels. Their addresses hold secrets, so they come from the environment alone: that of the
channel `slack` is in OPENHCS_OMERO_NOTIFY_SLACK, in the form that apprise documents (https://appriseit.com/services).
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from openhcs_omero import password
from openhcs_omero.core.status import RunStatus
from openhcs_omero.errors import ConfigError

PREFIX = "OPENHCS_OMERO_NOTIFY_"
NAMED = 3  # problems in a message


class Channels:
    """The channels of a configuration.

    Parameters
    ----------
    names
        Their names in the configuration.

    Raises
    ------
    ConfigError
        If apprise is not installed, or the environment has no valid address for a channel. No message has an address.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._services: Mapping[str, Any] = {name: _service(name) for name in names}

    def send(self, title: str, text: str) -> list[str]:
        """Send a message to each channel; returns one sentence about each that did not take it."""
        return [
            f"The message about the end of the run could not be sent to the channel {name}: check the address in "
            f"{variable_of(name)}, and that it can be reached from here"
            for name, service in self._services.items()
            if not service.notify(title=title, body=text)
        ]


def variable_of(name: str) -> str:
    """The environment variable with the address of a channel."""
    return PREFIX + name.upper()


def message_of(status: RunStatus, succeeded: bool, page: Path) -> tuple[str, str]:
    """The title and the text of the message about a run."""
    problems = [f"Plate {plate.label}: {plate.problem}" for plate in status.plates if plate.problem]
    failed = status.total("failed")
    good = succeeded and not failed and not problems
    plates = f"{len(status.plates)} plate{'' if len(status.plates) == 1 else 's'}"
    lines = [
        f"{status.headline}.",
        *problems[:NAMED],
        *([f"and {len(problems) - NAMED} more plates with problems"] if len(problems) > NAMED else []),
        f"Page: {page} on {socket.gethostname()}",
    ]
    return f"openhcs_omero {'has processed' if good else 'failed for'} {plates}", "\n".join(lines)


def _service(name: str) -> Any:
    try:
        import apprise
    except ImportError:
        raise ConfigError(
            'notify needs apprise: install it with `pip install "openhcs-omero[notify]"`, or remove notify from the '
            "configuration"
        ) from None
    log = logging.getLogger("apprise")  # which may show addresses
    log.addHandler(logging.NullHandler())
    log.propagate = False
    address = password.read(variable_of(name))
    if not address:
        raise ConfigError(f"notify names the channel {name}, but {variable_of(name)} is not set in the environment")
    service = apprise.Apprise()
    if not service.add(address):
        raise ConfigError(
            f"notify names the channel {name}, but {variable_of(name)} is no address that apprise knows, such as "
            "mailto://... or slack://..."
        )
    return service
