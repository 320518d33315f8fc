"""The runs of an execution server, and what it remembers of them in bounded memory."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from openhcs_omero.core.orchestrator.orchestrator import PipelineOrchestrator
from openhcs_omero.errors import OpenHCSError, brief
from openhcs_omero.runtime.zmq_messages import END_STATES

EVENTS_AT_ONCE = 500
EVENT_BYTES_AT_ONCE = 2**22
MOST_EVENT_BYTES = 2**25  # of one run; the oldest events are dropped
KEPT = 100  # runs that are remembered
MOST_KEPT_BYTES = 2**29  # of events and results of ended runs; the oldest runs are forgotten


class Events:
    """The latest events of a run, numbered from 0."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: deque[tuple[int, dict[str, Any]]] = deque()
        self._dropped = 0
        self.size = 0

    def add(self, event: dict[str, Any]) -> None:
        size = len(json.dumps(event, default=str))
        with self._lock:
            self._kept.append((size, event))
            self.size += size
            while self.size > MOST_EVENT_BYTES and len(self._kept) > 1:
                self.size -= self._kept.popleft()[0]
                self._dropped += 1

    def after(self, number: int) -> tuple[list[dict[str, Any]], int, bool]:
        """Return events from a number on, the number to ask for next, and whether there are more already."""
        with self._lock:
            start = max(number, self._dropped)
            events, total = list[dict[str, Any]](), 0
            for place in range(start - self._dropped, min(start - self._dropped + EVENTS_AT_ONCE, len(self._kept))):
                size, event = self._kept[place]
                if events and total + size > EVENT_BYTES_AT_ONCE:
                    break
                events.append(event)
                total += size
            following = start + len(events)
            more = following < self._dropped + len(self._kept)
        if 0 <= number < start:
            events.insert(0, {"event": "log", "line": f"{start - number} earlier events are no longer kept here"})
        return events, following, more


@dataclass
class Run:
    """A request, from the queue to its end."""

    run_id: str
    plate_id: int
    orchestrator: PipelineOrchestrator
    client: bytes = b""
    state: str = "queued"
    events: Events = field(default_factory=Events)
    result: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    failed: list[list[Any]] = field(default_factory=list)  # [plate, well, reason]
    counts: dict[str, int] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        return {
            "run": self.run_id,
            "plate_id": self.plate_id,
            "state": self.state,
            "wells": self.counts,
            "error": self.error,
        }

    def note(self, event: dict[str, Any]) -> None:
        self.counts = event.get("counts", self.counts)
        self.events.add({**event, "time": time.time()})

    def cancel(self) -> None:
        if self.state == "queued":
            self.state, self.error = "cancelled", "the run was canceled before it began"
        elif self.state == "running":
            self.orchestrator.cancel()

    @property
    def size(self) -> int:
        """About how many bytes of memory the run takes."""
        return self.events.size + sum(len(text) for text in self.result.get("tables", {}).values())


class Runs:
    """Queued, active and the latest ended runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: dict[str, Run] = {}

    def __contains__(self, run_id: object) -> bool:
        return run_id in self._runs

    def __getitem__(self, run_id: Any) -> Run:
        run = self._runs.get(str(run_id))
        if run is None:
            raise OpenHCSError(
                f"there is no run {brief(run_id)} here (a server that was restarted knows none, and the oldest runs "
                "are forgotten): execute the pipeline again, which does what is left to do"
            )
        return run

    def all(self) -> list[Run]:
        with self._lock:
            return list(self._runs.values())

    def add(self, run: Run) -> None:
        with self._lock:
            self._runs[run.run_id] = run
        self.forget()

    def forget(self) -> None:
        """Forget the oldest ended runs if there are too many, or if they take too much memory. The last one stays."""
        with self._lock:
            ended = [run for run in self._runs.values() if run.state in END_STATES]
            size = sum(run.size for run in ended)
            for run in ended[:-1]:
                if len(self._runs) <= KEPT and size <= MOST_KEPT_BYTES:
                    break
                size -= run.size
                del self._runs[run.run_id]
