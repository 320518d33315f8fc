"""Run pipelines next to OMERO for remote clients. Steps are sent by name, and no pixels cross the socket.

Each run is a separate process (Snakemake's head), and requests are queued. Messages are JSON: names are looked up in
the allowed modules, and values are passed on as parameters. Nothing is unpickled or evaluated.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import queue
import resource
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq
from zmq.auth.thread import ThreadAuthenticator

from openhcs_omero.core.orchestrator.orchestrator import PipelineError, PipelineOrchestrator
from openhcs_omero.errors import FULL, ConfigError, OpenHCSError, StepError, brief
from openhcs_omero.runtime.zmq_messages import (
    MAX_REQUEST,
    check_size,
    decode,
    encode,
    is_loopback,
    read_key,
)
from openhcs_omero.runtime.zmq_runs import Run, Runs
from openhcs_omero.version import __version__

BOX = "openhcs_omero.processing"
CLIENT_KEYS = ("wells", "output", "heatmaps", "wells_per_job")  # what clients may configure; the server sets the rest
MAX_WAITING = 100  # runs being checked or queued
MAX_WAITING_OF_CLIENT = 25
MAX_UNREAD = 4  # messages that are kept to and from a client while they are not read
SEND_BUFFER = 2**16  # bytes that the system buffers for a client in addition
HANDSHAKE = 5000  # ms until a connection that says nothing is closed
MOST_FILES = 65_536  # open files and connections
POLL = 500  # ms
CHECKED = "inproc://checked"


@dataclass(frozen=True)
class _Request:
    """A pipeline to check, and the client that gets the answer."""

    peer: bytes  # the connection
    client: bytes  # the client's public key, if the server uses keys
    message: dict[str, Any]


class ZMQExecutionServer:
    """Accept requests on a socket and run them, one after the other, in the working directory.

    One thread answers messages, a second checks the requested pipelines, and a third runs them.

    Parameters
    ----------
    host, port
        Where to listen; 0 means any free port.
    allowed
        Modules and packages whose functions may be steps, in addition to `openhcs_omero.processing`.
    config
        The server's part of the configuration: `omero`, `results`, `cores`, `profile`.
    keys
        Folder created by `make_keys`. None means no encryption, which is allowed only on loopback.

    Raises
    ------
    OpenHCSError
        If it can't listen there, if there are no keys, or if an allowed module is not found.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 7777,
        allowed: Sequence[str] = (),
        config: Mapping[str, Any] | None = None,
        keys: Path | None = None,
    ) -> None:
        for module in allowed:
            if not _importable(module):
                raise ConfigError(
                    f"the module {module!r}, whose steps are to be allowed, is not found: name a module "
                    "that is installed here or lies in the working directory"
                )
        self.allowed = (BOX, *allowed)
        self._config = dict(config or {})
        self._runs = Runs()
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._checking: list[_Request] = []
        self._queue: queue.SimpleQueue[Run | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._context: zmq.Context[Any] = zmq.Context()
        self._authenticator: ThreadAuthenticator | None = None
        try:
            self._socket = self._listen(host, port, keys)
        except BaseException:
            self._context.destroy(0)
            raise

    def _listen(self, host: str, port: int, keys: Path | None) -> zmq.Socket[bytes]:
        if keys is None and not is_loopback(host):
            raise ConfigError(f"the server needs keys to listen on {host}, off this machine: `openhcs-omero zmq-keys`")
        socket = self._context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_REQUEST)
        socket.setsockopt(zmq.SNDHWM, MAX_UNREAD)
        socket.setsockopt(zmq.SNDBUF, SEND_BUFFER)
        socket.setsockopt(zmq.RCVHWM, MAX_UNREAD)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE)
        if keys is not None:
            public, secret = read_key(keys / "server.key_secret")
            self._authenticator = ThreadAuthenticator(self._context)
            self._authenticator.start()
            self._authenticator.configure_curve(domain="*", location=str(keys / "clients"))
            socket.curve_server, socket.curve_publickey, socket.curve_secretkey = True, public, secret or b""
        address = "127.0.0.1" if host == "localhost" else host
        try:
            socket.bind(f"tcp://{address}:{port or '*'}")
        except zmq.ZMQError as error:
            if self._authenticator is not None:
                self._authenticator.stop()
            raise ConfigError(f"can't listen on {host} port {port} ({error.strerror}): choose another") from None
        self.port = int(socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])
        return socket

    def serve(self) -> None:
        """Serve until `stop` is called, then cancel all runs. A run that is requested again continues."""
        worker = threading.Thread(target=self._work, name="runs", daemon=True)
        worker.start()
        checked = self._context.socket(zmq.PULL)
        checked.bind(CHECKED)
        checker = threading.Thread(target=self._check_requests, name="checks", daemon=True)
        checker.start()
        poller = zmq.Poller()
        for socket in (self._socket, checked):
            poller.register(socket, zmq.POLLIN)
        try:
            while not self._stop.is_set():
                ready = dict(poller.poll(POLL))
                if checked in ready:
                    self._send(*checked.recv_multipart())
                if self._socket in ready:
                    self._answer(self._socket.recv_multipart(copy=False))
        finally:
            self._requests.put(None)
            self._queue.put(None)
            for run in self._runs.all():
                run.cancel()
            worker.join()
            checker.join()
            checked.close(0)
            self._socket.close(0)
            if self._authenticator is not None:
                self._authenticator.stop()
            self._context.destroy(0)

    def stop(self) -> None:
        self._stop.set()

    # ---- messages

    def _answer(self, frames: list[zmq.Frame]) -> None:
        """Answer a message, even an invalid one."""
        peer, number = frames[0].bytes, None
        try:
            if len(frames) != 2:
                raise OpenHCSError("a message has one frame")
            message = decode(frames[1].bytes)
            number = message.get("id")
            check_size(message)
            if message.get("do") == "execute":
                self._accept(_Request(peer, _client(frames[1]) or peer, message))
                return
            answer = self._do(message)
        except Exception as error:
            answer = {"error": _sentence(error)}
        self._send(peer, encode({"id": number, **answer}))

    def _send(self, peer: bytes, answer: bytes) -> None:
        with contextlib.suppress(zmq.ZMQError):  # the client is gone
            self._socket.send_multipart([peer, answer], zmq.DONTWAIT)

    def _do(self, message: dict[str, Any]) -> dict[str, Any]:
        known: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "events": self._events,
            "result": self._result,
            "cancel": self._cancelled,
            "status": self._status,
            "ping": lambda _: {"pong": __version__},
        }
        if message.get("do") not in known:
            raise OpenHCSError(
                f"the message asks to do {brief(message.get('do'))}; known are execute, {', '.join(known)}"
            )
        return known[message["do"]](message)

    def _accept(self, request: _Request) -> None:
        """Pass a pipeline on to be checked, if the queue has room; the client gets the answer after the check."""
        waiting = [request.client for request in list(self._checking)]
        waiting += [run.client for run in self._runs.all() if run.state == "queued"]
        if len(waiting) >= MAX_WAITING:
            raise OpenHCSError(
                f"{len(waiting)} runs wait here already, and the server queues no more: try again when "
                "some of them have ended"
            )
        if waiting.count(request.client) >= MAX_WAITING_OF_CLIENT:
            raise OpenHCSError(
                f"{MAX_WAITING_OF_CLIENT} runs of this client wait here already: try again when some of them have ended"
            )
        self._checking.append(request)
        self._requests.put(request)

    def _check_requests(self) -> None:
        """Check requests one after the other, and queue the runs; the message thread sends the answers."""
        answers = self._context.socket(zmq.PUSH)
        answers.setsockopt(zmq.LINGER, 0)
        answers.connect(CHECKED)
        with answers:
            while (request := self._requests.get()) is not None and not self._stop.is_set():
                try:
                    answer = self._execute(request)
                except Exception as error:
                    answer = {"error": _sentence(error)}
                self._checking.remove(request)
                answers.send_multipart([request.peer, encode({"id": request.message.get("id"), **answer})])

    def _execute(self, request: _Request) -> dict[str, Any]:
        message = request.message
        run_id, plate_id, steps, given = (message.get(key) for key in ("run", "plate_id", "steps", "config"))
        if not isinstance(run_id, str) or not run_id.isalnum() or len(run_id) > 64:
            raise OpenHCSError(f"run is {brief(run_id)}, but it must be text of letters and digits")
        if run_id in self._runs:  # the request was sent twice
            return self._runs[run_id].describe()
        if not isinstance(plate_id, int) or isinstance(plate_id, bool):
            raise OpenHCSError(f"plate_id is {brief(plate_id)}, but it must be OMERO's id of a plate")
        if not isinstance(steps, list) or not isinstance(given, dict):
            raise OpenHCSError("steps must be a list, and config a mapping of keys to values")
        for key in given:
            if key not in CLIENT_KEYS:
                raise ConfigError(
                    f"global_config has {brief(key)}, which is not for clients to say: theirs are "
                    f"{', '.join(CLIENT_KEYS)}"
                )
        allowed = [self._allowed(step) for step in steps]
        run = Run(
            run_id, plate_id, PipelineOrchestrator([plate_id], allowed, {**self._config, **given}), request.client
        )
        run.orchestrator.progress = run.note
        self._runs.add(run)
        self._queue.put(run)
        return run.describe()

    def _allowed(self, step: Any) -> Mapping[str, Any]:
        """The step, if it names a function in an allowed module."""
        call = step.get("call") if isinstance(step, dict) else None
        if not isinstance(call, str):
            raise StepError(f"a step is {brief(step)}, but it must be a mapping with call: module:function")
        module = call.partition(":")[0]
        if not any(module == name or module.startswith(f"{name}.") for name in self.allowed):
            raise StepError(
                f"the step {call[:100]} is not allowed here: the server allows functions of "
                f"{', '.join(self.allowed)}; its operator allows more by --allow"
            )
        return step

    def _events(self, message: dict[str, Any]) -> dict[str, Any]:
        run = self._runs[message.get("run")]
        state = run.state  # read before the events: a client that sees an end state then has all events, or asks again
        after = message.get("after") or 0
        if not isinstance(after, int) or isinstance(after, bool) or after < 0:
            raise OpenHCSError(f"after is {brief(after)}, but it must be the number of an event, from 0")
        events, following, more = run.events.after(after)
        return {**run.describe(), "state": state, "events": events, "next": following, "more": more}

    def _result(self, message: dict[str, Any]) -> dict[str, Any]:
        run = self._runs[message.get("run")]
        return {**run.describe(), "failed": run.failed, "result": run.result}

    def _cancelled(self, message: dict[str, Any]) -> dict[str, Any]:
        run = self._runs[message.get("run")]
        run.cancel()
        return run.describe()

    def _status(self, message: dict[str, Any]) -> dict[str, Any]:
        if message.get("run") is not None:
            return self._runs[message["run"]].describe()
        return {
            "version": __version__,
            "allowed": list(self.allowed),
            "runs": [run.describe() for run in self._runs.all()],
        }

    # ---- runs

    def _work(self) -> None:
        """Run the queued runs, one after the other."""
        while (run := self._queue.get()) is not None:
            if run.state != "queued":
                continue
            run.state = "running"
            try:
                run.orchestrator.unlock()  # no other run is in this folder, see `run_server`
                run.result = _tell(run.orchestrator.run()[run.plate_id])
                run.state = "done"
            except PipelineError as error:
                run.error = str(error)
                run.failed = [[plate, well, reason] for (plate, well), reason in error.wells.items()]
                run.state = "cancelled" if run.orchestrator.cancelled else "failed"
            except Exception as error:  # whatever happens in one run, the next one starts
                run.error, run.state = _sentence(error, "the run failed"), "failed"
            self._runs.forget()


