"""Where an OMERO server is, who logs in, and how its certificate is checked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import urlsplit

from openhcs_omero.errors import ConfigError, ConnectError

DEFAULT_PORT = 4064
PROBE_TIMEOUT = 2.0  # seconds
ANSWER = 20  # seconds that a server may take to open a session, to end it, or to confirm that it is alive
AGENT = "openhcs_omero"


class ServerDown(ConnectError):
    """The server is down or not up yet."""


class NoSession(ConnectError):
    """There is no stored session, or none is alive."""


@dataclass(frozen=True)
class Server:
    """Where an OMERO server is and who logs in.

    Parameters
    ----------
    host
        Name or address; for websockets a URL like ``wss://omero.example.org/omero-ws``.
    port
        Port of the encrypted router, 4064 by default.
    user
        OMERO user name; "" means the user of the last `openhcs-omero login` to the host.
    secure
        False sends data unencrypted after the login, which is about 1.5 times as fast.
    data_dir
        Path of the server's data folder on this machine (it contains ``Pixels/``), to read pixels without the network;
        None if this machine does not see it.
    ca
        PEM file with the server's own certificate, or with the authorities one of which signed it; see identity.py.
    """

    host: str = "localhost"
    port: int = DEFAULT_PORT
    user: str = ""
    secure: bool = True
    data_dir: str | None = None
    ca: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.port, int) or not 0 < self.port < 65536:
            raise ConfigError(f"omero: port must be a number from 1 to 65535, not {self.port!r}")
        if not self.host:
            raise ConfigError("omero: host is empty; name the OMERO server's machine there or in OMERO_HOST")

    @classmethod
    def from_config(cls, config: Mapping[str, Any] | None = None) -> Server:
        """Create a server from the `omero:` block of the configuration.

        What the block leaves out comes from OMERO_HOST, OMERO_PORT, OMERO_USER and OMERO_CA.

        Raises
        ------
        ConfigError
            If a key is unknown or the port is not a number.
        """
        given = {key: value for key, value in (config or {}).items() if value is not None}
        known = [f.name for f in fields(cls)]
        for key in given:
            if key not in known:
                raise ConfigError(f"omero: {key!r} is unknown; known are {', '.join(known)}")
        for key in ("host", "port", "user", "ca"):
            value = os.environ.get(f"OMERO_{key.upper()}")
            if value and key not in given:
                given[key] = value
        if isinstance(given.get("port"), str):
            try:
                given["port"] = int(given["port"])
            except ValueError:
                raise ConfigError(f"omero: port must be a number, not {given['port']!r}") from None
        if given.get("ca"):
            given["ca"] = os.path.abspath(os.path.expanduser(given["ca"]))
        return cls(**given)

    @property
    def address(self) -> str:
        return self.host if "://" in self.host else f"{self.host}:{self.port}"

    @property
    def host_and_port(self) -> str:
        """The address as a command takes it; with the port only if it is not OMERO's usual one."""
        return self.host if "://" in self.host or self.port == DEFAULT_PORT else f"{self.host}:{self.port}"

    @property
    def socket_address(self) -> tuple[str, int]:
        """Host name and port, even if `host` is a URL."""
        if "://" not in self.host:
            return self.host, self.port
        url = urlsplit(self.host)
        return url.hostname or "", url.port or {"ws": 80, "wss": 443}.get(url.scheme, self.port)

    @property
    def endpoint(self) -> str:
        """The router's Ice endpoint."""
        host, port = self.socket_address
        if "://" not in self.host:
            return f"ssl -h {host} -p {port}"
        url = urlsplit(self.host)
        return f"{url.scheme} -h {host} -p {port}" + (f" -r {url.path}" if url.path else "")

    @property
    def who(self) -> str:
        """User and address in the form that `openhcs-omero login` takes."""
        return f"{self.user or '<user>'}@{self.host_and_port}"


def hangs(address: str) -> ServerDown:
    return ServerDown(f"{address} does not answer: it hangs, or is still starting")
