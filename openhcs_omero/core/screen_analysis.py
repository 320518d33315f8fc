"""The analysis of all plates of a run: results for each plate, next to its tables, and for the whole screen."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from openhcs_omero.analysis.parquet import About, write_parquet
from openhcs_omero.analysis.profiles import write_profiles
from openhcs_omero.analysis.report import Links, write_report
from openhcs_omero.analysis.screen import Answers, about_columns, analyze
from openhcs_omero.analysis.settings import AnalysisSettings, read_settings
from openhcs_omero.analysis.well_tables import described_columns, described_features, read_tables, write_table
from openhcs_omero.core.channels import in_columns
from openhcs_omero.core.config import Settings
from openhcs_omero.core.failures import read_failures
from openhcs_omero.core.figures import load_thumbnails
from openhcs_omero.core.outlines import draw_outlines
from openhcs_omero.core.plate_tables import read_places, read_rows
from openhcs_omero.core.records import WellRecord, read_record
from openhcs_omero.core.state import plate_title, recorded_state
from openhcs_omero.core.steps.columns import with_names
from openhcs_omero.core.treatments import RecordedTreatments, as_plate_map
from openhcs_omero.core.well_file import read_well_record, well_file, well_files
from openhcs_omero.io.atomic import write

PICTURES = 300
"""At most this many hits have a picture in the report."""
OUTLINED = 12
"""Outlines of objects are shown of at most this many plates, the first ones."""


def analyze_screen(
    settings: Settings, plates: Sequence[str], tables: Sequence[Path], folder: Path, left_out: Mapping[str, str]
) -> None:
    """Analyze the tables of wells of all plates.

    Parameters
    ----------
    settings
        The configuration.
    plates
        Labels of the plates whose folders get results; those of a plate that is left out are empty.
    tables
        `wells.csv` of each plate that was processed and is not left out.
    folder
        Folder for the results of the whole screen and the report. Results of a single plate go to the plate's folder.
    left_out
        Why plates are left out, by label. The report says so.
    """
    assert settings.analysis is not None
    chosen = read_settings(settings.analysis)
    folder.mkdir(parents=True, exist_ok=True)
    notes = [f"plate {label} is not analyzed: {reason}" for label, reason in left_out.items()]
    measured = [table for table in tables if table.stat().st_size]
    notes += [
        f"{table.parent.name} is not analyzed: it has no measured wells" for table in tables if table not in measured
    ]
    about: About = {}
    answers = _answers(settings, chosen, measured) if measured else None
    if answers is None:
        print("\n".join([*notes, "there is nothing to analyze"]))
        for path in [folder / name for name in (*settings.screen_answers, "report.html")]:
            _write_nothing(path)
    else:
        answers = replace(answers, notes=[*notes, *answers.notes, *_failures(tables)])
        print("\n".join(answers.notes))
        about = about_columns(answers.features, chosen, described_columns(tables))
        _write_screen(answers, chosen, folder, about)
        write_report(
            answers,
            chosen,
            folder / "report.html",
            _links(settings, chosen),
            _thumbnails(settings, answers, chosen.acquisition),
            _outlines(settings, [label for label in plates if label not in left_out]),
        )
    for label in plates:
        _write_plate(settings, answers, label, about)


def _answers(settings: Settings, chosen: AnalysisSettings, tables: Sequence[Path]) -> Answers:
    table = read_tables(tables, chosen.timepoint, chosen.acquisition)
    table = _with_names_of_channels(table, settings)
    if chosen.features is None and (described := described_features(tables)) is not None:
        added = [name for name in settings.named_columns if name in table.columns and name not in described]
        chosen = replace(chosen, features=[*described, *added])
    plate_map = None
    if settings.has_map:  # the tables contain its columns only as text and without units
        recorded = RecordedTreatments(settings)
        plate_map = as_plate_map({label: recorded[label] for label in dict.fromkeys(table["plate"])})
        table = table.drop(columns=plate_map.columns, errors="ignore")
    return analyze(table, chosen, plate_map)


def _write_screen(answers: Answers, chosen: AnalysisSettings, folder: Path, about: About) -> None:
    """Write the results of all plates together."""
    for name, made in answers.tables().items():
        if name != "normalised.csv":  # it would repeat every value of every plate
            write_table(made, folder / name, about)
    write_profiles(answers, chosen, folder)


def _with_names_of_channels(table: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Add the columns that the configuration asks for by the name of a channel, such as ``spots_cGFP``.

    Each plate has its own number of the channel.
    """
    asked = [name for name in settings.named_columns if name not in table.columns]
    if not in_columns(asked):
        return table
    added = pd.DataFrame(float("nan"), index=table.index, columns=asked)
    for label in set(table["plate"]):
        known = with_names(map(str, table.columns), recorded_state(settings.folder(label)).channel_names)
        for name in set(asked) & set(known):
            rows = table["plate"] == label
            added.loc[rows, name] = table.loc[rows, known[name]]
    return table.join(added.dropna(axis="columns", how="all"))


