"""The inspection of the plates of a configuration, before anything runs, and what it leaves for the jobs of a run.

`look` reads the plates and changes nothing. A run then calls `prepare` for each plate, which removes records that are
no longer true and writes what it learned for the jobs.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openhcs_omero.core.channels import in_columns, numbered_steps, uses_names, with_numbers
from openhcs_omero.core.config import IN_OMERO, Settings, read_config
from openhcs_omero.core.estimates import groups_of
from openhcs_omero.core.pace import batches, mark, read_pace
from openhcs_omero.core.plan import PROBLEM, Plan, load_steps
from openhcs_omero.core.plates import Plate, choose_wells, open_plates
from openhcs_omero.core.provenance import begin_run
from openhcs_omero.core.records import WellRecord, to_json
from openhcs_omero.core.screen_wells import RECORD as ATTACHED
from openhcs_omero.core.screen_wells import is_attached
from openhcs_omero.core.stale import Stale, find_stale, forget
from openhcs_omero.core.state import NAME, PlateState, WellState, digest_of, memory_of, read_state
from openhcs_omero.core.steps.checks import Steps, check_commands, check_params, check_workers
from openhcs_omero.core.steps.columns import check_columns
from openhcs_omero.core.treatments import Treatments, read_treatments, write_treatments
from openhcs_omero.errors import ConfigError, ConnectError, OpenHCSError, PlateError
from openhcs_omero.io.atomic import write_if_changed

if TYPE_CHECKING:
    from openhcs_omero.omero.connection import BlitzGateway
    from openhcs_omero.omero.plate_map import WellTexts
    from openhcs_omero.omero.server import Server
    from openhcs_omero.plates.structure import PlateStructure

MOST_ROWS, MOST_COLUMNS = 32, 48  # of a 1536-well plate, for a plate of unknown format


@dataclass(frozen=True)
class Reading:
    """The current state of a plate: what the rules and the jobs need to know about it."""

    plate: Plate
    folder: Path
    state: PlateState
    records: Mapping[str, WellRecord]
    stale: Stale
    batches: tuple[str, ...]
    name: str
    size: tuple[int, int]
    in_omero: Sequence[WellTexts]


def look(config: Mapping[str, Any], then: Callable[[Reading], None] | None = None) -> Plan:
    """Inspect the plates of a valid configuration, and check the plates and the steps against it.

    Parameters
    ----------
    config
        The configuration.
    then
        Called with the current state of each plate; `prepare` in a run. If None, nothing is changed.

    Returns
    -------
    Plan
        Plates that can't be processed are listed in its `problems`.

    Raises
    ------
    OpenHCSError
        One sentence about an error that prevents the processing of every plate.
    """
    settings = read_config(config)
    steps = load_steps(settings)
    for step, function in steps:
        check_params(with_numbers(step, function, lambda name: 0), function)
    check_workers(settings.steps)
    check_commands(settings.steps)
    conditions = _check_analysis(settings)
    begin_run()
    states: dict[str, PlateState] = {}
    problems: dict[str, str] = {}
    stale: dict[str, Stale] = {}
    seen: dict[str, tuple[str, tuple[int, int], Sequence[WellTexts]]] = {}
    for label in settings.plates:
        try:
            reading = _read(settings, steps, label)
        except ConnectError:
            raise
        except OpenHCSError as error:
            if len(problems) + 1 == len(settings.plates):
                raise
            problems[label] = str(error)
            if then is not None:
                write_if_changed(settings.folder(label) / PROBLEM, str(error))
            continue
        if settings.analysis is not None:
            _check_timepoint((settings.analysis.get("analysis") or {}).get("timepoint"), reading, label)
        if then is None:
            stale[label] = reading.stale
        else:
            then(reading)
        states[label], seen[label] = reading.state, (reading.name, reading.size, reading.in_omero)
    most = max((state.channels for state in states.values()), default=0)
    for name, channel in conditions.items():
        if states and channel >= most:
            raise ConfigError(f"qc.exclude names {name}, but the plates have {most} channels, counted from 0")
    treatments = _treatments(settings, seen)
    detached = not is_attached(settings, connect_head)
    if then is not None:
        write_treatments(settings, treatments)
        if detached:
            (settings.screen_folder / ATTACHED).unlink(missing_ok=True)
            detached = False
    return Plan(settings, states, problems, stale, treatments, detached)


def _check_analysis(settings: Settings) -> dict[str, int]:
    """Check what is analyzed; returns the columns of image_qc.csv in conditions that are about a channel, with it."""
    if settings.analysis is None:
        return {}
    from openhcs_omero.analysis.exclusion import condition_columns  # takes a second to import, so only for an analysis
    from openhcs_omero.analysis.image_qc import channel_of
    from openhcs_omero.analysis.settings import read_settings

    conditions = read_settings(settings.analysis).exclude_sites
    channels = {name: channel_of(name) for condition in conditions for name in condition_columns(condition)}
    return {name: channel for name, channel in channels.items() if channel is not None}


def _check_timepoint(timepoint: int | None, reading: Reading, label: str) -> None:
    """Refuse an analysis of several timepoints before anything runs: its tables have one row per well."""
    count = max(image.size_t for record in reading.records.values() for image in record.images)
    if timepoint is None and count > 1:
        raise ConfigError(
            f"plate {label} has {count} timepoints, and an analysis is of one: name it in analysis.timepoint, from 0 "
            f"to {count - 1}"
        )
    if timepoint is not None and timepoint >= count:
        raise ConfigError(f"analysis.timepoint is {timepoint}, but plate {label} has {count}, counted from 0")


def _treatments(
    settings: Settings, seen: Mapping[str, tuple[str, tuple[int, int], Sequence[WellTexts]]]
) -> dict[str, Treatments]:
    """Read the treatments of the plates; `seen` is the name, the size and what OMERO says about the wells of each."""
    if not settings.has_map:
        return {}
    from openhcs_omero.analysis.plate_maps import MappedPlate

    plates = {label: MappedPlate((label, name), *size) for label, (name, size, _) in seen.items()}
    return read_treatments(settings, plates, {label: in_omero for label, (*_, in_omero) in seen.items()})


def _in_omero(settings: Settings, plate: Plate) -> Sequence[WellTexts]:
    """What OMERO says about the wells of a plate, if that is the plate map."""
    if settings.options[plate.label].plate_map != IN_OMERO:
        return ()
    from openhcs_omero.omero.plate_map import read_plate_map

    sources, notes = read_plate_map(plate.output.backend.conn, plate.structure)  # type: ignore[attr-defined]
    for note in notes:
        _say(note)
    return sources


def prepare(reading: Reading) -> None:
    """Prepare for a run: remove records and attachments that are outdated, and write what the jobs need."""
    folder = reading.folder
    forget(reading.stale, folder)
    (folder / PROBLEM).unlink(missing_ok=True)
    reading.plate.output.clean_up(reading.plate.structure)
    write_if_changed(folder / "wells.json", to_json(reading.records, dict[str, WellRecord]))
    write_if_changed(folder / NAME, to_json(reading.state))
    mark(folder, reading.batches)


def _read(settings: Settings, steps: Steps, label: str) -> Reading:
    """Read the current state of a plate, and check that the steps and the folder for its results fit it."""
    [plate] = open_plates(settings, [label], connect_head)
    chosen, folder = choose_wells(plate, settings, _say), settings.folder(label)
    before = read_state(folder)
    names = _channel_names(settings, steps, plate, chosen)
    steps = numbered_steps(steps, label, names)
    _check(settings, steps, label, chosen, before)
    check_columns(steps, chosen.max_c, settings.heatmaps, names)
    records = _well_records(plate, chosen)
    stale = find_stale(plate.output, chosen, folder)
    wells = {
        name: WellState(digest_of(to_json(records[name])), well.row, well.col, len(well.images))
        for name, well in chosen.wells.items()
    }
    repairs = (before.repairs if before else 0) + stale.damaged
    losses = (before.losses if before else 0) + bool(stale.wells)
    state = PlateState(
        plate.path,
        chosen.name,
        chosen.max_c,
        memory_of(chosen),
        wells,
        repairs,
        losses,
        names,
        tuple(groups_of(chosen)),
        tuple(chosen.acquisitions()),
        plate.handler.notes(plate.path),
        {well: sites for well, sites in plate.listing.skipped.items() if well in chosen.wells},
        plate.listing.skipped_planes,
    )
    return Reading(
        plate,
        folder,
        state,
        records,
        stale,
        tuple(batches(settings, len(wells), read_pace(settings))),
        chosen.name,
        (chosen.rows or MOST_ROWS, chosen.columns or MOST_COLUMNS),
        _in_omero(settings, plate),
    )


def _channel_names(settings: Settings, steps: Steps, plate: Plate, chosen: PlateStructure) -> tuple[str | None, ...]:
    """The names of a plate's channels if the configuration may need them."""
    needed = uses_names(steps)
    if not (needed or in_columns(settings.named_columns)):
        return ()
    try:
        names = plate.channel_names(chosen)
    except PlateError:
        if needed:
            raise
        return ()  # the columns need not be named for channels
    return names + (None,) * (chosen.max_c - len(names))


def _say(note: str) -> None:
    print(note, file=sys.stderr)


def _check(settings: Settings, steps: Steps, label: str, plate: PlateStructure, before: PlateState | None) -> None:
    for step, _ in steps:
        if step.channels and max(step.channels) >= plate.max_c:
            raise ConfigError(
                f"{step} asks for channel {max(step.channels)}, but plate {label} has {plate.max_c} channels, "
                "counted from 0"
            )
    folder, path = settings.folder(label), settings.plates[label]
    if before is not None and before.path != path:
        raise ConfigError(
            f"{folder} has the results of {before.path}, not of {path}: name another folder in "
            f"`results`, or delete {folder / NAME} if the same plate was moved"
        )


def _well_records(plate: Plate, chosen: PlateStructure) -> dict[str, WellRecord]:
    return {name: WellRecord.of(plate.path, plate.listing, name) for name in chosen.wells}


def connect_head(server: Server) -> BlitzGateway:
    """Connect the process that plans a run; the session is kept open for the jobs."""
    from openhcs_omero.omero.connection import connect, look_after

    logging.getLogger().addHandler(logging.NullHandler())  # otherwise omero-py's client duplicates Snakemake's log
    conn = connect(server)
    look_after(server)
    return conn
