"""The plan of the workflow: the checked configuration, its steps, and what the rules need to know about its plates.

`inspection.look` makes it. Jobs make it with `recorded_plan` from what the run wrote for them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openhcs_omero.core.channels import numbered_steps, uses_names
from openhcs_omero.core.config import Settings, read_config
from openhcs_omero.core.estimates import uses_estimate
from openhcs_omero.core.needs import Needs
from openhcs_omero.core.stale import Stale
from openhcs_omero.core.state import PlateState, digest_of, read_state, recorded_state
from openhcs_omero.core.steps.checks import Steps
from openhcs_omero.core.steps.loading import load_step, wants_treatment
from openhcs_omero.core.steps.source import distributions, source_hash, step_record
from openhcs_omero.core.treatments import (
    RecordedTreatments,
    Treatments,
    digest,
)
from openhcs_omero.core.well_file import well_file, wells_in_tables
from openhcs_omero.plates.labels import DERIVED_MASKS

if TYPE_CHECKING:
    pass

PROBLEM = "problem.txt"
"""In the folder of a plate that can't be processed: why. Jobs see there that the analysis leaves it out."""
REPORTED = ("failed.csv", "run.yaml", "figures/heatmaps", "figures/montage.png", "figures/outlines")
"""The files of a plate in the Snakemake report; those of a plate whose jobs failed are not all there."""
LAST_RUN = Path(".snakemake", "openhcs_omero.json")
"""The configuration of the last run in a working directory, written when the run begins."""


@dataclass(frozen=True)
class Plan:
    """The configuration, and what is known about its plates. Everything about plates is by label.

    Parameters
    ----------
    states
        What the rules need to know about each plate.
    problems
        Why a plate can't be processed; such a plate has no state.
    stale
        Records of each plate that still exist but are no longer true.
    treatments
        What the plate map says about the wells of each plate.
    detached
        Whether the table of all wells, which was attached to screens in OMERO, is gone or has changed there.
    """

    settings: Settings
    states: Mapping[str, PlateState]
    problems: Mapping[str, str] = field(default_factory=dict)
    stale: Mapping[str, Stale] = field(default_factory=dict)
    treatments: Mapping[str, Treatments] = field(default_factory=dict)
    detached: bool = False

    @functools.cached_property
    def steps(self) -> Steps:
        """The steps with their functions, imported on first use; raises StepError if an import fails."""
        return load_steps(self.settings)

    def wells(self, plate: str) -> list[str]:
        """The chosen wells of a plate; empty if the plate can't be processed."""
        return [] if plate in self.problems else list(self.states[plate].wells)

    def lost_wells(self, plate: str) -> list[str]:
        """The wells of a plate that its tables have, but whose files are gone."""
        folder, chosen = self.settings.folder(plate), set(self.wells(plate))
        return [well for well in wells_in_tables(folder) if well in chosen and not well_file(folder, well).exists()]

    def wells_record(self, plate: str) -> str:
        """What the table of wells depends on."""
        return self.problems.get(plate) or self.states[plate].fingerprint

    def well_record(self, plate: str, well: str) -> str:
        """What a well depends on besides the steps: changes when its images or its derived images change."""
        reason = self._stale(plate).wells.get(well)
        treatment = digest(self._treatments(plate).get(well)) if self.reads_treatments else ""
        return self.states[plate].wells[well].digest + treatment + (f" ({reason})" if reason else "")

    def derived_record(self, plate: str) -> str:
        """What the derived plate depends on: its wells and acquisitions, and whether it was damaged."""
        state = self.states[plate]
        runs = "".join(f"; acquisition {number} {name}" for number, name in state.acquisitions)
        return f"{', '.join(state.wells)}; repaired {state.repairs} times{runs}"

    def restores_derived(self, plate: str) -> bool:
        """Whether a run would restore the lost `derived.json` of the plate before its first job."""
        derived = self._stale(plate).derived
        return derived is not None and not (self.settings.folder(plate) / "derived.json").exists()

    def tables_record(self, plate: str) -> str:
        """A value that changes each time results of wells are found to be lost.

        Otherwise Snakemake would not recreate a lost result as long as its table, and the files made from it, exist.
        """
        return f"results of wells were lost {self.states[plate].losses} times"

    def published_record(self, plate: str) -> str:
        """A value that changes when the published tables are gone or have changed."""
        return "gone or changed" if self._stale(plate).unpublished else "published"

    @property
    def attached_record(self) -> str:
        """A value that changes when the table of all wells is gone from its screens or has changed there."""
        return "gone or changed" if self.detached else "attached"

    def treatments_record(self, plate: str) -> str:
        """What the tables of a plate depend on besides its wells."""
        return digest(self._treatments(plate))

    @property
    def analysis_record(self) -> str:
        """What the analysis depends on besides the tables."""
        return json.dumps(self.settings.analysis, sort_keys=True)

    @property
    def qc_record(self) -> str:
        """What the quality of images depends on besides the images: the conditions of excluded sites."""
        return json.dumps((self.settings.analysis or {}).get("qc", {}).get("exclude"))

    def images_record(self, plate: str, wells: Sequence[str]) -> str:
        """A value that changes when images of these wells do."""
        return digest_of([self.states[plate].wells[well].digest for well in wells])

    def channels(self, plate: str) -> int:
        """The number of channels of a plate."""
        return self.states[plate].channels

    @functools.cached_property
    def reads_treatments(self) -> bool:
        """Whether any step needs the treatment of each well."""
        return any(wants_treatment(function) for _, function in self.steps)

    def _treatments(self, plate: str) -> Treatments:
        return self.treatments.get(plate, {})

    def _stale(self, plate: str) -> Stale:
        return self.stale.get(plate, Stale())

    @functools.cached_property
    def _names_channels(self) -> bool:
        return uses_names(self.steps)

    def _numbered(self, plate: str) -> Steps:
        """The steps with the numbers of the plate's channels instead of names."""
        if not self._names_channels:
            return self.steps
        return numbered_steps(self.steps, plate, self.states[plate].channel_names)

    def steps_record(self, plate: str) -> str:
        """What every well depends on: the steps, their params and source, and the distributions that they import."""
        names = self.states[plate].channel_names if self._names_channels else ()
        if names not in self._steps_records:
            steps = [step_record(step, function) for step, function in self._numbered(plate)]
            regions = [asdict(self.settings.rois)] if self.settings.rois != DERIVED_MASKS else []
            self._steps_records[names] = json.dumps(steps + regions, sort_keys=True)
        return self._steps_records[names]

    @functools.cached_property
    def _steps_records(self) -> dict[tuple[str | None, ...], str]:
        """The records by names of channels: plates with the same names share one."""
        return {}

    def estimates(self, plate: str, before: int | None = None) -> list[str]:
        """Names of the plate's estimates: one per channel for each step (before a position) that uses an estimate."""
        return [
            f"{step.position}_{step.function_name}_c{channel}"
            for step, function in self._numbered(plate)
            if uses_estimate(step, function) and (before is None or step.position < before)
            for channel in (step.channels or range(self.states[plate].channels))
        ]

    def memory(self, plate: str) -> int:
        """The memory, in MB, that a job may need for one well of the plate."""
        return self.states[plate].memory

    @functools.cached_property
    def needs(self) -> Needs:
        """What the steps need besides."""
        return Needs.together(step.needs for step in self.settings.steps)

    def estimate_record(self, plate: str, position: int) -> str:
        """What the estimates of a step depend on; of the plate, only which groups of like images it has."""
        *earlier, (step, function) = self._numbered(plate)[:position]
        estimate = function.plate_estimate  # type: ignore[attr-defined]
        made_of: dict[str, Any] = {
            "params": step.params,
            "source": source_hash(estimate),
            "distributions": distributions(estimate),
            "groups": self.states[plate].groups,
        }
        if earlier:
            made_of["earlier"] = [step_record(*one) for one in earlier]
        return json.dumps(made_of, sort_keys=True)


