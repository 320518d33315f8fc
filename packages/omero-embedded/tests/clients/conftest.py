"""The `omero` command line, each command a process of its own, for a user who has logged in by it."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

# what the `omero` script runs; the script itself refuses to be root
RUN = "import sys, omero.cli; sys.exit(omero.cli.argv(['omero'] + sys.argv[1:]))"


@dataclass(frozen=True)
class Said:
    """What a command said and how it ended."""

    status: int
    out: str
    err: str

    def ids(self, kind: str) -> list[int]:
        return [int(found) for found in re.findall(rf"\b{kind}:(\d+)", self.out)]

    def rows(self) -> list[list[str]]:
        """The lines of a table in the style csv, its heading left out."""
        return list(csv.reader(io.StringIO(self.out)))[1:]


@pytest.fixture
def run(conn, omero_server, tmp_path_factory) -> Callable[..., Said]:
    """`run("hql", ...)`: the command of a user who is logged in; it must end with this status (None: a failure)."""
    home = tmp_path_factory.mktemp("home")
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("OMERO_")},
        "HOME": str(home),
        "OMERO_USERDIR": str(home),
    }

    def run(*words: object, status: int | None = 0, **secrets: str) -> Said:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", RUN, *map(str, words)],
            cwd=home,
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env={**environment, **secrets},
        )
        said = Said(done.returncode, done.stdout, done.stderr)
        assert (said.status == status) if status is not None else said.status, said
        return said

    where = ("-s", omero_server.host, "-p", omero_server.port, "-u", conn.getUser().getName())
    run("login", *where, status=None, OMERO_PASSWORD="wrong")
    run("login", *where, OMERO_PASSWORD="pw")
    return run
