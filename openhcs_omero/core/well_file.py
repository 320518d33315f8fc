"""The file of a processed well, `processed/<WELL>.zip`, with everything that the well's job found.

record.json    what was written (outputs/), or why the well failed (failures.py)
features.csv   the measurements: one row per site, or per site and timepoint
objects.csv    the objects: one row per object
thumbnail.npz  a small picture (figures.py)
outlines.npz   a part of the first site with its objects (outlines.py); empty if no step looked for objects

A single file per well limits the number of files on a shared disk and the memory that Snakemake needs for the plan.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from openhcs_omero.core.records import Kind, parse_record
from openhcs_omero.io.atomic import write

# what zipfile raises for missing files and damaged content
_DAMAGED = (OSError, KeyError, EOFError, ValueError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error)
MANIFEST = "processed.sha1"
"""The list of the files that the tables of a plate were made from, written with the tables."""
BEGINNING = (1980, 1, 1, 0, 0, 0)  # of time in zip files


def well_file(folder: Path, well: str) -> Path:
    """The path of a well's file in the folder of its plate."""
    return folder / "processed" / f"{well}.zip"


def well_files(folder: Path) -> dict[str, Path]:
    """The files of the processed wells in the folder of a plate, by well, sorted by name."""
    return {path.stem: path for path in sorted((folder / "processed").glob("*.zip"))}


def write_well_file(
    path: Path, record: str, features: str = "", objects: str = "", thumbnail: bytes = b"", outlines: bytes = b""
) -> None:
    """Write the file of a well atomically. The same content gives the same bytes, since Snakemake compares checksums.

    Parameters
    ----------
    path
        The file to write.
    record
        JSON.
    features, objects
        CSV with a header; empty without rows.
    thumbnail, outlines
        The content of .npz files.
    """
    parts: dict[str, str | bytes] = {
        "record.json": record,
        "features.csv": features,
        "objects.csv": objects,
        "thumbnail.npz": thumbnail,
        "outlines.npz": outlines,
    }
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, part in parts.items():
            archive.writestr(zipfile.ZipInfo(name, BEGINNING), part, zipfile.ZIP_DEFLATED, compresslevel=1)
    write(path, content.getvalue())


def manifest(paths: Iterable[Path]) -> str:
    """The SHA-1 of each file, as `sha1sum` prints it in the folder of the plate."""
    return "".join(f"{hashlib.sha1(path.read_bytes()).hexdigest()}  {path.parent.name}/{path.name}\n" for path in paths)


def wells_in_tables(folder: Path) -> list[str]:
    """The wells whose files were combined into the tables of a plate."""
    path = folder / MANIFEST
    return [Path(line).stem for line in path.read_text().splitlines()] if path.exists() else []


@contextlib.contextmanager
def open_part(path: Path, name: str) -> Iterator[IO[bytes]]:
    """Open a part of a well's file for reading, such as "features.csv"."""
    with zipfile.ZipFile(path) as archive, archive.open(name) as part:
        yield part


def read_well_record(path: Path, kind: type[Kind]) -> Kind | None:
    """Read the record of a well; None if the file is missing, damaged or has a record of another kind."""
    try:
        with open_part(path, "record.json") as part:
            return parse_record(part.read(), kind)
    except _DAMAGED:
        return None
