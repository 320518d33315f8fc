"""Folders of TIFFs with one plane per file, identified by the file names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from openhcs_omero.errors import PlateError
from openhcs_omero.microscopes.base import FolderHandler
from openhcs_omero.microscopes.folders import tiffs_in
from openhcs_omero.microscopes.ome_tiffs import files_of
from openhcs_omero.microscopes.scan import Found
from openhcs_omero.plates.arrangement import Announced, Incomplete, PlaneFile
from openhcs_omero.plates.filenames import NAMED_PATTERNS, PATTERNS, SHADE, named_planes, parse_name


class NamedTIFFHandler(FolderHandler):
    """Plates of any origin, read by the names of their files.

    Parameters
    ----------
    incomplete, follow_links
        See `FilesHandler`.
    pattern
        Pattern for the names, see `openhcs_omero.plates.filenames.named_planes`.
    """

    microscope_type = "TIFF"
    parser_name = "FilenamePattern"

    def __init__(
        self, incomplete: Incomplete = "error", follow_links: bool = False, pattern: str | None = None
    ) -> None:
        super().__init__(incomplete, follow_links)
        self.pattern = pattern

    @staticmethod
    def recognizes(folder: Path) -> bool:
        """Whether most TIFF names in a folder are understood without a pattern; `find` reports the others."""
        names = [path.name for path in tiffs_in(folder) if not SHADE.search(path.name)]
        return any(
            2 * sum(parse_name(name, pattern) is not None for name in names) > len(names)
            for pattern in PATTERNS.values()
        )

    def find(self, folder: Path) -> Found:
        paths = tiffs_in(folder)
        if not paths:
            raise PlateError(f"there is no TIFF in {folder}")
        absent = _absent(paths, self.pattern)
        named = named_planes([*paths, *absent], self.pattern)
        planes = [replace(plane, path=None) if Path(str(plane.path)) in absent else plane for plane in named.planes]
        own = self.pattern is not None and self.pattern not in NAMED_PATTERNS  # its numbers may be minutes, say
        announced = Announced() if own else Announced.by_names(planes)
        if absent:
            announced = replace(announced, source="OME-XML in the files")
        return Found(planes, announced, channel_names=named.channel_names, notes=tuple(_gaps(planes, announced)))


def _absent(paths: list[Path], pattern: str | None) -> set[Path]:
    """The files of the plate that the OME-XML in its first file names, but that are not there."""
    first, there = paths[0], {path.name for path in paths}
    named = files_of(first)
    if first.name not in named:  # it names no other files, or they were renamed
        return set()
    absent = {first.with_name(name) for name in named - there}
    patterns = [*PATTERNS.values()] if pattern is None else [NAMED_PATTERNS.get(pattern, pattern)]
    return {path for path in absent if any(parse_name(path.name, one) for one in patterns)}


def _gaps(planes: list[PlaneFile], announced: Announced) -> Iterator[str]:
    """Sentences about numbers that the names leave out, and that nothing announces."""
    for axis, word in (("t", "timepoints"), ("z", "planes")):
        if getattr(announced, axis):
            continue
        numbers = sorted({getattr(plane, axis) for plane in planes})
        if numbers[-1] - numbers[0] >= len(numbers):
            some = ", ".join(map(str, numbers[:4])) + (" ..." if len(numbers) > 4 else "")
            yield f"the {word} have the numbers {some} in the names of the files, and are counted from 0 here"
