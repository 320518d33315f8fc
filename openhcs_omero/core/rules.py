"""What the workflow's jobs do: list the wells, derive the plate, estimate, process a well, publish the tables."""
from __future__ import annotations

import functools
import json
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs_omero.core.config import Settings, read_config
from openhcs_omero.core.failures import Failure, failure_of, read_failures
from openhcs_omero.core.features import Features
from openhcs_omero.core.figures import Channel, choose_features, heatmap, montage
from openhcs_omero.core.outputs.base import Record
from openhcs_omero.core.plates import Plate, choose_wells, open_plates
from openhcs_omero.core.provenance import describe_run, marks, step_marks
from openhcs_omero.core.records import listing_of_well, read_record
from openhcs_omero.core.state import recorded_state
from openhcs_omero.core.steps.loading import load_step
from openhcs_omero.core.tables import aggregate, read_columns, read_places, read_rows, write_rows
from openhcs_omero.core.treatments import recorded_treatments
from openhcs_omero.core.well import Rows, WellFailed, process, thumbnail
from openhcs_omero.errors import OpenHCSError
from openhcs_omero.io.atomic import write

if TYPE_CHECKING:
    from openhcs_omero.omero.connection import BlitzGateway
    from openhcs_omero.omero.server import Server

ESTIMATE_PLANES = 100


def _open(settings: Settings, plate: str) -> Plate:
    return open_plates(settings, [plate], _connect)[0]


def _connect(server: Server) -> BlitzGateway:
    from openhcs_omero.omero.connection import connect_job  # jobs over folders need no OMERO

    return connect_job(server)


def _record(path: Path) -> Record:
    record = read_record(path)
    if record is None:
        raise OpenHCSError(f"{path} is missing or damaged: run the workflow again")
    return record


def _well_records(path: Path) -> Record:
    """The records of all wells of a plate, which a worker process reads once."""
    return _parsed(path, path.stat().st_mtime_ns if path.exists() else 0)


@functools.lru_cache(maxsize=2)
def _parsed(path: Path, _written: int) -> Record:
    return _record(path)


def derive(settings: Settings, label: str, record: Path) -> None:
    """Make the derived plate or bring it up to date, and note where it is."""
    plate = _open(settings, label)
    derived = plate.output.derive(choose_wells(plate, settings), marks(settings))
    write(record, json.dumps(derived))