def _client(frame: zmq.Frame) -> bytes:
    """The public key of the client that sent a message; empty if the server has no keys."""
    try:
        return str(frame.get("User-Id")).encode()
    except zmq.ZMQError:
        return b""


def _sentence(error: Exception, what: str = "the message was not understood") -> str:
    """One sentence for the client about what went wrong."""
    if isinstance(error, OpenHCSError):
        return str(error)
    if isinstance(error, OSError) and error.errno in FULL:
        return (
            f"the disk of the server is full ({error.filename or Path.cwd()}): make room there, and execute the "
            "pipeline again"
        )
    return f"{what} ({type(error).__name__}: {str(error)[:200]})"


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _tell(result: Any) -> dict[str, Any]:
    """A plate's results in a form fit for JSON, with tables as CSV."""
    tables = {}
    for name in result.tables:
        tables[name] = (result.folder / f"{name}.csv").read_text()
    return {"derived_plate": result.derived_plate, "annotations": result.annotations, "tables": tables}


def _allow_many_files() -> None:
    """Open as many files as the system lets this process, so that silent clients don't use up all of them."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if most == resource.RLIM_INFINITY else min(MOST_FILES, most)
    if now != resource.RLIM_INFINITY and now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def run_server(
    folder: Path, host: str, port: int, allowed: Sequence[str], config: Mapping[str, Any], keys: Path | None
) -> None:
    """Serve until SIGTERM or Ctrl-C, in a folder that only one server can use at a time.

    Parameters
    ----------
    folder
        The working directory; it is created if it does not exist.
    host, port, allowed, config, keys
        As for `ZMQExecutionServer`.

    Raises
    ------
    OpenHCSError
        If another server uses the folder, no connection to OMERO is possible, or the server can't start.
    """
    from openhcs_omero.omero.connection import connect, look_after
    from openhcs_omero.omero.server import Server

    if keys is not None:
        read_key(keys / "server.key_secret")  # fail before anything is started
    _allow_many_files()
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / "zmq-server.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ConfigError(f"another server works in {folder}: name another folder") from None
    os.chdir(folder)
    sys.path.insert(0, str(Path.cwd()))
    omero = Server.from_config(config.get("omero"))
    connect(omero)  # reports problems now, and keeps the password for the runs
    look_after(omero, end=False)
    server = ZMQExecutionServer(host, port, allowed, config, keys)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    how = "unencrypted, for this machine alone" if keys is None else f"encrypted, with the keys in {keys}"
    print(f"execution server ready on {host} port {server.port}, {how}", flush=True)
    server.serve()
