"""The workflow as a Python call."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openhcs_omero.core.command_versions import has_commands
from openhcs_omero.core.config import Settings, read_config
from openhcs_omero.core.config_check import check_config
from openhcs_omero.core.failures import has_results
from openhcs_omero.core.orchestrator.process import Event, Progress, WorkflowProcess
from openhcs_omero.core.orchestrator.snakefile import find_workflow
from openhcs_omero.core.selection import choose_plates, selects
from openhcs_omero.core.steps.function_step import FunctionStep, StepLike, configured, import_folders
from openhcs_omero.errors import ConfigError, OpenHCSError, first_of, is_full
from openhcs_omero.io.base import storage_registry
from openhcs_omero.plates.paths import plate_of
from openhcs_omero.spreadsheets import unescape_table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FunctionStep", "PipelineError", "PipelineOrchestrator", "PlateResult"]

PlatePath = int | str | Path | Mapping[str, Any]
NAMED = 5  # wells in a sentence


class PipelineError(OpenHCSError):
    """A run that failed or was cancelled.

    Attributes
    ----------
    wells
        (plate, well) -> why the well failed.
    """

    def __init__(self, message: str, wells: Mapping[tuple[Any, str], str] | None = None) -> None:
        super().__init__(message)
        self.wells = dict(wells or {})


@dataclass(frozen=True)
class PlateResult:
    """The results of a run for one plate, whether it ran here or on an execution server.

    Attributes
    ----------
    plate
        OMERO id of the plate, or the label of its folder in the tables.
    derived_plate
        OMERO id of the derived plate with the processed images, or the folder that holds them, itself a plate.
    tables
        `features` (one row per site), `wells` and `objects`.
    annotations
        Plate id -> names of the files attached to that plate.
    folder
        The folder where the workflow keeps its files about the plate; None if an execution server ran it.
    run_id
        Id of the run on the execution server, for `ZMQExecutionClient.attach`; None if it ran here.
    """

    plate: int | str
    derived_plate: int | str
    tables: dict[str, pd.DataFrame]
    annotations: dict[int, list[str]]
    folder: Path | None = None
    run_id: str | None = None


@dataclass
class _Failures:
    """The failures that a retry did not fix."""

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
    """Runs steps on plates with the same Snakefile that `snakemake` runs, on the configured executor.

    Parameters
    ----------
    plate_paths
        Plates: OMERO ids, paths like ``/omero/plate_7`` and ``/omero/plate_7_processed``, folders, and entries like
        ``{"screen": "Assay A"}``, whose plates are looked up at once.
    steps
        Functions or `FunctionStep` objects, in order. The functions are defined at the top level of modules that jobs
        can import.
    global_config
        The keys described in config/README.md except `plates` and `steps`. In addition, `cores` (CPUs for jobs on this
        machine; default all) and `profile` (a Snakemake profile that selects the executor: ``"cluster"``, or a folder;
        default this machine). Missing keys of `omero` come from the backend registered as ``omero_local``, or else
        from the environment.
    progress
        Called with each event (see events.py) during the run.
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
                raise ConfigError(f"global_config has {key!r}, which is a separate argument of PipelineOrchestrator")
        cores, profile = given.pop("cores", None), given.pop("profile", None)
        if cores is not None and (not isinstance(cores, int) or isinstance(cores, bool) or cores < 1):
            raise ConfigError(f"global_config has cores {cores!r}, but it must be a whole number of at least 1")
        config = {
            **given,
            "plates": [path if isinstance(path, int | Mapping) else str(path) for path in plate_paths],
            "steps": configured(steps),
        }
        if has_commands(config):
            config.setdefault("config_dir", os.getcwd())
        check_config(config, find_workflow() / "workflow" / "schemas" / "config.schema.yaml")
        if selects(config):
            config["omero"] = _described(given)
            choose_plates(config)
        if read_config(config).in_omero:
            config["omero"] = _described(given)
        self.settings: Settings = read_config(config)
        self.progress = progress
        self._process = WorkflowProcess(config, cores, profile, import_folders(config["steps"]))

    def run(self) -> dict[int | str, PlateResult]:
        """Run to the end; plates, wells and tables that are up to date are not processed again.

        Returns
        -------
        dict
            Results by OMERO id; for plates in folders, by their labels in the tables.

        Raises
        ------
        PipelineError
            If anything failed. The error names the wells that failed; the other wells are done.
        OpenHCSError
            If there is no connection to OMERO, or a step or the configuration is wrong; nothing is changed then.
        """
        if self.settings.in_omero:
            from openhcs_omero.omero.connection import connect, look_after

            connect(self.settings.server())  # asks for a password if needed; the run joins the session
            look_after(self.settings.server(), end=False)
        failures = _Failures()
        with closing(self._process.events()) as events:
            for event in events:
                failures.note(event)
                if self.progress is not None:
                    self.progress(event)
        if self.cancelled:
            raise PipelineError("the run was cancelled; finished work is kept, and a new run continues from there")
        if self._process.status:
            raise self._error(failures)
        results = [read_result(self.settings, label) for label in self.settings.plates]
        return {result.plate: result for result in results}

    @property
    def cancelled(self) -> bool:
        return self._process.cancelled

    def cancel(self) -> None:
        """Cancel the run and its jobs; call this from another thread."""
        self._process.cancel()

    def unlock(self) -> None:
        """Remove the lock of an earlier run that was killed; call this only if no other run is active here."""
        self._process.unlock()

    def _error(self, failures: _Failures) -> PipelineError:
        # some wells of a group that failed as one cluster job may be done
        wells = {
            (plate, well): reason
            for (plate, well), reason in failures.wells.items()
            if not has_results(self.settings.folder(plate), well)
        }
        if wells:
            named = [f"{well} of plate {plate} ({reason})" for (plate, well), reason in wells.items()]
            count = f"{len(named)} well{'s' if len(named) > 1 else ''} failed"
            return PipelineError(
                f"{count}: {first_of(named, NAMED)}; the logs are in {self.settings.results}/plate_*/logs",
                wells,
            )
        if failures.jobs:
            (plate, rule), reason = next(iter(failures.jobs.items()))
            return PipelineError(f"{rule} of plate {plate} failed: {reason}")
        status = self._process.status or 0
        if is_full(Path.cwd()):
            return PipelineError(f"the disk is full ({Path.cwd()}): make room there, and run the pipeline again")
        silent = f"the run was killed by signal {-status}" if status < 0 else "the run ended without a message"
        return PipelineError(f"{failures.error or silent} (the full output is in {self._process.log})")


