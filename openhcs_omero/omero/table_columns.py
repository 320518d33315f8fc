"""From a CSV or TSV of features to OMERO.tables.

The file may be large: it is read in chunks, several times, and is never in memory as a whole.
"""

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import omero

from openhcs_omero.plates.paths import parse_well, well_name
from openhcs_omero.plates.structure import PlateStructure
from openhcs_omero.spreadsheets import unescape, unescape_table

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
KEYS = ("plate", "well", "acquisition", "site", "t")
CELLS = 500_000  # of a chunk
CHUNK_BYTES = 2**25  # of the texts of a chunk in a call

Columns = list[Any]
Regions = Mapping[tuple[int, str, int, int | None], int]
"""Ids of regions of interest by image, name, t, and c or None for all channels."""


@dataclass(frozen=True)
class Table:
    """An OMERO.table to be.

    Parameters
    ----------
    columns
        The columns, without values.
    digest
        A hash of the columns and their values.
    read
        Yields the columns with the values of some rows after another.
    """

    columns: Columns
    digest: str
    read: Callable[[], Iterator[Columns]]


def separator(name: str) -> str | None:
    """The separator of a table's file by its name; None if the name is not that of a CSV or TSV."""
    return _SEPARATORS.get(name[name.rfind(".") :].lower())


def tables_of(
    plate: PlateStructure,
    name: str,
    data: bytes | Path,
    say: Callable[[str], Any],
    find_regions: Callable[[list[int]], Regions],
) -> dict[str, Table]:
    """The tables that a file becomes, by their names.

    Each table has the columns that say which well, site and timepoint a row is of.

    Parameters
    ----------
    plate
        The plate that the file is attached to.
    name, data
        The file's name, and its bytes or path.
    say
        Called with a sentence about each column that is left out, about rows without a region of interest, and if the
        file becomes several tables.
    find_regions
        Called for the regions of interest of some images, by id, if the file lists objects.

    Returns
    -------
    dict
        Empty if the file is not a table of features: it has no rows, or they don't name wells or sites of the plate, or
        several are of the same well, acquisition, site and timepoint. A file of objects has one row per object.
    """
    file = _File.of(name, data)
    if file is None:
        return {}
    rois = None
    if {"site", *OBJECT} <= set(file.names):
        rois = [_regions_of(plate, chunk, find_regions) for chunk in file.chunks([*KEYS, *OBJECT, "channel"])]
        missing = sum(int((found < 0).sum()) for found in rois)
        if missing == sum(map(len, rois)):  # on the source plate, for example
            return {}
        if missing:
            say(f"{name}: {missing} objects have no region of interest, and are not in the OMERO.table")
    about = _about(plate, file, rois)
    if about is None:
        return {}
    keys, columns = [one for one in about if one.is_key], [one for one in about if not one.is_key]
    taken, chosen = {one.column.name for one in keys} | {"plate", "well"}, []
    for one in columns:
        if why := _why_left_out(one.column, taken):
            say(f"{name}: the column {one.key[:100]} is not in the OMERO.table, because {why}")
        else:
            chosen.append(one)
        taken.add(one.column.name)
    groups = _groups(keys, chosen)
    if len(groups) > 1:
        say(f"{name} has {len(chosen)} columns, more than an OMERO.table takes, so it became {len(groups)} tables")
    names = (
        [name] if len(groups) == 1 else [f"{name} ({number} of {len(groups)})" for number in range(1, len(groups) + 1)]
    )
    return {part: _table(plate, file, rois, group) for part, group in zip(names, groups)}