def estimate(settings: Settings, label: str, position: int, channel: int, output: Path) -> None:
    """Estimate what a step wants to know of the whole plate in one channel, from sites spread evenly over it."""
    plate = _open(settings, label)
    structure = plate.structure
    like = next(image for _, image in choose_wells(plate, settings).images())  # other wells may have other sizes
    middle = (0, channel, like.size_z // 2)
    sites = [(well, image.site) for well, image in structure.images()
             if image.shape == like.shape and well not in plate.listing.missing]
    acquired = [site for site in sites if middle not in plate.listing.filled.get(site, ())]
    sites = acquired or sites
    chosen = [sites[i] for i in np.linspace(0, len(sites) - 1, min(ESTIMATE_PLANES, len(sites))).astype(int)]
    planes = (plate.plane(well, site, middle) for well, site in chosen)
    step = settings.steps[position - 1]
    function = load_step(step).plate_estimate  # type: ignore[attr-defined]
    np.save(output, function(planes, **step.params))
    plate.handler.close()


def process_well(settings: Settings, label: str, well: str, derived_record: Path, estimates: Sequence[Path],
                 outputs: Mapping[str, Path], log: Path) -> Failure | None:
    """Run the steps on all sites of a well, write its derived images, and keep what was measured.

    If a step fails, the well's record says so, and nothing of the well is written to the derived plate.

    Parameters
    ----------
    derived_record
        The record of the derived plate.
    estimates
        `<position>_<function>_c<channel>.npy` files.
    outputs
        `record`, `features`, `objects` and `thumbnail`: the files to write.
    log
        The job's log, which the record of a failed well names.

    Returns
    -------
    Failure or None
        Why the well has no results.
    """
    plate = _open(settings, label)
    source, derived = _well_records(settings.folder(label) / "wells.json")[well], _record(derived_record)
    plate = replace(plate, known=listing_of_well(plate.path, source))
    try:
        done = process(settings, plate, derived, well, estimates)
    except WellFailed as error:
        traceback.print_exception(error.__cause__)
        failure = Failure(label, well, error.site, error.step, error.reason, str(log))
        _write_results(outputs, [], [], np.empty((0, 0, 0)), failure.to_json())
        return failure
    record = plate.output.write_well(derived, well, done.images, done.files, marks(settings))
    first = done.images[min(done.images)]
    record["picture"] = [asdict(Channel(name, color, number in done.labels)) for number, (name, color) in enumerate(
        zip_longest(first.channel_names or [None] * first.pixels.shape[1], first.colors))]
    _write_results(outputs, done.features, done.objects, thumbnail(first.pixels), json.dumps(record))
    return None


def _write_results(outputs: Mapping[str, Path], features: Rows, objects: Rows, picture: np.ndarray,
                   record: str) -> None:
    write_rows(outputs["features"], features)
    write_rows(outputs["objects"], objects)
    np.save(outputs["thumbnail"], picture)
    write(outputs["record"], record)


def put_together(settings: Settings, label: str, wells: Path, tables: Mapping[str, Path]) -> None:
    """Put the tables of all wells together, and list the wells that failed.

    Parameters
    ----------
    tables
        The files to write: those of `aggregate`, and `failed`.
    """
    declared = Features.of((step, load_step(step)) for step in settings.steps)
    aggregate(wells, wells.parent / "processed", tables, declared, recorded_treatments(settings.folder(label)))
    write_rows(tables["failed"], [asdict(failure) for failure in read_failures(settings.folder(label))])


def draw_heatmaps(folder: Path, label: str, wanted: Sequence[str] | None, output: Path) -> None:
    """Draw the heat maps of a plate; of a time series, those of its last timepoint."""
    output.mkdir(parents=True, exist_ok=True)
    columns, rows = read_columns(folder / "columns.csv"), read_rows(folder / "wells.csv")
    last = max((int(row["t"]) for row in rows if row.get("t")), default=None)
    rows = [row for row in rows if last is None or row["t"] == str(last)]
    title = _title(folder, label) + ("" if last is None else f", timepoint {last}")
    failed = {failure.well for failure in read_failures(folder)}
    for feature in choose_features(columns, wanted):
        about = columns[feature]
        unit = f" ({about['unit']})" if about["unit"] else ""
        heatmap(read_places(folder / "wells.tsv"), {row["well"]: row[feature] for row in rows},
                f"{feature}\n{title}", output / f"{feature}.png", f"{about['statistic']}{unit}", failed)


def draw_montage(folder: Path, label: str, thumbnails: Sequence[Path], output: Path) -> None:
    """Draw the montage of a plate."""
    records = {path.stem: _record(path.with_suffix(".json")) for path in thumbnails}
    good = {path.stem: path for path in thumbnails if failure_of(records[path.stem]) is None}
    first = next(iter(good), None)
    channels = [] if first is None else [Channel(**channel) for channel in records[first]["picture"]]
    montage(read_places(folder / "wells.tsv"), {well: np.load(path) for well, path in good.items()},
            _title(folder, label), output, channels, sorted(set(records) - set(good)))


def _title(folder: Path, label: str) -> str:
    name = recorded_state(folder).name
    return f"plate {label}" if name in ("", label) else f"{name} (plate {label})"


def annotate(config: Mapping[str, Any], label: str, derived_record: Path, tables: Sequence[Path],
             about: Sequence[Path], outputs: Mapping[str, Path]) -> None:
    """Put the tables where people look for them, and note what is there then.

    Parameters
    ----------
    tables
        What was measured.
    about
        What else there is to know about the results; it belongs to the derived plate alone.
    outputs
        `run`, the description of how the results were made, and `record`: the files to write.
    """
    settings = read_config(config)
    plate, folder = _open(settings, label), settings.folder(label)
    names = [row["well"] for row in read_rows(folder / "wells.tsv", "\t")]
    records = {well: _record(folder / "processed" / f"{well}.json") for well in names}
    records = {well: record for well, record in records.items() if failure_of(record) is None}
    write(outputs["run"], describe_run(config, settings, label, plate.output.server_version(), list(records),
                                       read_failures(folder)))
    published = plate.output.publish(_record(derived_record), tables, [*about, outputs["run"]], list(records.values()),
                                     {**marks(settings), **step_marks(settings)})
    write(outputs["record"], json.dumps(published, indent=1))
