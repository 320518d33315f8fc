"""What every servant and service is given."""

from __future__ import annotations

from dataclasses import dataclass

from omero_embedded.files.store import Store
from omero_embedded.limits import QUERY_SECONDS
from omero_embedded.model.schema import Schema
from omero_embedded.people.accounts import Accounts
from omero_embedded.people.sessions import Sessions


@dataclass
class Kernel:
    """The data, the people, and the sessions of one running server.

    Attributes
    ----------
    store
        The data folder.
    accounts
        All users, with their groups and privileges.
    sessions
        All open sessions.
    insecure_port
        The port without TLS, for clients that switch to it after the login; 0 if there is none.
    query_seconds
        How long the queries of one call may take.
    """

    store: Store
    accounts: Accounts
    sessions: Sessions
    insecure_port: int = 0
    query_seconds: float = QUERY_SECONDS

    @property
    def schema(self) -> Schema:
        """The classes of OMERO's model and their tables."""
        return self.store.schema
