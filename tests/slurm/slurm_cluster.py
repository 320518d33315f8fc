"""A real Slurm on this machine only: munged, slurmctld and slurmd from Debian's packages, without systemd."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

CONFIG = Path("/etc/slurm/slurm.conf")  # the only place where srun looks inside a job
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel")

MARK = "# written for the tests of openhcs_omero"
# Without cgroups, memory is counted every second and a job over its limit is killed. A job sees only its own
# CPUs. Priorities need no history.
TEMPLATE = (
    f"{MARK}\n"
    """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={d_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=1,sched_interval=5,sched_min_interval=100000
SchedulerType=sched/builtin
PriorityType=priority/basic
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill,UsePss
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MinJobAge=600
KillWait=2
ReturnToService=2
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
)


class Unavailable(Exception):
    """The reason, in one sentence, why Slurm can't run on this machine."""


class SlurmCluster:
    """A Slurm cluster of one node, with its own ports and folder.

    Parameters
    ----------
    folder
        For sockets, state, spool and logs; must be new.
    cpus
        Number of CPUs that the node reports; more than exist lets jobs run side by side on a small machine.
    memory
        Memory of the node in MB.
    """

    def __init__(self, folder: Path, cpus: int = 4, memory: int = 8000) -> None:
        self.folder, self.host, self._cpus, self._memory = folder, socket.gethostname().split(".")[0], cpus, memory
        self._daemons: list[subprocess.Popen] = []
        self._restorer: subprocess.Popen | None = None  # restores the machine's own configuration

    def start(self) -> None:
        """Start the daemons; returns when the node takes jobs.

        Raises
        ------
        Unavailable
            If Slurm isn't installed, this process isn't root, or a Slurm is already running here.
        """
        self._check()
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        self._configure()
        try:
            self._start_munge()
            for daemon in (["slurmctld", "-D", "-i"], ["slurmd", "-D"]):
                self._spawn(*daemon)
            self.wait(lambda: self.nodes() == "idle", 60, "the node to be idle")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Cancel all jobs, stop the daemons and restore the machine's own configuration."""
        try:
            if len(self._daemons) == 3:
                self.run("scancel", "--user", "root", check=False, timeout=30)
                self.wait(lambda: not self.states() or self._dead(), 30, "the jobs to end")
        finally:
            for process in reversed(self._daemons):
                _stop(process)
            self._daemons.clear()
            if self._restorer is not None:
                self._restorer.communicate()
                self._restorer = None

    def run(self, *command: str | Path, check: bool = True, timeout: float = 60, **options) -> str:
        """Run a Slurm command; return its output."""
        words = [str(part) for part in command]
        done = subprocess.run(words, capture_output=True, text=True, timeout=timeout, **options)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(words)} failed: {done.stderr or done.stdout}")
        return done.stdout

    def nodes(self) -> str:
        """The node's state."""
        return self.run("sinfo", "--noheader", "--format=%t", check=False).strip()

    def states(self, *, of_all: bool = False) -> dict[str, str]:
        """Map job and array task ids to states (PENDING, RUNNING, ...); with `of_all` also those that have ended."""
        shown = ["--states=all"] if of_all else []
        lines = self.run("squeue", "--noheader", "--array", "--format=%i %T", *shown, check=False).splitlines()
        return dict(line.split() for line in lines)

    def wait(self, condition: Callable[[], object], seconds: float, what: str) -> None:
        """Poll until `condition` holds, as Slurm does not announce state changes.

        Raises
        ------
        AssertionError
            After `seconds`, with the end of the logs.
        """
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"waited {seconds} s for {what}\n{self._logs()}")
            time.sleep(0.2)

    def _check(self) -> None:
        if os.geteuid() != 0:
            raise Unavailable("Slurm's daemons are started by root alone")
        if missing := [program for program in PROGRAMS if shutil.which(program, path=_path()) is None]:
            raise Unavailable(f"there is no {', '.join(missing)}: make install-slurm (Debian and Ubuntu)")
        for process in psutil.process_iter(["name", "status"]):
            if process.info["name"] in ("slurmctld", "slurmd") and process.info["status"] != psutil.STATUS_ZOMBIE:
                raise Unavailable(f"a {process.info['name']} runs on this machine already, and there can be one only")

    def _configure(self) -> None:
        ctld_port, d_port = _free_ports(2)
        CONFIG.parent.mkdir(exist_ok=True)
        kept = self.folder / "slurm.conf.kept"
        if CONFIG.exists() and not CONFIG.read_text().startswith(MARK):  # otherwise a crashed run left it behind
            shutil.copy2(CONFIG, kept)
        # a separate process outlives a killed test: it waits for this process's end of the pipe to close
        restore = f"trap '' INT TERM; cat; mv '{kept}' {CONFIG} 2>/dev/null || rm -f {CONFIG}"
        self._restorer = subprocess.Popen(["sh", "-c", restore], stdin=subprocess.PIPE, start_new_session=True)
        CONFIG.write_text(
            TEMPLATE.format(
                host=self.host,
                folder=self.folder,
                cpus=self._cpus,
                memory=self._memory,
                ctld_port=ctld_port,
                d_port=d_port,
            )
        )

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(os.urandom(128))
        # --force: munged warns about folders that others may write to, as temporary folders are
        self._spawn(
            "munged",
            "--foreground",
            "--force",
            f"--socket={self.folder}/munge.socket",
            f"--key-file={key}",
            f"--pid-file={self.folder}/munged.pid",
            f"--log-file={self.folder}/munged.log",
            f"--seed-file={self.folder}/munged.seed",
        )
        self.wait((self.folder / "munge.socket").exists, 20, "munged")

    def _spawn(self, program: str, *arguments: str) -> None:
        env = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "OMERO_"))}
        with (self.folder / f"{program}.out").open("wb") as out:
            self._daemons.append(
                subprocess.Popen(
                    [program, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    env={**env, "PATH": _path()},
                    start_new_session=True,
                    preexec_fn=_end_with_parent,
                )
            )

    def _dead(self) -> bool:
        return any(process.poll() is not None for process in self._daemons)

    def _logs(self) -> str:
        return "\n".join(
            f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-12:])
            for path in sorted([*self.folder.glob("*.log"), *self.folder.glob("*.out")])
        )


def _end_with_parent() -> None:
    """Have the kernel end this process when the test process ends, however that happens."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _path() -> str:
    return os.environ["PATH"] + os.pathsep + "/usr/sbin"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _stop(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)
