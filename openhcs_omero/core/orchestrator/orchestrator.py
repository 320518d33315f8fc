"""The workflow as a Python call."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openhcs_omero.core.config import Settings, check_config, read_config
from openhcs_omero.core.failures import has_results
from openhcs_omero.core.orchestrator.process import Event, Progress, WorkflowProcess
from openhcs_omero.core.orchestrator.snakefile import find_workflow
from openhcs_omero.core.steps.function_step import FunctionStep, StepLike, configured, import_folders
from openhcs_omero.errors import ConfigError, OpenHCSError
from openhcs_omero.io.base import storage_registry
from openhcs_omero.plates.paths import plate_of

if TYPE_CHECKING:
    import pandas as pd

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
    plate
        OMERO's id of the plate, or what its folder is called in the tables.
    derived_plate
        OMERO's id of the plate with the processed images, or their folder, which is a plate too.
    tables
        `features` (a row a site), `wells` and `objects`.
    annotations
        By plate id: the names of the files that are attached to it.
    folder
        Where the workflow keeps its files about the plate.
    """

    plate: int | str
    derived_plate: int | str
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
        Plates: OMERO's ids, paths like ``/omero/plate_7`` and ``/omero/plate_7_processed``, and folders.
    steps
        Functions or `FunctionStep`, in order; they stand at the top level of modules that jobs can import.
    global_config
        The keys of config/README.md but `plates` and `steps`; and `cores` (CPUs for jobs on this machine; all) and
        `profile` (a Snakemake profile, which names the executor: ``"cluster"``, or a folder; this machine). What
        `omero` leaves out is taken from the backend that is registered as ``omero_local``, else from the environment.
    progress
        Called with each event (see events.py) while the run goes on.
    """

    def __init__(
        self,
        plate_paths: Iterable[PlatePath],
        steps: Iterable[StepLike | FunctionStep],
        global_config: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> None:
        given = dict(global_config or {})
        for key in ("plates", "steps"):
            if key in given:
                raise ConfigError(f"global_config has {key!r}, which is an argument of PipelineOrchestrator of its own")
        cores, profile = given.pop("cores", None), given.pop("profile", None)
        if cores is not None and (not isinstance(cores, int) or isinstance(cores, bool) or cores < 1):
            raise ConfigError(f"global_config has cores {cores!r}, but it must be a whole number from 1 on")
        config = {
            **given,
            "plates": [path if isinstance(path, int) else str(path) for path in plate_paths],
            "steps": configured(steps),
        }
        check_config(config, find_workflow() / "workflow" / "schemas" / "config.schema.yaml")
        if read_config(config).in_omero:
            config["omero"] = _described(given)
        self.settings: Settings = read_config(config)
        self.progress = progress
        self._process = WorkflowProcess(config, cores, profile, import_folders(config["steps"]))

    def run(self) -> dict[int | str, PlateResult]:
        """Run to the end; plates, wells and tables that are up to date are left as they are.

        Returns
        -------
        dict
            By OMERO's id; plates in folders by their names in the tables.

        Raises
        ------
        PipelineError
            If wells failed, which it names (the others are done), or something else did.
        OpenHCSError
            If there is no connection to OMERO, or a step or the configuration is wrong; nothing has been changed then.
        """
        if self.settings.in_omero:
            from openhcs_omero.omero.connection import connect, look_after

            connect(self.settings.server())  # asks for a password where one is needed; the run joins the session
            look_after(self.settings.server(), end=False)
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
        results = [read_result(self.settings, label) for label in self.settings.plates]
        return {result.plate: result for result in results}

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
        wells = {
            (plate, well): reason
            for (plate, well), reason in failures.wells.items()
            if not has_results(self.settings.folder(plate), well)
        }
        if wells:
            named = [f"{well} of plate {plate} ({reason})" for (plate, well), reason in wells.items()]
            more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
            count = f"{len(named)} well{'s' if len(named) > 1 else ''} failed"
            return PipelineError(
                f"{count}: {', '.join(named[:NAMED])}{more}; the logs are in {self.settings.results}/plate_*/logs",
                wells,
            )
        if failures.jobs:
            (plate, rule), reason = next(iter(failures.jobs.items()))
            return PipelineError(f"{rule} of plate {plate} failed: {reason}")
        status = self._process.status or 0
        silent = f"the run was killed by signal {-status}" if status < 0 else "the run ended without a word"
        return PipelineError(f"{failures.error or silent} (all that was said is in {self._process.log})")


def read_result(settings: Settings, label: str) -> PlateResult:
    """What the workflow's files say of a plate that is done."""
    import pandas as pd

    folder, place = settings.folder(label), plate_of(settings.plates[label])
    plate = label if place is None or place.output else place.plate_id
    derived = json.loads((folder / "derived.json").read_text())["derived_plate"]
    attached = json.loads((folder / "annotations.json").read_text())["files"]
    tables = {}
    for name in ("features", "wells", "objects"):
        path = folder / f"{name}.csv"
        tables[name] = pd.read_csv(path) if path.read_text().strip() else pd.DataFrame()
    return PlateResult(plate, derived, tables, {int(key): sorted(files) for key, files in attached.items()}, folder)


def _described(config: Mapping[str, Any]) -> dict[str, Any]:
    """The OMERO server of `omero`, else that of the registered backend, else that of the environment."""
    from openhcs_omero.omero.server import Server

    server = getattr(storage_registry.data.get("omero_local"), "server", None)
    if config.get("omero") or server is None:
        server = Server.from_config(config.get("omero"))
    described = {key: getattr(server, key) for key in ("host", "port", "user", "secure", "data_dir", "ca")}
    return {key: value for key, value in described.items() if value not in (None, "")}