def _write_nothing(path: Path) -> None:
    write(path, "")
    if path.suffix == ".csv":
        write_parquet(path)


def _failures(tables: Sequence[Path]) -> list[str]:
    """Sentences about the wells that were not processed and are therefore not analyzed."""
    count = sum(len(read_rows(table.with_name("failed.csv"))) for table in tables)
    return [f"{count} wells failed and are not analyzed: see failed.csv"] if count else []


def _write_plate(settings: Settings, answers: Answers | None, label: str, about: About) -> None:
    """Write the results of one plate. A plate that was stopped, left out or has no measured wells gets empty lists."""
    folder = settings.folder(label)
    if answers is None or label not in set(answers.normalized["plate"]):
        for name in settings.plate_answers:
            _write_nothing(folder / name)
        return
    normalized = answers.normalized[answers.normalized["plate"] == label]
    write_table(answers.quality[answers.quality["plate"] == label], folder / "quality.csv")
    write_table(normalized, folder / "normalised.csv", about)
    lists: Mapping[str, pd.DataFrame | None] = {
        "hits.csv": None if answers.hits is None else answers.hits[answers.hits["plate"] == label],
        "dose_response.csv": None
        if answers.dose_response is None
        else answers.dose_response[answers.dose_response["compound"].isin(normalized["compound"])],
    }
    for name, made in lists.items():
        if made is None:
            continue
        stopped = label in answers.stopped
        write_table(made.iloc[:0] if stopped else made, folder / name, about)
        if stopped:
            write(folder / name, "")  # an empty file is not attached


def _links(settings: Settings, chosen: AnalysisSettings) -> Links | None:
    """Links to the first derived image of each well, of the analyzed acquisition if the plate has several.

    Only for plates in OMERO, if the configuration names an OMERO.web.
    """
    if chosen.web is None:
        return None
    from openhcs_omero.core.outputs.omero import OMEROWell  # runs over folders must not need OMERO

    images = {}
    for label in settings.plates:
        folder = settings.folder(label)
        sources = (read_record(folder / "wells.json", dict[str, WellRecord]) if chosen.acquisition else None) or {}
        for well, file in well_files(folder).items():
            record = read_well_record(file, OMEROWell)
            if record is not None:
                sites = sources[well].images if well in sources else ()
                runs = [image.acquisition and image.acquisition[1] for image in sites]
                first = runs.index(chosen.acquisition) if chosen.acquisition in runs else 0
                images[label, well] = record.images[first][0]
    return Links(chosen.web, images)


def _thumbnails(settings: Settings, answers: Answers, acquisition: str | None) -> dict[tuple[str, str], bytes]:
    """PNG pictures of the first hits in the analyzed acquisition, channels side by side.

    Each channel has the same gray scale for all hits.
    """
    if answers.hits is None:
        return {}
    import imagecodecs

    pictures: dict[tuple[str, str], np.ndarray] = {}
    for plate, well in zip(answers.hits["plate"].head(PICTURES), answers.hits["well"].head(PICTURES)):
        found = load_thumbnails(well_file(settings.folder(plate), well))
        if chosen := [one for one in found if one.acquisition and one.acquisition[1] == acquisition] or found:
            pictures[plate, well] = chosen[0].picture.astype("float32")
    most = max((len(picture) for picture in pictures.values()), default=0)
    limits = [
        np.percentile(
            np.concatenate([picture[c].ravel() for picture in pictures.values() if len(picture) > c]), [1, 99.7]
        )
        for c in range(most)
    ]
    return {key: bytes(imagecodecs.png_encode(_side_by_side(picture, limits))) for key, picture in pictures.items()}


def _outlines(settings: Settings, labels: Iterable[str]) -> dict[str, bytes]:
    """JPEG pictures of the best and worst wells of the first plates in which steps looked for objects."""
    pictures: dict[str, bytes] = {}
    for label in itertools.islice(labels, OUTLINED):
        folder = settings.folder(label)
        failed = {failure.well for failure in read_failures(folder)}
        wells = [well for well in read_places(folder / "wells.tsv") if well not in failed]
        if (figure := draw_outlines(folder, wells, plate_title(folder, label))) is not None:
            content = io.BytesIO()
            figure.savefig(content, format="jpeg", dpi=110)
            pictures[label] = content.getvalue()
    return pictures


def _side_by_side(picture: np.ndarray, limits: Sequence[np.ndarray]) -> np.ndarray:
    gray = [np.clip((plane - low) / max(high - low, 1), 0, 1) for plane, (low, high) in zip(picture, limits)]
    return (255 * np.hstack(gray)).astype("uint8")
