"""From a CSV or TSV of features to the columns of OMERO.tables."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import omero

from openhcs_omero.plates.paths import parse_well, well_name
from openhcs_omero.plates.structure import PlateStructure
from openhcs_omero.spreadsheets import unescape_table

if TYPE_CHECKING:
    import pandas

# Measured with omero-py's HdfStorage, which a server writes tables with: HDF5 keeps the columns of a table in a header
# of at most 64 KB. A column takes so many bytes, and its name and a zero, padded to a multiple of 8.
HEADER_BYTES = 65_000
COLUMN_BYTES = {"DoubleColumn": 52, "StringColumn": 40}
OTHER_COLUMN_BYTES = 44
TEXT_BYTES = 4096  # each cell takes the room of the longest text of its column
NUMBER = 8  # bytes of a cell
RESERVED = "__"  # start of the names of the server's own columns
_SEPARATORS = {".csv": ",", ".tsv": "\t"}

OBJECT = ("labels", "label")  # the columns that name the region of interest of an object

Columns = list[Any]


def separator(name: str) -> str | None:
    """The separator of a table's file by its name; None if the name is not that of a CSV or TSV."""
    return _SEPARATORS.get(name[name.rfind(".") :].lower())


Regions = Mapping[tuple[int, str, int, int | None], int]
"""Ids of regions of interest by image, name, t, and c or None for all channels."""


def tables_of(
    plate: PlateStructure, name: str, data: bytes, say: Callable[[str], Any], find_regions: Callable[[], Regions]
) -> dict[str, Columns]:
    """The columns with their values of the tables that a file becomes, by the name of the table.

    Each table has the columns that say which well, site and timepoint a row is of.

    Parameters
    ----------
    plate
        The plate that the file is attached to.
    name, data
        The file's name and bytes.
    say
        Called with a sentence about each column that is left out, about rows without a region of interest, and if the
        file becomes several tables.
    find_regions
        Called for the regions of interest of the plate's images if the file lists objects.

    Returns
    -------
    dict
        Empty if the file is not a table of features: it has no rows, or they don't name wells or sites of the plate, or
        several are of the same well, acquisition, site and timepoint. A file of objects has one row per object.
    """
    features, rois = _read(name, data), None
    if features is not None and {"site", *OBJECT} <= set(features):
        regions = find_regions()
        if not regions:  # those of the source plate, for example
            return {}
        found = _regions_of(plate, features, regions)
        if missing := found.count(None):
            say(f"{name}: {missing} objects have no region of interest, and are not in the OMERO.table")
        rois = [roi for roi in found if roi is not None]
        features = features[[roi is not None for roi in found]]
    keys = None if features is None or features.empty else _keys(plate, features, rois)
    if features is None or keys is None:
        return {}
    taken = {column.name for column in keys} | {"plate", "well"}
    columns, left_out = [], []
    for key, values in _values(features):
        column = _column(key.replace("/", "\\"), values)
        why = _why_left_out(column, taken)
        taken.add(column.name)
        if key in ("plate", "well", "acquisition", "site", "t"):
            continue
        if why:
            left_out.append(f"{name}: the column {key[:100]} is not in the OMERO.table, because {why}")
        else:
            columns.append(column)
    for note in left_out:
        say(note)
    groups = _groups(keys, columns)
    if len(groups) == 1:
        return {name: groups[0]}
    say(f"{name} has {len(columns)} columns, more than an OMERO.table takes, so it became {len(groups)} tables")
    return {f"{name} ({number} of {len(groups)})": group for number, group in enumerate(groups, 1)}


def _keys(plate: PlateStructure, features: "pandas.DataFrame", rois: list[int] | None) -> Columns | None:
    """The columns that say what a row is about; None if the rows don't fit the plate or are not unique.

    `rois` are the regions of interest of the rows, if they are objects.
    """
    names = [_well(text) for text in features["well"]]
    sites = features["site"].tolist() if "site" in features else None
    runs = features["acquisition"].fillna("").tolist() if "acquisition" in features else None
    times = features["t"].tolist() if "t" in features else None
    places = list(zip(names, *(values for values in (sites, runs, times, rois) if values is not None)))
    if len(set(places)) < len(places) or not set(names) <= set(plate.wells):
        return None
    wells = [plate.wells[well or ""] for well in names]
    if sites and not all(site in well.images for well, site in zip(wells, sites)):
        return None
    keys: Columns = [
        omero.grid.PlateColumn("Plate", "", [plate.plate_id] * len(names)),
        omero.grid.WellColumn("Well", "", [well.well_db_id for well in wells]),
    ]
    if sites:
        keys.append(omero.grid.ImageColumn("Image", "", [well.images[s].image_id for well, s in zip(wells, sites)]))
    if rois:
        keys.append(omero.grid.RoiColumn("Roi", "", rois))
    keys.append(_column("Well Name", names))
    if sites:
        keys.append(omero.grid.LongColumn("site", "", sites))
    if runs:
        keys.append(_column("acquisition", runs))
    if times:
        keys.append(_column("t", times))
    return keys


