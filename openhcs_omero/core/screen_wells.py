"""The wells of all plates of a run in one table, which is also attached to their screens in OMERO."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from openhcs_omero.core.config import Settings
from openhcs_omero.core.plate_tables import in_order, write_tables
from openhcs_omero.core.records import DerivedPlate, read_record, to_json
from openhcs_omero.io.atomic import write
from openhcs_omero.spreadsheets import unescape_table

if TYPE_CHECKING:
    import pandas as pd

    from openhcs_omero.omero.connection import BlitzGateway
    from openhcs_omero.omero.server import Server

NAME = "screen_wells.csv"
RECORD = "annotations.json"  # beside it: what is attached


@dataclass(frozen=True)
class AttachedTable:
    """The table as it is attached: its SHA-1 by id of the screen."""

    screens: dict[str, str | None]


def gather_wells(tables: Sequence[Path], output: Path) -> None:
    """Write the tables of wells of several plates below one another, as CSV and as Parquet.

    Only the table of one plate is in memory at a time. A column that a plate lacks is empty there.

    Parameters
    ----------
    tables
        The CSV table of each plate, with a Parquet file beside it. An empty file is a plate without measured wells.
    output
        The CSV file to write.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from openhcs_omero.analysis.parquet import ABOUT, parquet_beside, write_parquet

    measured = [table for table in tables if table.stat().st_size]
    fields = [field for table in measured for field in pq.read_schema(parquet_beside(table))]
    texts = {field.name for field in fields if pa.types.is_string(field.type)}
    about = {
        field.name: {key: text.decode() for key in ABOUT if (text := (field.metadata or {}).get(key.encode()))}
        for field in fields
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    write_tables(map(_read, measured), output, in_order(field.name for field in fields))
    write_parquet(output, texts, about)


def _read(table: Path) -> pd.DataFrame:
    import pandas as pd

    return unescape_table(pd.read_csv(table, dtype=str, keep_default_na=False))


def attach_wells(settings: Settings, derived: Sequence[Path], table: Path, record: Path) -> None:
    """Attach the table of all wells to the screens of derived plates, and to the screens of their sources.

    Parameters
    ----------
    derived
        The records of the derived plates.
    table
        The table; if it is empty, an earlier version is removed.
    record
        The file to write, which says what is attached.
    """
    from openhcs_omero.omero.connection import connect_job
    from openhcs_omero.omero.derived_screen import attach_to_screens, derived_screens

    conn = connect_job(settings.server())
    records = [read_record(path, DerivedPlate) for path in derived]
    ids = [int(one.derived_plate) for one in records if one is not None and one.source_plate is not None]
    screens = derived_screens(conn, ids)
    if not screens:
        print("the plates are in no screen of OMERO: the table is not attached")
    write(record, to_json(AttachedTable(attach_to_screens(conn, screens, settings.output, table)), indent=1))


def is_attached(settings: Settings, connect: Callable[[Server], BlitzGateway]) -> bool:
    """Whether all that was attached to screens is there unchanged; also if nothing was, and then no server is asked."""
    record = read_record(settings.screen_folder / RECORD, AttachedTable)
    if record is None or not record.screens:
        return True
    from openhcs_omero.omero.derived_screen import attached_to_screens

    ids = [int(screen) for screen in record.screens]
    return record.screens == attached_to_screens(connect(settings.server()), ids, settings.output, NAME)
