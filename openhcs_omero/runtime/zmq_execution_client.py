"""Client of an execution server (zmq_execution_server.py): requests pipeline runs and follows them."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import zmq

from openhcs_omero.core.orchestrator.orchestrator import PipelineError, PlateResult, read_table
from openhcs_omero.core.steps.function_step import FunctionStep, StepLike, configured
from openhcs_omero.errors import ConnectError, OpenHCSError
from openhcs_omero.runtime.zmq_messages import (
    END_STATES,
    KEYS,
    MAX_REQUEST,
    PORT,
    decode,
    encode,
    is_loopback,
    read_key,
)

PAUSE = 0.2  # seconds between two requests for events


class ZMQExecutionClient:
    """A client of one execution server, for use in one thread.

    Parameters
    ----------
    host, port
        Where the server listens.
    keys
        Folder with `server.key` and `<client>.key_secret`, created by `openhcs-omero zmq-keys`. For a server on another
        machine the default is ``~/.openhcs-omero-keys``. On the same machine no keys are needed if the server has none.
    client
        The name that the keys were created for.
    timeout
        Seconds to wait for an answer.
    """

    def __init__(
        self,
        host: str = "localhost",
        port: int = PORT,
        keys: Path | str | None = None,
        client: str = "client",
        timeout: float = 10,
    ) -> None:
        self.address, self.timeout = f"{host}:{port}", timeout
        self._numbers = itertools.count(1)
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        if keys is not None or not is_loopback(host):
            folder = Path(keys or KEYS).expanduser()
            try:
                self._socket.curve_serverkey = read_key(folder / "server.key")[0]
                public, secret = read_key(folder / f"{client}.key_secret")
            except ConnectError:
                self._context.destroy(0)
                raise
            self._socket.curve_publickey, self._socket.curve_secretkey = public, secret or b""
        self._socket.connect(f"tcp://{host}:{port}")

    def execute_pipeline(
        self,
        plate_id: int,
        pipeline_steps: Iterable[StepLike | FunctionStep],
        global_config: Mapping[str, Any] | None = None,
        progress: Callable[[dict[str, Any]], None] | None = None,
    ) -> PlateResult:
        """Run steps on a plate, and wait for the results.

        Parameters
        ----------
        plate_id
            OMERO's id of the plate.
        pipeline_steps
            Steps as `PipelineOrchestrator` takes them, from modules that the server has and allows. Only the names of
            their functions are sent, with the parameters.
        global_config
            `wells`, `output`, `heatmaps` and `wells_per_job`, as described in config/README.md.
        progress
            Called with each event (see core/orchestrator/events.py); a `ProgressBar` draws them.

        Raises
        ------
        PipelineError
            If wells failed (the message names them), if the run failed, or if it was cancelled.
        OpenHCSError
            If the server refuses the request. Its subclass ConnectError if no server answers; a run that has started
            goes on without its client, and `attach` follows it again.
        """
        return self.attach(self.submit(plate_id, pipeline_steps, global_config), progress)

    def submit(
        self,
        plate_id: int,
        pipeline_steps: Iterable[StepLike | FunctionStep],
        global_config: Mapping[str, Any] | None = None,
    ) -> str:
        """Queue a run and return its id; the parameters are those of `execute_pipeline`."""
        run_id = uuid.uuid4().hex
        self._ask(
            "execute", run=run_id, plate_id=plate_id, steps=configured(pipeline_steps), config=dict(global_config or {})
        )
        return run_id

    def attach(self, run_id: str, progress: Callable[[dict[str, Any]], None] | None = None) -> PlateResult:
        """Follow a run from its first event to its end and return its results; it may be another client's run."""
        seen = 0
        while True:
            answer = self._ask("events", run=run_id, after=seen)
            for event in answer["events"]:
                if progress is not None:
                    progress(event)
            seen = answer["next"]
            if answer["state"] in END_STATES and not answer["more"]:
                return self._result(self._ask("result", run=run_id))
            if not answer["events"]:
                time.sleep(PAUSE)

    def cancel(self, run_id: str) -> None:
        """Stop a run, or remove it from the queue. Finished work is kept."""
        self._ask("cancel", run=run_id)

    def status(self, run_id: str | None = None) -> dict[str, Any]:
        """The state of a run and its wells; without an id, the server's version, allowed modules and runs."""
        return self._ask("status", run=run_id)

    def ping(self) -> bool:
        """Whether the server answers."""
        try:
            return "pong" in self._ask("ping")
        except ConnectError:
            return False

    def close(self) -> None:
        self._context.destroy(0)

    def __enter__(self) -> ZMQExecutionClient:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def _ask(self, do: str, **told: Any) -> dict[str, Any]:
        number = next(self._numbers)
        try:
            message = encode({"id": number, "do": do, **told})
        except TypeError as error:
            raise OpenHCSError(f"params and configuration are numbers, text, lists and dicts: {error}") from None
        if len(message) > MAX_REQUEST:
            raise OpenHCSError(
                f"the request has {len(message)} bytes, and may have {MAX_REQUEST}: give large params "
                "to a step by a file that it reads"
            )
        self._socket.send(message)
        end = time.monotonic() + self.timeout
        while self._socket.poll(max(0, int((end - time.monotonic()) * 1000))):
            answer = decode(self._socket.recv())
            if answer.get("id") == number:  # skip answers to earlier requests that timed out
                if "error" in answer and "state" not in answer:
                    raise OpenHCSError(answer["error"])
                return answer
        raise ConnectError(
            f"no execution server answers at {self.address} within {self.timeout:g} seconds: is "
            "`openhcs-omero zmq-server` running there, and are the keys those that it knows?"
        )

    def _result(self, answer: dict[str, Any]) -> PlateResult:
        if answer["state"] != "done":
            raise PipelineError(answer["error"], {(plate, well): reason for plate, well, reason in answer["failed"]})
        result = answer["result"]
        tables = {name: read_table(text) for name, text in result["tables"].items()}
        annotations = {int(plate): names for plate, names in result["annotations"].items()}
        return PlateResult(answer["plate_id"], result["derived_plate"], tables, annotations, run_id=answer["run"])
