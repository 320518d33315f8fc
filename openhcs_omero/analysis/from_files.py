"""What `openhcs-omero analyse` does: from the files of tables to the files of answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from openhcs_omero.analysis.plate_maps import MappedPlate, read_plate_map
from openhcs_omero.analysis.profiles import write_profiles
from openhcs_omero.analysis.screen import Answers, about_columns, analyze
from openhcs_omero.analysis.settings import read_settings
from openhcs_omero.analysis.well_tables import described_columns, described_features, read_tables, write_table
from openhcs_omero.errors import ConfigError, OpenHCSError


def analyze_files(tables: Sequence[Path], config: Path, out: Path | None = None) -> list[str]:
    """Analyze tables of wells, and write quality.csv, normalised.csv, ..., each also as Parquet, and report.html.

    Parameters
    ----------
    tables
        Files with one row per well.
    config
        A YAML file with the keys `plate_map`, `analysis` and `qc`. Paths in it start where the command does.
    out
        The folder for the results; that of the tables if it is None.

    Returns
    -------
    list of str
        What is said to the user: notes, and what was written.
    """
    from openhcs_omero.analysis.report import write_report

    keys = read_config(config)
    settings = read_settings(keys)
    folder = out or _folder_of(tables)
    table = read_tables(tables, settings.timepoint, settings.acquisition)
    if settings.features is None:
        settings = replace(settings, features=described_features(tables))
    plates = {plate: MappedPlate((plate,)) for plate in table["plate"].unique()}
    plate_map = read_plate_map(Path(keys["plate_map"]), plates) if keys.get("plate_map") else None
    answers = analyze(table, settings, plate_map)
    folder.mkdir(parents=True, exist_ok=True)
    about = about_columns(answers.features, settings, described_columns(tables))
    for name, made in answers.tables().items():
        write_table(made, folder / name, about)
    profiles = write_profiles(answers, settings, folder)
    write_report(answers, settings, folder / "report.html")
    files = [*answers.tables(), *profiles, "report.html"]
    return [*answers.notes, *_summary(answers), f"written to {folder}: {', '.join(files)}; every CSV also as Parquet"]


def read_config(path: Path) -> dict[str, Any]:
    """The keys of a YAML file."""
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"the configuration {path} can't be read: it is no regular file")
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"the configuration {path} can't be read: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a YAML file: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path} has no keys: expected plate_map, analysis or qc")
    return found


def _folder_of(tables: Sequence[Path]) -> Path:
    folders = {table.resolve().parent for table in tables}
    if len(folders) > 1:
        raise OpenHCSError(f"the tables are in {len(folders)} folders: choose the folder of the results with --out")
    return tables[0].parent


def _summary(answers: Answers) -> list[str]:
    plates = answers.normalized["plate"].nunique()
    lines = [f"{len(answers.normalized)} wells on {plates} plate{'s' if plates > 1 else ''}"]
    if answers.hits is not None:
        lines.append(f"{len(answers.hits)} hits")
    fits: pd.DataFrame | None = answers.dose_response
    if fits is not None:
        lines.append(f"{int(fits['ec50'].notna().sum())} of {len(fits)} compounds have a dose response")
    return lines
