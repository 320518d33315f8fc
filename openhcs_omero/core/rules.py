"""The work of the workflow's jobs: derive the plate, estimate, process a well, publish the tables."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openhcs_omero.core.channels import numbered_settings
from openhcs_omero.core.config import IN_OMERO, Settings, read_config
from openhcs_omero.core.estimate_job import estimate as compute_estimates
from openhcs_omero.core.failures import FailedWell, Failure, read_failures, without_results
from openhcs_omero.core.features import Features
from openhcs_omero.core.figures import (
    Channel,
    Thumbnail,
    choose_features,
    heatmap,
    load_thumbnails,
    montage,
    pack_thumbnails,
    save_png,
)
from openhcs_omero.core.notes import well_notes
from openhcs_omero.core.orchestrator.snakefile import find_workflow
from openhcs_omero.core.outlines import draw_outlines, pack_part
from openhcs_omero.core.outputs.base import ImageId
from openhcs_omero.core.plate_tables import TEXTS, aggregate, csv_of, read_columns, read_places, read_rows, write_rows
from openhcs_omero.core.plates import Plate, choose_wells, open_plates
from openhcs_omero.core.provenance import as_yaml, describe_run, marks, step_marks
from openhcs_omero.core.qc import acquired_of, excluded_sites, measure_wells
from openhcs_omero.core.records import DerivedPlate, Kind, WellRecord, read_record, recorded_listing, to_json
from openhcs_omero.core.state import plate_title, recorded_state
from openhcs_omero.core.steps.loading import load_step
from openhcs_omero.core.treatments import recorded_treatments
from openhcs_omero.core.well import Processed, WellFailed, process, thumbnail
from openhcs_omero.core.well_file import manifest, read_well_record, well_file, write_well_file
from openhcs_omero.errors import OpenHCSError
from openhcs_omero.io.atomic import write
from openhcs_omero.plates.image import NewImage

if TYPE_CHECKING:
    from openhcs_omero.omero.connection import BlitzGateway
    from openhcs_omero.omero.server import Server
    from openhcs_omero.plates.listing import PlateListing


def _open(settings: Settings, plate: str) -> Plate:
    return open_plates(settings, [plate], _connect)[0]


def _connect(server: Server) -> BlitzGateway:
    from openhcs_omero.omero.connection import connect_job  # jobs over folders need no OMERO

    return connect_job(server)


def _record(path: Path, kind: type[Kind]) -> Kind:
    return _existing(path, read_record(path, kind))


def _well_record(path: Path, kind: type[Kind]) -> Kind:
    return _existing(path, read_well_record(path, kind))


def _existing(path: Path, record: Kind | None) -> Kind:
    if record is None:
        raise OpenHCSError(f"{path} is missing or damaged: run the workflow again")
    return record


def _well_records(path: Path) -> dict[str, WellRecord]:
    """The records of all wells of a plate; a worker process reads them only once."""
    return _parsed(path, _written(path))


def _written(path: Path) -> int:
    """When a file was written; 0 if it is not there."""
    return path.stat().st_mtime_ns if path.exists() else 0


@functools.lru_cache(maxsize=2)
def _parsed(path: Path, _at: int) -> dict[str, WellRecord]:
    return _record(path, dict[str, WellRecord])


def _listing(path: Path, plate_path: str) -> PlateListing:
    """The listing of all wells of a plate, from their records; a worker process makes it only once."""
    return _listed(path, plate_path, _written(path))


@functools.lru_cache(maxsize=2)
def _listed(path: Path, plate_path: str, _at: int) -> PlateListing:
    return recorded_listing(_well_records(path), plate_path)


def derive(settings: Settings, label: str, record: Path) -> None:
    """Create or update the derived plate, and record where it is."""
    plate = _open(settings, label)
    derived = plate.output.derive(choose_wells(plate, settings), marks(settings))
    write(record, to_json(derived))


def estimate(
    settings: Settings, label: str, position: int, channel: int, earlier: Sequence[Path], output: Path
) -> None:
    """Compute a step's estimates for one channel of a plate, see `openhcs_omero.core.estimate_job.estimate`."""
    compute_estimates(numbered_settings(settings, label), _open(settings, label), position, channel, earlier, output)


def measure_images(settings: Settings, label: str, wells: Sequence[str], output: Path) -> None:
    """Measure the quality of the images of some wells of a plate."""
    plate, known = _open(settings, label), _well_records(settings.folder(label) / "wells.json")
    measure_wells(plate, {well: known[well] for well in wells}, output)
    plate.handler.close()


