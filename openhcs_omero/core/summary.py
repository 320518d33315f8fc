"""The summary at the end of a run: the results, where they are, and which wells failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from openhcs_omero.core import screen_wells
from openhcs_omero.core.failures import Failure, read_failures, told
from openhcs_omero.core.plan import Plan
from openhcs_omero.core.qc import excluded_sites
from openhcs_omero.core.records import DerivedPlate, read_record
from openhcs_omero.core.well_file import well_files
from openhcs_omero.errors import first_of


@dataclass(frozen=True)
class Outcome:
    """The outcome for a plate."""

    label: str
    folder: Path
    wells: int
    missing: tuple[str, ...]
    failures: tuple[Failure, ...]

    @property
    def done(self) -> int:
        """The number of wells that have results."""
        return self.wells - len(self.failures) - len(self.missing)

    def __str__(self) -> str:
        derived = read_record(self.folder / "derived.json", DerivedPlate)
        if derived is None or not isinstance(derived.derived_plate, int):
            return str(self.folder)
        return f"{self.folder} (derived plate {derived.derived_plate})"


def outcomes(plan: Plan) -> list[Outcome]:
    """The outcome for each plate that could be processed."""
    return [_outcome(plan, label) for label in plan.settings.plates if label not in plan.problems]


def summary(plan: Plan) -> tuple[str, bool]:
    """The text to report at the end of a run, and whether any wells failed."""
    found = outcomes(plan)
    wells = sum(outcome.wells for outcome in found)
    failures = [failure for outcome in found for failure in outcome.failures]
    missing = [f"{well} of plate {outcome.label}" for outcome in found for well in outcome.missing]
    lines = [
        f"{sum(outcome.done for outcome in found)} of {wells} wells of {_number(len(found), 'plate')} are processed.",
        f"Results: {first_of([str(outcome) for outcome in found])}; in one page: snakemake --report report.html",
        told(failures) or ("" if missing else "No well failed."),
    ]
    if plan.settings.has_qc:
        excluded = sum(len(excluded_sites(outcome.folder)) for outcome in found)
        lines.append(
            f"{_number(excluded, 'site')} excluded from statistics by qc: see image_qc.csv" if excluded else ""
        )
    if missing:
        lines.append(f"{_number(len(missing), 'well')} not processed: {first_of(missing)}")
    lost = [sentence for outcome in found for sentence in _lost_in_wells(outcome)]
    elsewhere = [sentence for outcome in found for sentence in _lost_elsewhere(outcome)]
    if lost:
        lines.append(lost[0].replace(" went away;", f" went away during {_number(len(lost), 'well')};"))
    elif elsewhere:
        lines.append(elsewhere[0])
    lines += [f"Plate {label} was not processed: {problem}" for label, problem in plan.problems.items()]
    return "\n".join(filter(None, lines)), bool(failures)


def about_screen(plan: Plan, failed: Mapping[str, str]) -> str:
    """A sentence about the results of all plates together, for a run in which jobs failed; "" if nothing is missing.

    Parameters
    ----------
    plan
        The plan of the run.
    failed
        Why plates are left out, by label.
    """
    if len(plan.settings.plates) < 2:
        return ""
    table = plan.settings.screen_folder / screen_wells.NAME
    found = [outcome for outcome in outcomes(plan) if outcome.label not in failed]
    made = table.stat().st_mtime if table.exists() else 0.0
    tables = {outcome.label: outcome.folder / "wells.csv" for outcome in found}
    lacking = [label for label, path in tables.items() if not path.exists()]
    if not lacking and all(path.stat().st_mtime <= made for path in tables.values()):
        if not failed:
            return ""
        without = first_of([f"plate {label} ({reason})" for label, reason in failed.items()])
        return (
            f"The results of all plates together, in {table.parent}, are without {without}, which left_out.csv lists. "
            "The next run processes what failed, and makes them again"
        )
    return (
        f"The results of all plates together, in {table.parent}, are not up to date"
        + (f", because plate {first_of(lacking)} has no tables" if lacking else "")
        + ": run the same command again, or leave out plates that fail again with `except`"
    )


def _outcome(plan: Plan, label: str) -> Outcome:
    folder, wells = plan.settings.folder(label), plan.wells(label)
    there = well_files(folder)
    missing = tuple(well for well in wells if well not in there)
    return Outcome(label, folder, len(wells), missing, tuple(read_failures(folder)))


def _lost_in_wells(outcome: Outcome) -> Iterator[str]:
    """The last log lines of wells that are missing because the OMERO server was lost."""
    for well in outcome.missing:
        yield from _lost(outcome.folder / "logs" / f"process_well_{well}.log")


def _lost_elsewhere(outcome: Outcome) -> Iterator[str]:
    """The last log lines of other jobs that failed because the OMERO server was lost."""
    for job, output in (("derive_plate", "derived.json"), ("annotate", "annotations.json")):
        if not (outcome.folder / output).exists():
            yield from _lost(outcome.folder / "logs" / f"{job}.log")


def _lost(log: Path) -> Iterator[str]:
    said = log.read_text(errors="replace").splitlines()[-1:] if log.exists() else []
    yield from (line for line in said if line.startswith("OMERO") and " went away;" in line)


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
