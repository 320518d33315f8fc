"""omero-py's generated modules, imported in the one order that works. Modules that use omero-py import this first."""

import json
import subprocess
import sys

from omero_embedded import recording

_recorded = None if "omero" in sys.modules else recording.record()

import omero.all  # noqa: E402
import omero.model  # noqa: E402

for _name in ("ImportJob", "Path"):  # the schema makes an object of every class, and these would warn on stderr
    getattr(omero.model, _name + "I").deprecations_warned.add(_name)


def type_tables() -> dict:
    """Return omero-py's type tables as `recording.record` describes them.

    A server records them while it imports omero-py. In a process that had imported omero-py before, a new interpreter
    reads them, which takes half a second.
    """
    if _recorded is not None:
        return _recorded
    done = subprocess.run([sys.executable, "-P", "-W", "ignore", recording.__file__], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"omero-py's type tables could not be read: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout)