@dataclass(frozen=True)
class _File:
    """A CSV or TSV file whose rows name wells.

    Parameters
    ----------
    name
        Its name.
    data
        Its bytes or path.
    header
        The names of its columns, as they are written.
    kinds
        What the values of the columns are: "b" for bool, "i" for int, "f" for float, "O" for text.
    """

    name: str
    data: bytes | Path
    header: Sequence[str]
    kinds: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, data: bytes | Path) -> "_File | None":
        """None if the file has no rows, or they do not name wells."""
        try:
            file = cls(name, data, list(_read_csv(name, data, nrows=0)))
            if "well" not in file.names:
                return None
            for chunk in file.chunks():
                for key, dtype in zip(file.header, chunk.dtypes):
                    file.kinds[key] = _common(file.kinds.get(key, dtype.kind), dtype.kind)
        except (ValueError, UnicodeError):
            return None
        site = next((key for key in file.header if unescape(key) == "site"), None)
        return file if file.kinds and (site is None or file.kinds[site] == "i") else None

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [unescape(name) for name in self.header]

    def chunks(self, wanted: Sequence[str] | None = None) -> Iterator["pandas.DataFrame"]:
        """The rows, some after another, of the wanted columns; with their types as soon as these are known."""
        types: dict[str, Any] = {key: _TYPES[kind] for key, kind in self.kinds.items()}
        types |= {key: str for key in self.header if key in ("well", "acquisition")}
        columns = None if wanted is None else [key for key in self.header if unescape(key) in wanted]
        rows = max(1, CELLS // len(self.header))
        with _read_csv(self.name, self.data, dtype=types, usecols=columns, chunksize=rows) as reader:
            for chunk in reader:
                if len(chunk):  # pandas yields one without rows of a file without rows
                    yield unescape_table(chunk)


_TYPES = {"b": bool, "i": np.int64, "f": np.float64, "O": str}


def _read_csv(name: str, data: bytes | Path, **options: Any) -> Any:
    import pandas  # takes half a second, so only tables import it

    source = io.BytesIO(data) if isinstance(data, bytes) else data
    return pandas.read_csv(source, sep=separator(name), keep_default_na=False, na_values=["", "nan"], **options)


def _common(one: str, other: str) -> str:
    """The kind of a column with parts of two kinds. Whole numbers that are too large for OMERO's become floats."""
    kinds = {{"u": "f"}.get(kind, kind if kind in "bif" else "O") for kind in (one, other)}
    if len(kinds) == 1:
        return kinds.pop()
    return "f" if kinds == {"i", "f"} else "O"


@dataclass
class _About:
    """What is known about a column.

    Parameters
    ----------
    key
        Its name in the file.
    column
        The column of OMERO, without values.
    is_key
        Whether it says what a row is about.
    hash
        The hash of its values.
    """

    key: str
    column: Any
    is_key: bool
    hash: Any = field(default_factory=lambda: hashlib.sha1(usedforsecurity=False))

    def add(self, column: Any) -> None:
        """Take a part of the column into account."""
        if isinstance(column, omero.grid.StringColumn):
            self.column.size = max(self.column.size, column.size)
            self.hash.update("".join(f"{value}\0" for value in column.values).encode())
        else:
            self.hash.update(np.asarray(column.values).tobytes())


def _about(plate: PlateStructure, file: _File, rois: Sequence[np.ndarray] | None) -> list[_About] | None:
    """The columns, those that say what a row is about first; None if rows don't fit the plate or are not unique."""
    found: list[_About] = []
    places: set[tuple[Any, ...]] = set()
    rows = 0
    for chunk, part in _with_regions(file, rois):
        if not _fits(plate, chunk):
            return None
        if part is None:
            places |= set(zip(*(chunk[key].fillna("") for key in KEYS[1:] if key in chunk)))
            rows += len(chunk)
        keys, columns = _keys(plate, chunk, part), dict(_columns(chunk))
        if not found:
            found = [_About(column.name, _empty(column), True) for column in keys]
            found += [_About(key, _empty(column), False) for key, column in columns.items()]
        for about, column in zip(found, [*keys, *columns.values()]):
            about.add(column)
    return found if len(places) == rows and found else None


def _table(plate: PlateStructure, file: _File, rois: Sequence[np.ndarray] | None, group: Sequence[_About]) -> Table:
    """A table of some columns of a file."""
    digest = hashlib.sha1(usedforsecurity=False)
    for about in group:
        digest.update(f"{type(about.column).__name__} {about.column.name}\0{about.hash.hexdigest()}\0".encode())

    def read() -> Iterator[Columns]:
        wanted = {about.key: about.column for about in group if not about.is_key}
        for chunk, part in _with_regions(file, rois):
            columns = _keys(plate, chunk, part) + [column for key, column in _columns(chunk) if key in wanted]
            step = max(1, CHUNK_BYTES // sum(getattr(about.column, "size", NUMBER) for about in group))
            for start in range(0, len(columns[0].values), step):
                yield [
                    _part_of(about.column, column.values[start : start + step]) for about, column in zip(group, columns)
                ]

    return Table([about.column for about in group], digest.hexdigest(), read)


def _with_regions(
    file: _File, rois: Sequence[np.ndarray] | None
) -> Iterator[tuple["pandas.DataFrame", list[int] | None]]:
    """The rows of a file, some after another, with their regions of interest; those without one are left out."""
    if rois is None:
        yield from ((chunk, None) for chunk in file.chunks())
        return
    for chunk, found in zip(file.chunks(), rois):
        if (found >= 0).any():
            yield chunk[found >= 0], found[found >= 0].tolist()


def _fits(plate: PlateStructure, rows: "pandas.DataFrame") -> bool:
    """Whether rows name wells and sites of a plate."""
    sites = rows["site"] if "site" in rows else [None] * len(rows)
    for text, site in set(zip(rows["well"], sites)):
        well = plate.wells.get(_well(text) or "")
        if well is None or (site is not None and site not in well.images):
            return False
    return True


def _keys(plate: PlateStructure, rows: "pandas.DataFrame", rois: list[int] | None) -> Columns:
    """The columns that say what a row is about. `rois` are the regions of the rows, if they are objects."""
    known = {text: _well(text) or "" for text in set(rows["well"])}
    names = [known[text] for text in rows["well"]]
    wells = [plate.wells[name] for name in names]
    sites = rows["site"].tolist() if "site" in rows else None
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
    if "acquisition" in rows:
        keys.append(_column("acquisition", rows["acquisition"].fillna("").tolist()))
    if "t" in rows:
        keys.append(_column("t", rows["t"].tolist()))
    return keys


def _regions_of(
    plate: PlateStructure, objects: "pandas.DataFrame", find_regions: Callable[[list[int]], Regions]
) -> np.ndarray:
    """The id of each object's region of interest; -1 if it has none."""
    sites = objects["site"].tolist()
    wells = {text: plate.wells.get(_well(text) or "") for text in set(objects["well"])}
    images = [well.images.get(site) if (well := wells[text]) else None for text, site in zip(objects["well"], sites)]
    regions = find_regions(sorted({image.image_id for image in images if image is not None}))
    nothing = [None] * len(objects)

    def values(name: str) -> Sequence[Any]:
        return objects[name].tolist() if name in objects else nothing

    found = np.full(len(objects), -1, np.int64)
    each = zip(images, values("labels"), values("label"), values("t"), values("channel"))
    for number, (image, labels, label, t, channel) in enumerate(each):
        whole = _whole(label)
        if image is not None and whole is not None:
            place = image.image_id, f"{labels} {whole}", _whole(t) or 0
            found[number] = regions.get((*place, None), regions.get((*place, channel), -1))
    return found


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


def _groups(keys: Sequence[_About], columns: Sequence[_About]) -> list[list[_About]]:
    """Split columns, in their order, into as few tables as their headers allow; each begins with the keys."""
    start = sum(_header_bytes(one.column) for one in keys)
    groups, used = [list(keys)], start
    for one in columns:
        size = _header_bytes(one.column)
        if used + size > HEADER_BYTES:
            groups.append(list(keys))
            used = start
        groups[-1].append(one)
        used += size
    return groups


def _header_bytes(column: Any) -> int:
    name = (len(column.name.encode()) // 8 + 1) * 8
    return COLUMN_BYTES.get(type(column).__name__, OTHER_COLUMN_BYTES) + name


def _well(text: Any) -> str | None:
    try:
        return well_name(*parse_well(str(text)))
    except ValueError:
        return None


def _columns(rows: "pandas.DataFrame") -> Iterator[tuple[str, Any]]:
    """Names and columns of what was measured: of bool, int, float (NaN where missing) or text."""
    for key, column in rows.items():
        name = str(key)
        if name in KEYS:
            continue
        is_number = column.dtype.kind in "bif"
        values = column.tolist() if is_number else ["" if value != value else str(value) for value in column.tolist()]
        yield name, _column(name.replace("/", "\\"), values)


def _column(name: str, values: Sequence[Any]) -> Any:
    kind = type(values[0])
    if kind is str:
        return omero.grid.StringColumn(name, "", max(1, *(len(value.encode()) for value in values)), list(values))
    made = {bool: omero.grid.BoolColumn, int: omero.grid.LongColumn, float: omero.grid.DoubleColumn}[kind]
    return made(name, "", list(values))


def _part_of(column: Any, values: list[Any]) -> Any:
    """A column with these values."""
    size = [column.size] if isinstance(column, omero.grid.StringColumn) else []
    return type(column)(column.name, column.description, *size, values)


def _empty(column: Any) -> Any:
    return _part_of(column, [])
