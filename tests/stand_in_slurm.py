"""A stand-in for Slurm that counts submissions. It runs the first jobs, and leaves the others in the queue."""

import json
import sys
from pathlib import Path

PROGRAM = """#!{python} -S
import fcntl, json, os, subprocess, sys, time
from pathlib import Path

folder, name, words = Path({folder!r}), Path(sys.argv[0]).name, sys.argv[1:]


def states():
    return {{path.suffix[1:]: path.read_text() for path in folder.glob("state.*")}}


def option(start):
    return next((word[len(start):] for word in words if word.startswith(start)), None)


if name == "sbatch":
    with (folder / "submissions").open("a+") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        log.seek(0)
        number = len(log.readlines()) + 1
        queued = sum(state in ("PENDING", "RUNNING") for state in states().values()) + 1
        minutes = words[words.index("-t") + 1] if "-t" in words else None
        log.write(json.dumps({{"at": time.time(), "queued": queued, "minutes": minutes}}) + "\\n")
        (folder / f"state.{{number}}").write_text("PENDING")
    print(number)
    if number <= int((folder / "runs").read_text()):
        program = [sys.executable, "-S", str(folder / "job"), str(number), option("--wrap=")]
        subprocess.Popen(program, start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                         stderr=(folder / f"log.{{number}}").open("w"))
elif name == "job":
    number, command = words
    state = folder / f"state.{{number}}"
    state.write_text("RUNNING")
    status = subprocess.run(["sh", "-c", command], env={{**os.environ, "SLURM_JOB_ID": number}}).returncode
    state.write_text("FAILED" if status else "COMPLETED")
elif name == "squeue":
    for number, state in states().items():
        print(f"{{number}}|{{state}}")
elif name == "scontrol":
    print("MinJobAge = 600 sec")
elif name == "srun":
    while words and words[0].startswith("-"):
        words.pop(0)
    os.execvp(words[0], words)
"""


class StandIn:
    """The programs, in a folder of their own for PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        text = PROGRAM.format(python=sys.executable, folder=str(folder))
        for name in ("sbatch", "job", "squeue", "srun", "scancel", "sacctmgr", "scontrol", "sinfo"):
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        (folder / "submissions").touch()

    def run(self, first: int) -> None:
        """Run the jobs up to a number; the others stay in the queue."""
        (self.folder / "runs").write_text(str(first))

    @property
    def submissions(self) -> list[dict]:
        """What was submitted: when, how many jobs were in the queue then, and the minutes that a job may take."""
        return [json.loads(line) for line in (self.folder / "submissions").read_text().splitlines()]
