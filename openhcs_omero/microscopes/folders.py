"""Read the folders and metadata files of microscopes safely, whoever made them: in bounded time and memory."""

from __future__ import annotations

import codecs
import contextlib
import io
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PureWindowsPath
from typing import BinaryIO
from xml.etree import ElementTree

from openhcs_omero.errors import PlateError, first_of
from openhcs_omero.plates.arrangement import PlaneFile
from openhcs_omero.plates.filenames import folded

LARGEST_TEXT = 20_000_000  # bytes
LARGEST_XML = 2_000_000_000  # bytes; a plane takes about 300 bytes, in Harmony's index 2 KB
DEEPEST_XML, MOST_ELEMENTS, MOST_RECORDS = 100, 1_000_000, 5_000_000  # nested, kept and taken elements
# endings of metadata files
METADATA = (".htd", ".xml", ".companion.ome", ".mlf", ".mrf", ".mes", ".xdce", "openhcs_metadata.json")
_OTHER_IMAGES = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".gif", ".jp2", ".jxr", ".flex", ".czi", ".nd2", ".lif", ".lsm", ".stk"),
    *(".c01", ".dib", ".vsi", ".oir", ".ims"),
)
_NOT_OF_A_PLATE = {"thumbs.db", "desktop.ini", "@eadir"}


def files_in(folder: Path, *endings: str) -> list[Path]:
    """List the regular files of a folder that may belong to a plate, sorted.

    Parameters
    ----------
    folder
        The folder.
    endings
        Endings like ".tif", in lower case; all files if none is given.
    """
    return [
        Path(entry.path)
        for entry in _entries(folder)
        if entry.name.lower().endswith(endings or ("",)) and _is(entry, os.DirEntry.is_file)
    ]


def tiffs_in(folder: Path) -> list[Path]:
    """List the TIFF files of a folder, sorted."""
    return files_in(folder, ".tif", ".tiff")


def by_name(files: Iterable[Path]) -> dict[str, str]:
    """Files by their names, `folded`, as metadata name them. Of names that differ in case only, the first is taken."""
    found: dict[str, str] = {}
    for file in files:
        found.setdefault(folded(file.name), str(file))
    return found


def named(files: dict[str, str], name: str) -> str | None:
    """The file that metadata name, of files `by_name`; any folder before the name is ignored. None if there is none."""
    return files.get(folded(PureWindowsPath(name).name))


def folders_in(folder: Path) -> list[Path]:
    """List the folders in a folder that may belong to a plate, sorted."""
    return [Path(entry.path) for entry in _entries(folder) if _is(entry, os.DirEntry.is_dir)]


def odd_tiffs(folder: Path) -> list[Path]:
    """What is named like a TIFF in a plate's folder but can't be read: pipes, devices, and links that lead nowhere."""
    return [
        Path(entry.path)
        for place in [folder, *folders_in(folder)]
        for entry in _entries(place)
        if entry.name.lower().endswith((".tif", ".tiff"))
        and not _is(entry, os.DirEntry.is_file)
        and not _is(entry, os.DirEntry.is_dir)
    ]


def other_images(folder: Path) -> str:
    """What is in a plate's folder, or a folder in it, as images of formats that are not read; "" without any."""
    names = [path.name for place in [folder, *folders_in(folder)] for path in files_in(place, *_OTHER_IMAGES)]
    return f"images that are no TIFFs are not read ({first_of(names)})" if names else ""


def left_out(files: Iterable[Path], planes: Iterable[PlaneFile], why: str) -> tuple[str, ...]:
    """A sentence about the files that no plane is read from, with the reason; none if there are no such files."""
    read = {plane.path for plane in planes}
    others = [file.name for file in files if str(file) not in read]
    if not others:
        return ()
    return (f"{len(others)} TIFF{'s are' if len(others) > 1 else ' is'} left out ({first_of(others)}): {why}",)


def unread_folders(folder: Path, planes: Iterable[PlaneFile]) -> list[str]:
    """A sentence about each folder in a plate's folder that has TIFFs of which none is a plane."""
    read = {Path(plane.path).relative_to(folder).parts[0] for plane in planes if plane.path is not None}
    return [
        f"the folder {place.name} has TIFFs, which are not read as planes of the plate"
        for place in folders_in(folder)
        if place.name not in read and any(tiffs_in(one) for one in [place, *folders_in(place)])
    ]


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """The entries of a folder, except hidden files and those that operating systems and storage systems add."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise PlateError(f"the folder {folder} can't be read: {error.strerror}") from None
    for entry in entries:
        if not (entry.name.startswith(".") or entry.name.lower() in _NOT_OF_A_PLATE):
            yield entry


def _is(entry: os.DirEntry[str], kind: Callable[[os.DirEntry[str]], bool]) -> bool:
    """Whether an entry is of a kind; False for a link to itself."""
    with contextlib.suppress(OSError):
        return kind(entry)
    return False


def number(text: str | None) -> float | None:
    """A number in metadata that is good to know, but that no plane depends on; NaN for what is no number."""
    try:
        return None if text is None else float(text)
    except ValueError:  # such as "1,5"
        return math.nan


# ---- links


def check_links(folder: Path, files: Iterable[Path]) -> None:
    """Reject files that a symbolic link places outside the plate's folder.

    Raises
    ------
    PlateError
        For the first such file, or one whose links form a loop.
    """
    root = folder.resolve()
    known: set[Path] = set()  # folders known to be inside
    for file in files:
        if file.parent not in known or file.is_symlink():
            try:
                inside = file.resolve().is_relative_to(root)
            except (OSError, RuntimeError):  # a loop, by version of Python
                raise PlateError(f"{file} is a symbolic link that leads to itself: delete it") from None
            if not inside:
                raise PlateError(
                    f"{file} is a symbolic link, or in one, that leads out of the plate's folder: copy "
                    "the file, or set `follow_links: true` for the plate"
                )
            known.add(file.parent)


def check_metadata_links(folder: Path) -> None:
    """Reject metadata files that a symbolic link places outside the plate's folder; raises as `check_links`."""
    places = [folder, *folders_in(folder)]
    named = (entry for place in places for entry in _entries(place) if entry.name.lower().endswith(METADATA))
    check_links(folder, (Path(entry.path) for entry in named))