def _regions_of(plate: PlateStructure, objects: "pandas.DataFrame", regions: Regions) -> list[int | None]:
    """The id of each object's region of interest; None if it has none."""

    def region_of(row: Mapping[Any, Any]) -> int | None:
        well = plate.wells.get(_well(row["well"]) or "")
        image = well.images.get(row["site"]) if well else None
        label, t = _whole(row["label"]), _whole(row.get("t"))
        if image is None or label is None:
            return None
        place = image.image_id, f"{row['labels']} {label}", t or 0
        return regions.get((*place, None), regions.get((*place, row.get("channel"))))

    return [region_of(row) for row in objects.to_dict("records")]


def _whole(value: Any) -> int | None:
    """A whole number; None for what is missing or a text."""
    try:
        return int(float(value))
    except (TypeError, ValueError, OverflowError):
        return None


def _why_left_out(column: Any, taken: set[str]) -> str:
    if column.name in taken:
        return "it has another column of that name"
    if column.name.startswith(RESERVED):
        return f"names that start with {RESERVED} are the server's own"
    if getattr(column, "size", 0) > TEXT_BYTES:
        return f"it has a text of {column.size} bytes, and a table takes {TEXT_BYTES}"
    return "its name is too long" if _header_bytes(column) > HEADER_BYTES // 4 else ""


def _groups(keys: Columns, columns: Columns) -> list[Columns]:
    """Split columns, in their order, into as few tables as their headers allow; each begins with the keys."""
    start = sum(map(_header_bytes, keys))
    groups, used = [list(keys)], start
    for column in columns:
        size = _header_bytes(column)
        if used + size > HEADER_BYTES:
            groups.append(list(keys))
            used = start
        groups[-1].append(column)
        used += size
    return groups


def _header_bytes(column: Any) -> int:
    name = (len(column.name.encode()) // 8 + 1) * 8
    return COLUMN_BYTES.get(type(column).__name__, OTHER_COLUMN_BYTES) + name


def _read(name: str, data: bytes) -> "pandas.DataFrame | None":
    """The file's rows; None if it has none or they do not name wells."""
    if not data.strip():
        return None
    import pandas  # takes half a second, so only tables import it

    try:
        texts = {"well": str, "acquisition": str}
        rows = pandas.read_csv(
            io.BytesIO(data), sep=separator(name), dtype=texts, keep_default_na=False, na_values=["", "nan"]
        )
    except (ValueError, UnicodeError):
        return None
    rows = unescape_table(rows)
    if "well" not in rows or rows.empty or ("site" in rows and rows["site"].dtype.kind != "i"):
        return None
    return rows


def _well(text: Any) -> str | None:
    try:
        return well_name(*parse_well(str(text)))
    except ValueError:
        return None


def _values(rows: "pandas.DataFrame") -> Iterator[tuple[str, list[Any]]]:
    """Names and values of columns: bool, int, float (NaN where missing) or str."""
    for key, column in rows.items():
        if column.dtype.kind in "bif":
            yield str(key), column.tolist()
        elif column.dtype.kind == "u":  # too large for OMERO's integers
            yield str(key), column.astype(float).tolist()
        else:
            yield str(key), ["" if value != value else str(value) for value in column.tolist()]


def _column(name: str, values: Sequence[Any]) -> Any:
    kind = type(values[0])
    if kind is str:
        return omero.grid.StringColumn(name, "", max(1, *(len(value.encode()) for value in values)), list(values))
    made = {bool: omero.grid.BoolColumn, int: omero.grid.LongColumn, float: omero.grid.DoubleColumn}[kind]
    return made(name, "", list(values))


def part_of(column: Any, start: int, stop: int) -> Any:
    """The same column with some of its values."""
    size = [column.size] if isinstance(column, omero.grid.StringColumn) else []
    return type(column)(column.name, column.description, *size, column.values[start:stop])


def row_bytes(columns: Sequence[Any]) -> int:
    """The bytes that a row takes at most in a call."""
    return sum(getattr(column, "size", NUMBER) for column in columns)
