"""The workflow as a Python call."""
from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openhcs_omero.core.config import Settings, check_config, read_config
from openhcs_omero.core.orchestrator.process import Event, Progress, WorkflowProcess
from openhcs_omero.core.orchestrator.snakefile import find_workflow
from openhcs_omero.core.orchestrator.steps import FunctionStep, StepLike, configured, import_folders
from openhcs_omero.errors import ConfigError, OpenHCSError, PlateError
from openhcs_omero.io.base import storage_registry

if TYPE_CHECKING:
    import pandas as pd

    from openhcs_omero.omero.connection import Server

__all__ = ["FunctionStep", "PipelineError", "PipelineOrchestrator", "PlateResult"]

PlatePath = int | str | Path
NAMED = 5  # wells in a sentence


class PipelineError(OpenHCSError):
    """A run that did not come to its end.

    Attributes
    ----------
    wells
        (plate, well) -> why it failed.
    """

    def __init__(self, message: str, wells: Mapping[tuple[Any, str], str] | None = None) -> None:
        super().__init__(message)
        self.wells = dict(wells or {})


@dataclass(frozen=True)
class PlateResult:
    """What a run made of a plate.

    Attributes
    ----------
    derived_plate
        OMERO's id of the plate with the processed images.
    tables
        `features` (a row a site), `wells` and `objects`.
    annotations
        By plate id: the names of the files that are attached to it.
    folder
        Where the workflow keeps its files about the plate.
    """

    plate: int
    derived_plate: int
    tables: dict[str, pd.DataFrame]
    annotations: dict[int, list[str]]
    folder: Path


@dataclass
class _Failures:
    """What failed and was not mended by trying again."""

    wells: dict[tuple[Any, str], str] = field(default_factory=dict)
    jobs: dict[tuple[Any, str], str] = field(default_factory=dict)
    error: str = ""

    def note(self, event: Event) -> None:
        if event["event"] == "error":
            self.error = self.error or event["message"]
        elif event["event"] in ("well", "job"):
            failed, name = (self.wells, event["well"]) if event["event"] == "well" else (self.jobs, event["rule"])
            failed.pop((event.get("plate"), name), None)
            if event["state"] == "failed":
                failed[event.get("plate"), name] = event["reason"]


