"""Only the head process has the password; jobs join its session, and have one as long as one can be had."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest
from slurm_project import Project

from openhcs_omero.core.well_file import well_file

pytestmark = pytest.mark.slurm

WELLS = ["A01", "B04"]


def processes() -> dict[int, tuple[bytes, bytes]]:
    """Command line and environment (at their start) of all processes, by id."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found[int(folder.name)] = ((folder / "cmdline").read_bytes(), (folder / "environ").read_bytes())
        except (FileNotFoundError, ProcessLookupError, PermissionError):  # it has ended, or is process 1
            continue
    return found


def files_with(text: bytes, *folders: Path) -> list[Path]:
    """Files below the folders that contain the text."""
    return [path for folder in folders for path in folder.rglob("*") if path.is_file() and text in path.read_bytes()]


def stored_sessions(project: Project) -> list[Path]:
    """Session files in the store of the omero command line."""
    store = Path(project.environment["OMERO_SESSIONDIR"])
    return [path for path in store.rglob("*") if path.is_file() and not path.name.startswith("._")]


def test_the_password_is_nowhere(slurm, project, omero, undisturbed):
    """It is not in a command line, a job's environment or script, Slurm's state, a log, .snakemake or the results.

    The same search finds the user's name, which shows that it would find the password.
    Then an administrator closes the head's session in the middle of the run, and the head opens another one.
    """
    before = omero.sessions()
    own = project("secret", WELLS, gated=True, per_job=1)
    head = own.start("--slurm-keep-successful-logs", "--verbose")
    own.wait(lambda: len(own.begun()) == 2, "both wells in the middle of a step")
    password, user = omero.password.encode(), b"OMERO_USER=root"

    running = processes()
    jobs = [pid for pid, (_, environment) in running.items() if b"SLURM_JOB_ID=" in environment]
    assert {pid for _, pid in own.begun()} <= set(jobs)
    assert all(user in running[pid][1] for _, pid in own.begun()), "jobs have the head's environment"
    assert [pid for pid, (line, _) in running.items() if password in line] == []
    assert [pid for pid, (_, environment) in running.items() if password in environment] == []

    for job in slurm.states():
        script = own.folder / f"script-{job}"
        slurm.run("scontrol", "write", "batch_script", job, script)
        assert b"snakemake" in script.read_bytes()
    assert password.decode() not in slurm.run("scontrol", "show", "job", "--details")
    assert files_with(user, slurm.folder), "Slurm keeps the jobs' environments in its folder"
    assert files_with(password, slurm.folder) == []

    sessions = stored_sessions(own)
    assert len(sessions) == 1
    assert stat.S_IMODE(sessions[0].stat().st_mode) == 0o600
    assert not any(sessions[0].name.encode() in line for line, _ in running.values()), "its key is no argument"

    end_session(omero, sessions[0].name)
    own.wait(lambda: stored_sessions(own) and stored_sessions(own) != sessions, "another session")
    assert own.finish(head) == 0, own.said()
    assert own.derived() == {well: undisturbed[well] for well in WELLS}
    assert files_with(WELLS[1].encode(), own.folder / ".snakemake"), "the logs were kept"
    assert files_with(password, own.folder, slurm.folder) == []
    assert stored_sessions(own) == [], "the head's session is over"
    assert omero.sessions() == before


@pytest.mark.slow
def test_a_joined_session(slurm, project, omero, undisturbed):
    """The head process joins the session of `omero login` and leaves it open; if it is lost, one sentence says so."""
    own = project("joined", WELLS[:1], gated=True)
    joined = omero_login(own)
    own.run(password=False)
    assert own.derived() == {WELLS[0]: undisturbed[WELLS[0]]}
    assert stored_sessions(own) == [joined]

    well_file(own.results, WELLS[0]).unlink()
    own.close_gate()
    head = own.start("--retries", "0", password=False)
    own.wait(lambda: len(own.begun()) == 1, "the well in the middle of a step")
    end_session(omero, joined.name)
    sentence = (
        f"error: the stored session of root@127.0.0.1:{omero.port} has expired: "
        f"run `openhcs-omero login root@127.0.0.1:{omero.port}`, or set OMERO_PASSWORD"
    )
    own.wait(lambda: sentence in own.said(), "the head to say what is wrong")
    assert own.finish(head) == 1
    assert "Traceback" not in own.said()


def omero_login(project: Project) -> Path:
    """Log in as `omero login` does, whose program refuses to run as root as these tests do; return the session file."""
    program = 'import sys; from omero.cli import argv; sys.exit(argv(["omero", *sys.argv[1:]]))'
    subprocess.run(
        [sys.executable, "-c", program, "login", f"root@127.0.0.1:{project.omero.port}"],
        check=True,
        env={**project.environment, "OMERO_PASSWORD": project.omero.password},
        capture_output=True,
    )
    (session,) = stored_sessions(project)
    return session


def end_session(omero, key: str) -> None:
    """Close a session on the server, as an administrator can."""
    from omero.model import SessionI
    from omero.rtypes import rstring

    conn = omero.login()
    try:
        session = SessionI()
        session.uuid = rstring(key)
        while conn.c.sf.getSessionService().closeSession(session) > 0:
            pass
    finally:
        conn.close()
