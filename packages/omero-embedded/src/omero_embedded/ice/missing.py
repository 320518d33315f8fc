"""What OMERO has and this server has not: the one list, for the errors' tests and for the documentation."""

from __future__ import annotations

import omero.cmd

from omero_embedded.errors import PARTS
from omero_embedded.ice.dispatch import operations
from omero_embedded.ice.factory import offered
from omero_embedded.model import slice_tables
from omero_embedded.requests.work import WORK
from omero_embedded.services.registry import MODULES, service_class

# Requests that OMERO has no answer to either: bases of others, and what its own processes send each other.
NO_REQUESTS = {
    "omero.cmd.FindHandles",
    "omero.cmd.GraphModify2",
    "omero.cmd.GraphQuery",
    "omero.cmd.ListRequests",
    "omero.cmd.PopStatus",
    "omero.cmd.Timing",
    "omero.cmd.Request",
}
# What omero.api.StatefulServiceInterface has: of a service that is missing itself, nobody asks for these.
COMMON = set(operations("::omero::api::StatefulServiceInterface"))


def calls() -> dict[str, list[str]]:
    """The operations that are refused, by interface."""
    found = {}
    further = {interface[2:].replace("::", "."): interface for interface in MODULES}  # such as Table
    for name, interface in sorted({**offered(), **further}.items()):
        service = service_class(interface)
        common = set() if service else COMMON
        if missing := sorted(one for one in set(operations(interface)) - common if not hasattr(service, one)):
            found[name] = missing
    return found


def requests() -> list[str]:
    """The requests that are refused."""
    found = {
        name[2:].replace("::", ".") for name in slice_tables.tables().classes if name not in WORK and _is_request(name)
    }
    return sorted(found - NO_REQUESTS)


def _is_request(name: str) -> bool:
    base = slice_tables.tables().classes[name].base if name in slice_tables.tables().classes else None
    return base == omero.cmd.Request.ice_staticId() or (base is not None and _is_request(base))


def markdown() -> str:
    """The list, for the documentation."""
    lines = ["| Service | Refused calls |", "|---|---|"]
    lines += [f"| `{interface}` | {', '.join(f'`{name}`' for name in names)} |" for interface, names in calls().items()]
    lines += [f"| requests | {', '.join(f'`{name}`' for name in requests())} |"]
    parts = ["", "Of what is there, these parts are missing:", ""]
    return "\n".join([*lines, *parts, *(f"* `{name}`: {reason}." for name, reason in PARTS.items())]) + "\n"