class PipelineOrchestrator:
    """Runs steps on plates: the Snakefile that `snakemake` runs, with the executor that the configuration names.

    Parameters
    ----------
    plate_paths
        Plates: OMERO's ids or paths like ``/omero/plate_7``.
    steps
        Functions or `FunctionStep`, in order; they stand at the top level of modules that jobs can import.
    global_config
        The keys of config/README.md but `plates` and `steps`; and `cores` (CPUs for jobs on this machine; all) and
        `profile` (a Snakemake profile, which names the executor: ``"cluster"``, or a folder; this machine). What
        `omero` leaves out is taken from the backend that is registered as ``omero_local``, else from the environment.
    progress
        Called with each event (see events.py) while the run goes on.
    """

    def __init__(self, plate_paths: Iterable[PlatePath], steps: Iterable[StepLike | FunctionStep],
                 global_config: Mapping[str, Any] | None = None, progress: Progress | None = None) -> None:
        given = dict(global_config or {})
        for key in ("plates", "steps"):
            if key in given:
                raise ConfigError(f"global_config has {key!r}, which is an argument of PipelineOrchestrator of its own")
        cores, profile = given.pop("cores", None), given.pop("profile", None)
        if cores is not None and (not isinstance(cores, int) or isinstance(cores, bool) or cores < 1):
            raise ConfigError(f"global_config has cores {cores!r}, but it must be a whole number from 1 on")
        self._server = _server(given)
        described = {key: getattr(self._server, key) for key in ("host", "port", "user", "secure", "data_dir")}
        config = {**given, "omero": {key: value for key, value in described.items() if value not in (None, "")},
                  "plates": [_plate(path) for path in plate_paths], "steps": configured(steps)}
        check_config(config, find_workflow() / "workflow" / "schemas" / "config.schema.yaml")
        self.settings: Settings = read_config(config)
        self.progress = progress
        self._process = WorkflowProcess(config, cores, profile, import_folders(config["steps"]))

    def run(self) -> dict[int, PlateResult]:
        """Run to the end; plates, wells and tables that are up to date are left as they are.

        Returns
        -------
        dict
            By plate id.

        Raises
        ------
        PipelineError
            If wells failed, which it names (the others are done), or something else did.
        OpenHCSError
            If there is no connection to OMERO, or a step or the configuration is wrong; nothing has been changed then.
        """
        from openhcs_omero.omero.connection import connect, look_after

        connect(self._server)  # asks for a password where one is needed; the run joins the session
        look_after(self._server, end=False)
        failures = _Failures()
        with closing(self._process.events()) as events:
            for event in events:
                failures.note(event)
                if self.progress is not None:
                    self.progress(event)
        if self.cancelled:
            raise PipelineError("the run was cancelled; what was done is kept, and a new run goes on from there")
        if self._process.status:
            raise self._error(failures)
        return {plate: read_result(self.settings, plate) for plate in self.settings.plates}

    @property
    def cancelled(self) -> bool:
        return self._process.cancelled

    def cancel(self) -> None:
        """End the run and its jobs, from another thread."""
        self._process.cancel()

    def unlock(self) -> None:
        """Let a run go ahead where an earlier one was killed; only for who knows that no other is running here."""
        self._process.unlock()

    def _error(self, failures: _Failures) -> PipelineError:
        # of a group of wells that failed as one job of a cluster, some are done
        wells = {(plate, well): reason for (plate, well), reason in failures.wells.items()
                 if not (self.settings.folder(plate) / "processed" / f"{well}.json").exists()}
        if wells:
            named = [f"{well} of plate {plate} ({reason})" for (plate, well), reason in wells.items()]
            more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
            count = f"{len(named)} well{'s' if len(named) > 1 else ''} failed"
            return PipelineError(f"{count}: {', '.join(named[:NAMED])}{more}; the logs are in "
                                 f"{self.settings.results}/plate_*/logs", wells)
        if failures.jobs:
            (plate, rule), reason = next(iter(failures.jobs.items()))
            return PipelineError(f"{rule} of plate {plate} failed: {reason}")
        status = self._process.status or 0
        silent = f"the run was killed by signal {-status}" if status < 0 else "the run ended without a word"
        return PipelineError(f"{failures.error or silent} (all that was said is in "
                             f"{self._process.log})")


def read_result(settings: Settings, plate: int) -> PlateResult:
    """What the workflow's files say of a plate that is done."""
    import pandas as pd

    folder = settings.folder(plate)
    derived = json.loads((folder / "derived.json").read_text())["derived_plate"]
    attached = json.loads((folder / "annotations.json").read_text())["files"]
    tables = {}
    for name in ("features", "wells", "objects"):
        path = folder / f"{name}.csv"
        tables[name] = pd.read_csv(path) if path.read_text().strip() else pd.DataFrame()
    return PlateResult(plate, derived, tables, {int(key): sorted(files) for key, files in attached.items()}, folder)


def _server(config: Mapping[str, Any]) -> Server:
    """The OMERO server of `omero`, else that of the registered backend, else that of the environment."""
    from openhcs_omero.omero.connection import Server

    registered = getattr(storage_registry.data.get("omero_local"), "server", None)
    if config.get("omero") or registered is None:
        return Server.from_config(config.get("omero"))
    return registered


def _plate(path: PlatePath) -> Any:
    """A plate as the configuration names it."""
    from openhcs_omero.omero.paths import VirtualPath

    text = str(path)
    if text.isdecimal():
        return int(text)
    if not text.startswith("/omero/"):
        return path if isinstance(path, int) else text
    try:
        place = VirtualPath.parse(text)
    except ValueError as error:
        raise PlateError(str(error)) from None
    if place.kind != "plate" or place.output is not None:
        raise PlateError(f"{text} is no source plate: expected an id or /omero/plate_<id>")
    return place.plate_id