def process_well(
    settings: Settings,
    label: str,
    well: str,
    derived_record: Path,
    estimates: Sequence[Path],
    output: Path,
    log: Path,
    threads: int = 1,
) -> Failure | None:
    """Run the steps on all sites of a well, write its derived images, and save the measurements.

    If a step fails, the well's record says so. `annotate` then removes the images that an earlier run wrote for it.

    Parameters
    ----------
    derived_record
        The record of the derived plate.
    estimates
        `<position>_<function>_c<channel>.npz` files.
    output
        The file to write (well_file.py).
    log
        The job's log; the record of a failed well contains its path.
    threads
        Number of CPUs of the job.

    Returns
    -------
    Failure or None
        Why the well has no results.
    """
    plate = _open(settings, label)
    derived = _record(derived_record, DerivedPlate)
    plate = replace(plate, known=_listing(settings.folder(label) / "wells.json", plate.path))
    try:
        done = process(numbered_settings(settings, label), plate, derived, well, estimates, threads)
    except WellFailed as error:
        traceback.print_exception(error.__cause__)
        return _fail(plate, derived, Failure(label, well, error.site, error.step, error.reason, str(log)), output)
    record = plate.output.write_well(derived, well, done.images, done.files, marks(settings))
    first, run = done.images[min(done.images)], plate.structure.image(well, min(done.images)).acquisition
    write_well_file(
        output,
        to_json(record),
        csv_of(done.features),
        csv_of(done.objects),
        pack_thumbnails(_thumbnails(plate, well, done)),
        pack_part(min(done.images), first.pixels, first.labels, _names(first), run[1] if run else ""),
    )
    return None


def well_crashed(
    settings: Settings, label: str, well: str, derived_record: Path, output: Path, log: Path, signal: str
) -> Failure:
    """Record that a well has no results because its process crashed; the log has the lines of code that ran then."""
    reason = f"the process crashed ({signal}); the log says where"
    failure = Failure(label, well, None, "running the steps", reason, str(log))
    return _fail(_open(settings, label), _record(derived_record, DerivedPlate), failure, output)


def _fail(plate: Plate, derived: DerivedPlate, failure: Failure, output: Path) -> Failure:
    """Record that a well failed."""
    earlier = "removed" if plate.output.has_images(derived, failure.well) else ""  # when the plate is published
    failure = replace(failure, earlier_images=earlier)
    write_well_file(output, to_json(FailedWell(failure)), thumbnail=pack_thumbnails([]))
    return failure


def _thumbnails(plate: Plate, well: str, done: Processed) -> list[Thumbnail]:
    """A thumbnail of the first site of each acquisition of a well."""
    sites = plate.structure.wells[well].images
    firsts = {sites[site].acquisition: done.images[site] for site in sorted(done.images, reverse=True)}
    return [
        Thumbnail(
            thumbnail(image.pixels),
            [
                Channel(name, color, number in done.label_channels)
                for number, (name, color) in enumerate(zip_longest(_names(image), image.colors))
            ],
            run,
        )
        for run, image in firsts.items()
    ]


def _names(image: NewImage) -> Sequence[str | None]:
    return image.channel_names or [None] * image.pixels.shape[1]


def put_together(settings: Settings, label: str, wells: Path, tables: Mapping[str, Path]) -> None:
    """Combine the tables of all wells, and list the wells that failed; everything as CSV and as Parquet.

    Parameters
    ----------
    settings
        The configuration.
    label
        Label of the plate.
    wells
        The table of wells.
    tables
        The files to write: those of `aggregate`, `failed`, and `manifest`, the hashes of the files of all wells.
    """
    from openhcs_omero.analysis.parquet import write_parquet  # only this job needs it

    declared = Features.of((step, load_step(step)) for step in settings.steps)
    folder, own = settings.folder(label), {name: tables[name] for name in ("features", "wells", "objects", "columns")}
    state = recorded_state(folder)
    aggregate(
        wells,
        folder,
        own,
        declared,
        recorded_treatments(folder),
        excluded_sites(folder) if settings.excludes_sites else None,
        acquired_of(folder) if settings.has_qc else None,
        state.skipped,
        state.skipped_planes,
    )
    write(tables["manifest"], manifest(well_file(folder, row["well"]) for row in read_rows(wells, "\t")))
    failures = read_failures(folder)
    if len(failures) == len(read_places(wells)):
        failures = without_results(failures)
    write_rows(tables["failed"], [asdict(failure) for failure in failures])
    write_parquet(tables["failed"], TEXTS)