def read_result(settings: Settings, label: str) -> PlateResult:
    """Read the results of a finished plate from the workflow's files."""
    folder, place = settings.folder(label), plate_of(settings.plates[label])
    plate = label if place is None or place.output else place.plate_id
    derived = json.loads((folder / "derived.json").read_text())["derived_plate"]
    attached = json.loads((folder / "annotations.json").read_text())["files"]
    tables = {name: read_table((folder / f"{name}.csv").read_text()) for name in ("features", "wells", "objects")}
    return PlateResult(plate, derived, tables, {int(key): sorted(files) for key, files in attached.items()}, folder)


def read_table(text: str) -> pd.DataFrame:
    """Read a table from CSV, which is empty if nothing was measured."""
    import pandas as pd

    return unescape_table(pd.read_csv(io.StringIO(text))) if text.strip() else pd.DataFrame()


def _described(config: Mapping[str, Any]) -> dict[str, Any]:
    """The OMERO server from `omero`, or else from the registered backend, or else from the environment."""
    from openhcs_omero.omero.server import Server

    server = getattr(storage_registry.data.get("omero_local"), "server", None)
    if config.get("omero") or server is None:
        server = Server.from_config(config.get("omero"))
    described = {key: getattr(server, key) for key in ("host", "port", "user", "secure", "data_dir", "ca")}
    return {key: value for key, value in described.items() if value not in (None, "")}
