"""A request that runs in the background, as clients follow it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import Ice
import omero
import omero.cmd

from omero_embedded.ice.calls import over_connection
from omero_embedded.requests.work import Failed

log = logging.getLogger(__name__)


class Handle(omero.cmd.Handle):
    """A submitted request: its status, its response once there is one, and the callbacks that wait for it."""

    def __init__(self, request: omero.cmd.Request):
        self._request = request
        self._callbacks: dict[Ice.Identity, omero.cmd.CmdCallbackPrx] = {}
        self._lock = threading.Lock()
        self._response: omero.cmd.Response | None = None
        self._status = omero.cmd.Status(
            category=request.ice_id(),
            name="",
            flags=[],
            parameters={},
            currentStep=0,
            steps=1,
            startTime=int(time.time() * 1000),
            stepStartTimes=[],
            stepStopTimes=[],
            stopTime=0,
        )
        self.forget: Callable[[], None] = lambda: None  # set by the session factory: takes the servant away

    def start(self, work: Callable[[], omero.cmd.Response]) -> None:
        """Do the work in a thread of its own."""
        threading.Thread(target=self._run, args=(work,), name="request", daemon=True).start()

    def _run(self, work: Callable[[], omero.cmd.Response]) -> None:
        try:
            response = work()
        except Failed as failed:
            response = failed.answer
            self._status.flags = [omero.cmd.State.CANCELLED, omero.cmd.State.FAILURE]
        self._status.currentStep, self._status.stopTime = 1, int(time.time() * 1000)
        with self._lock:
            self._response = response
            waiting = list(self._callbacks.values())
        for callback in waiting:
            callback.begin_finished(response, self._status, _response=lambda: None, _ex=_not_reached)

    def addCallback(self, callback, current=None):
        with self._lock:
            self._callbacks[callback.ice_getIdentity()] = omero.cmd.CmdCallbackPrx.uncheckedCast(
                over_connection(callback, current)
            )

    def removeCallback(self, callback, current=None):
        with self._lock:
            self._callbacks.pop(callback.ice_getIdentity(), None)

    def getRequest(self, current=None):
        return self._request

    def getResponse(self, current=None):
        return self._response

    def getStatus(self, current=None):
        return self._status

    def cancel(self, current=None):
        return False  # a running request is never interrupted

    def close(self, current=None):
        self.forget()


def _not_reached(broken: Exception) -> None:
    log.debug("A client could not be told that its request is done: %s", broken)
