"""The messages between execution server and client (one JSON object each), and the keys that encrypt them.

    {"id": 1, "do": "execute", "run": <hex>, "plate_id": 7, "steps": [{"call": "module:function", ...}], "config": {}}
    {"id": 2, "do": "events", "run": <hex>, "after": 0}     events from that number on, the state of the run, and in
                                                            `next` the number to go on with
    {"id": 3, "do": "result", "run": <hex>}                 derived plate, annotations, and tables as CSV
    {"id": 4, "do": "cancel", "run": <hex>}
    {"id": 5, "do": "status"} or with "run"
    {"id": 6, "do": "ping"}

An answer has the `id` of the request, and if the request was refused also `error`, a sentence. Clients poll for events
and the server keeps no state about them, so a client that dies leaves nothing behind, and any client can ask about any
run.
"""

from __future__ import annotations

import ipaddress
import json
import os
from pathlib import Path
from typing import Any

import zmq
import zmq.auth

from openhcs_omero.errors import ConnectError, OpenHCSError

PORT = 7777
KEYS = Path("~/.openhcs-omero-keys")
MAX_REQUEST = 2**20  # bytes
MAX_VALUES = 10_000  # numbers, strings, lists and so on in a request
MAX_DEPTH = 50  # of nested lists
END_STATES = ("done", "failed", "cancelled")


def encode(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def decode(data: bytes) -> dict[str, Any]:
    """Decode a message; OpenHCSError if the bytes are not a valid one."""
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        raise OpenHCSError("the message is not JSON") from None
    if not isinstance(message, dict):
        raise OpenHCSError("the message is not a JSON object")
    return message


def check_size(message: dict[str, Any]) -> None:
    """Raise OpenHCSError if a request is too large to be checked quickly."""
    count, level = 0, [message]
    for _ in range(MAX_DEPTH):
        level = [
            part
            for value in level
            if isinstance(value, dict | list)
            for part in (value.values() if isinstance(value, dict) else value)
        ]
        count += len(level)
        if count > MAX_VALUES:
            raise OpenHCSError(
                f"the request has more than {MAX_VALUES} values: give large params to a step by a file that it reads"
            )
        if not level:
            return
    raise OpenHCSError(f"the request has lists or mappings nested more than {MAX_DEPTH} deep")


def is_loopback(host: str) -> bool:
    """Whether messages to that host stay on this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def make_keys(folder: Path, client: str) -> list[Path]:
    """Create the keys of a client, and those of the server if it has none yet.

    Parameters
    ----------
    folder
        The folder for the keys.
    client
        Name of the client.

    Returns
    -------
    list of Path
        The new files. `server.key_secret` stays with the server; a client needs `server.key` and its own
        `<client>.key_secret`. The server accepts every client that has a key in `clients/`.

    Raises
    ------
    OpenHCSError
        If that client already has keys, or if its name is not valid as the name of a file.
    """
    if not client.replace("-", "").replace("_", "").isalnum():
        raise OpenHCSError(f"the client's name {client!r} must be of letters, digits, - and _")
    clients = folder / "clients"
    clients.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.chmod(folder, 0o700)
    if (clients / f"{client}.key").exists():
        raise OpenHCSError(f"the client {client!r} has keys already, in {clients}: choose another name")
    made: list[Path] = []
    mask = os.umask(0o077)
    try:
        if not (folder / "server.key_secret").exists():
            made += map(Path, zmq.auth.create_certificates(folder, "server"))
        public, secret = map(Path, zmq.auth.create_certificates(clients, client))
        own = folder / f"{client}.key_secret"
        secret.replace(own)  # the folder of accepted clients contains only public keys
    finally:
        os.umask(mask)
    return [*made, public, own]


def read_key(file: Path) -> tuple[bytes, bytes | None]:
    """Read the public and secret key from a file; if it can't, the ConnectError says how to create them."""
    try:
        public, secret = zmq.auth.load_certificate(file)
    except (OSError, ValueError):
        raise ConnectError(
            f"{file} has no key: the messages are encrypted off this machine, make keys by "
            "`openhcs-omero zmq-keys` beside the server"
        ) from None
    return public, secret