# ---- metadata files


def text_of(path: Path) -> str:
    """Read the text of a metadata file: UTF-8, UTF-16, or otherwise Latin-1.

    Raises
    ------
    PlateError
        If the file can't be read, or is too large for a metadata file.
    """
    try:
        _check_size(path, LARGEST_TEXT)
        data = path.read_bytes()
    except OSError as error:
        raise PlateError(f"{path} can't be read: {error.strerror}") from None
    marked = data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    wide = "utf-16" if marked else {0: "utf-16-be", 1: "utf-16-le"}.get(data[:2].find(b"\0"))
    with contextlib.suppress(UnicodeDecodeError):
        return data.decode(wide or "utf-8-sig")
    return data.decode("latin-1")


def parse_xml(
    path: Path,
    what: str,
    take: Callable[[ElementTree.Element], bool] = lambda _: False,
    content: bytes | None = None,
) -> ElementTree.Element:
    """Parse an XML file and return its root.

    Parameters
    ----------
    path
        The file.
    what
        What the file should be, for messages.
    take
        Called with each complete element, innermost first. If it returns True, the element is dropped, so that a file
        with millions of records takes little memory. It may raise ValueError or KeyError about what is wrong.

    content
        The XML, if it is only a part of the file.

    Raises
    ------
    PlateError
        If the file is not XML, is too large, or `take` raised an error.
    """
    try:
        _check_size(path, LARGEST_XML)
        with path.open("rb") if content is None else io.BytesIO(content) as file:
            parser = ElementTree.XMLParser(target=_Builder(take), encoding=_true_encoding(file))
            while data := file.read(2**16):
                parser.feed(data)
        return parser.close()  # type: ignore[no-any-return]
    except (OSError, ElementTree.ParseError, LookupError, ValueError) as error:  # such as an unknown encoding
        words = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise PlateError(f"{path} can't be read as {what}: {words}") from None


def _true_encoding(file: BinaryIO) -> str | None:
    """The encoding of an XML file, if it is not the one that the file declares."""
    start = file.read(200)
    declared = re.match(rb"<\?xml[^>]*encoding=.([\w.-]+)", start.removeprefix(codecs.BOM_UTF8))
    name = declared[1].decode().lower() if declared else "utf-8"
    if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        found = "utf-16"
    elif start.startswith(codecs.BOM_UTF8):
        found = "utf-8"
    elif name == "utf-8" or name.startswith("utf-16"):
        found = "utf-8" if _is_utf8(file) else "latin-1"
    else:
        found = name
    file.seek(0)
    return None if found == name else found


def _is_utf8(file: BinaryIO) -> bool:
    file.seek(0)
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while data := file.read(2**20):
            decoder.decode(data)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


class _Builder(ElementTree.TreeBuilder):
    """Builds a tree without the elements that are taken, and stops if it becomes too large."""

    def __init__(self, take: Callable[[ElementTree.Element], bool]) -> None:
        super().__init__()
        self._take = take
        self._open: list[tuple[ElementTree.Element, int]] = []  # and how many were kept before it
        self._kept = self._taken = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> ElementTree.Element:
        element = super().start(tag, attrs)
        self._open.append((element, self._kept))
        self._kept += 1
        if len(self._open) > DEEPEST_XML or self._kept > MOST_ELEMENTS:
            raise ValueError(f"it has more than {DEEPEST_XML} nested elements, or {MOST_ELEMENTS} unknown ones")
        return element

    def end(self, tag: str, /) -> ElementTree.Element:
        element = super().end(tag)
        _, before = self._open.pop()
        if self._take(element) and self._open:
            del self._open[-1][0][-1]
            self._kept = before
            self._taken += 1
            if self._taken > MOST_RECORDS:
                raise ValueError(f"it has more than {MOST_RECORDS} records")
        return element


def _check_size(path: Path, most: int) -> None:
    if path.stat().st_size > most:
        raise PlateError(f"{path} is too large for a file of metadata: more than {most // 10**6} MB")