def draw_heatmaps(folder: Path, label: str, wanted: Sequence[str] | None, output: Path) -> None:
    """Draw the heat maps of a plate, one per acquisition; for a time series, those of the last timepoint."""
    output.mkdir(parents=True, exist_ok=True)
    columns, rows = read_columns(folder / "columns.csv"), read_rows(folder / "wells.csv")
    last = max((int(row["t"]) for row in rows if row.get("t")), default=None)
    rows = [row for row in rows if last is None or row["t"] == str(last)]
    title = plate_title(folder, label) + ("" if last is None else f", timepoint {last}")
    runs = sorted({row.get("acquisition", "") for row in rows}) or [""]
    excluded = {row["well"] for row in rows if row.get("sites_excluded", "0") != "0"}
    for number, run in enumerate(runs, 1):
        of_run = [row for row in rows if row.get("acquisition", "") == run]
        for feature in choose_features(columns, wanted, recorded_state(folder).channel_names):
            about = columns[feature]
            unit = f" ({about['unit']})" if about["unit"] else ""
            heatmap(
                read_places(folder / "wells.tsv"),
                {row["well"]: row[feature] for row in of_run},
                f"{feature}\n{title}{f', acquisition {run}' if run else ''}",
                output / (f"{feature}_acquisition_{number}.png" if len(runs) > 1 else f"{feature}.png"),
                f"{about['statistic']}{unit}",
                {failure.well for failure in read_failures(folder)},
                excluded,
            )


def draw_pictures(folder: Path, label: str, output: Path, outlines: Path) -> None:
    """Draw the montage of a plate, and outlines of objects if steps looked for any."""
    failed = {failure.well for failure in read_failures(folder)}
    places = read_places(folder / "wells.tsv")
    good = [well for well in places if well not in failed]
    montage(
        places,
        {well: load_thumbnails(well_file(folder, well)) for well in good},
        plate_title(folder, label),
        output,
        failed,
        sorted({well for well, _ in excluded_sites(folder)}),
    )
    outlines.mkdir(parents=True, exist_ok=True)
    figure = draw_outlines(folder, good, plate_title(folder, label))
    if figure is not None:
        save_png(figure, outlines / "outlines.png", dpi=200)


def annotate(
    config: Mapping[str, Any],
    label: str,
    derived_record: Path,
    tables: Sequence[Path],
    objects: Path,
    about: Sequence[Path],
    outputs: Mapping[str, Path],
) -> None:
    """Publish the tables where people look for them, and record what was published.

    Parameters
    ----------
    tables
        The measurements of sites and wells.
    objects
        The measurements of objects, which may be many.
    about
        Other files about the results, only for the derived plate.
    outputs
        The files to write: `run`, the description of how the results were made, `crate`, the same as an RO-Crate with a
        copy of the workflow in `snakefile`, and `record`.
    """
    from openhcs_omero.core.crate import crate_of  # slow to import

    settings = read_config(config)
    plate, folder = _open(settings, label), settings.folder(label)
    names = [row["well"] for row in read_rows(folder / "wells.tsv", "\t")]
    failures = read_failures(folder)
    failed = {failure.well for failure in failures}
    good = [well for well in names if well not in failed]
    records = {
        well: None if well in failed else _well_record(well_file(folder, well), plate.output.well_type)
        for well in names
    }
    derived = _record(derived_record, DerivedPlate)
    notes = plate.output.attach_tables(derived, [*tables, objects]) if good else []
    for note in notes:
        print(note)
    numbered, server = numbered_settings(settings, label), plate.output.server_version()
    run = describe_run(config, numbered, label, server, good, failures, [*recorded_state(folder).notes, *notes])
    write(outputs["run"], as_yaml(run))
    published = plate.output.publish(
        derived,
        [*tables, objects],
        [*about, outputs["run"]],
        records,
        {**marks(settings), **step_marks(settings)},
        well_notes(settings, label),
        settings.map_on_source
        and settings.options[label].plate_map != IN_OMERO,  # where they come from OMERO, they are there
    )
    write(outputs["snakefile"], (find_workflow() / "workflow" / "Snakefile").read_text())
    read, written = _images(folder, good), [image for well in good for image in plate.output.images(records[well])]
    files = [path for path in [*tables, objects, *about, outputs["run"]] if path.parent == folder]
    user = plate.output.user()
    write(outputs["crate"], crate_of(run, user, derived.path, read, written, outputs["snakefile"], files))
    write(outputs["record"], to_json(published, indent=1))


def _images(folder: Path, wells: Sequence[str]) -> list[ImageId]:
    """The source images of the wells."""
    records = _well_records(folder / "wells.json")
    return [
        ImageId(f"{well}, site {image.site}", image.image_id, None if image.image_id is None else image.sha1)
        for well in wells
        for image in records[well].images
    ]