def recorded_plan(config: Mapping[str, Any]) -> Plan:
    """Make the plan from what the last run wrote.

    Raises
    ------
    ConfigError
        When `states` is asked for a plate without a run.
    """
    settings = read_config(config)
    files = {label: settings.folder(label) / PROBLEM for label in settings.plates}
    problems = {label: file.read_text() for label, file in files.items() if file.exists()}
    return Plan(settings, _Recorded(settings), problems, treatments=RecordedTreatments(settings))


def plan_of_runs(config: Mapping[str, Any]) -> Plan:
    """Make the plan from what earlier runs wrote, for those plates that had a run."""
    settings = read_config(config)
    plates = {
        label: path
        for label, path in settings.plates.items()
        if read_state(settings.folder(label)) and not (settings.folder(label) / PROBLEM).exists()
    }
    return Plan(replace(settings, plates=plates), _Recorded(settings))


def with_whole_results(plan: Plan) -> Plan:
    """The plan for those plates that have all files of the Snakemake report, which refuses to be made without one."""
    settings = plan.settings
    plates = {
        label: path
        for label, path in settings.plates.items()
        if all((settings.folder(label) / name).exists() for name in REPORTED)
    }
    return replace(plan, settings=replace(settings, plates=plates))


class _Recorded(Mapping[str, PlateState]):
    """The recorded states by label, each read on demand: a job needs only one out of possibly hundreds."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._read = settings, dict[str, PlateState]()

    def __getitem__(self, label: str) -> PlateState:
        if label not in self._read:
            self._read[label] = recorded_state(self._settings.folder(label))
        return self._read[label]

    def __iter__(self) -> Iterator[str]:
        return iter(self._settings.plates)

    def __len__(self) -> int:
        return len(self._settings.plates)


def load_steps(settings: Settings) -> Steps:
    """Load the functions of the steps, and check each against its settings in the configuration."""
    return tuple((step, load_step(step)) for step in settings.steps)
