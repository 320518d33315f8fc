"""OME-Zarr plates of any origin, in a folder or on S3: NGFF 0.4 and 0.5, in the HCS layout.

    <plate>.zarr/A/1/0/0       well A01, its first image, the array at full size

The sites of a well are its images, in the order of the well's metadata; each may have a size of its own. A plane is
missing if nothing is stored of it, and a site if it can't be understood.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from openhcs_omero.errors import OpenHCSError, PlateError, first_of
from openhcs_omero.io import ome_zarr
from openhcs_omero.io.base import BadData
from openhcs_omero.microscopes.base import Backend, FilesHandler, PlateLike
from openhcs_omero.microscopes.folders import check_links
from openhcs_omero.microscopes.scan import READ_AS, check_some_left, read_as_notes
from openhcs_omero.plates.arrangement import Announced, Arrangement, Incomplete, Place, PlaneFile, arrange, merge
from openhcs_omero.plates.image import ImageMetadata
from openhcs_omero.plates.listing import PlateListing, difference
from openhcs_omero.plates.paths import in_s3, parse_well, well_name
from openhcs_omero.plates.structure import ImageStructure, PlateStructure, WellStructure, matching, with_wells

if TYPE_CHECKING:
    from ome_zarr_models.common.plate import PlateBase

READERS = 8  # wells whose metadata are read at once


@dataclass(frozen=True)
class _Site:
    """A site as the metadata describe it; `image` is None if it can't be read, and `problem` says why."""

    number: int
    acquisition: int | None
    image: ome_zarr.Image | None = None
    planes: frozenset[ome_zarr.Plane] = frozenset()
    stamp: str = ""
    problem: str = ""


@dataclass(frozen=True)
class _Well:
    name: str
    sites: list[_Site] = field(default_factory=list)
    problem: str = ""
    unlisted: tuple[str, ...] = ()  # images that are there, but not in the metadata


class OMEZarrHandler(FilesHandler):
    """OME-Zarr plates, as written by bioformats2raw, omero-cli-zarr, ngio, iohub, ngff-zarr and others."""

    microscope_type = "OME-Zarr"
    parser_name = "NGFF"

    @property
    def compatible_backends(self) -> list[Backend]:
        return [Backend.OME_ZARR]

    @staticmethod
    def recognizes(folder: Path) -> bool:
        """Whether a folder is a Zarr group."""
        return any((folder / name).is_file() for name in ("zarr.json", ".zgroup", ".zattrs"))

    def parse(self, plate_path: PlateLike) -> PlateListing:
        path = str(plate_path).rstrip("/") if in_s3(plate_path) else str(Path(str(plate_path)).absolute())
        self._check_documents(path, path)
        try:
            plate, version = ome_zarr.read_plate(path)
        except OpenHCSError as error:
            raise PlateError(str(error)) from None
        names = _names_of_wells(plate, path)
        with ThreadPoolExecutor(READERS) as pool:
            wells = list(pool.map(partial(self._read_well, path), names, names.values()))
        runs = {run.id: run.name or f"Run {run.id}" for run in plate.acquisitions or ()}
        wells = _chosen(_with_places(wells), runs, self.acquisition)
        structure = PlateStructure(
            None, self.parser_name, f"{self.microscope_type} {version}", {}, set(), 0, 0, 0, 0, name=Path(path).name
        )
        places = [parse_well(name) for name in names]
        structure = replace(
            structure,
            rows=max(len(plate.rows), 1 + max(row for row, _ in places)),
            columns=max(len(plate.columns), 1 + max(column for _, column in places)),
            times={run.id: (run.starttime, run.endtime) for run in plate.acquisitions or ()},
        )
        listing = _list_plate(structure, wells, runs, self.incomplete)
        others = () if in_s3(path) else _unlisted(path, names.values(), wells)
        announced, most = plate.field_count or 0, max(len(well.sites) for well in wells)
        if announced > most and self.acquisition in (None, "all"):
            others = (*others, f"the metadata announce {announced} images per well, but list at most {most}")
        return replace(listing, notes=(*listing.notes, *others))

    def _read_well(self, plate: str, name: str, inside: str) -> _Well:
        """Read the metadata of a well and its images."""
        path = f"{plate}/{inside}"
        self._check_documents(plate, path)
        try:
            images = ome_zarr.read_well(path)
        except BadData as error:
            return _Well(name, problem=str(error))
        except OSError:
            return _Well(name, problem=f"there is no {path}")
        sites = []
        for number, image in enumerate(images, 1):
            site = _Site(number, image.acquisition)
            try:
                self._check_documents(plate, f"{path}/{image.path}")
                opened = ome_zarr.read_image(f"{path}/{image.path}")
                self._check_links(plate, opened)
                planes, stamp = opened.stored()
                sites.append(replace(site, image=opened, planes=frozenset(planes), stamp=stamp))
            except (BadData, OSError) as error:
                sites.append(replace(site, problem=str(error)))
        others = () if in_s3(plate) else ome_zarr.unlisted(path, "multiscales", [image.path for image in images])
        return _Well(
            name, sites, "" if sites else f"{path} has no images", tuple(f"{inside}/{other}" for other in others)
        )

    def _check_documents(self, plate: str, group: str) -> None:
        if not in_s3(plate) and not self.follow_links:
            check_links(Path(plate), ome_zarr.documents_in(Path(group)))

    def _check_links(self, plate: str, image: ome_zarr.Image) -> None:
        if not in_s3(plate) and not self.follow_links:
            array = Path(image.path) / image.level
            check_links(Path(plate), [array, *ome_zarr.links_in(str(array))])


def _names_of_wells(plate: PlateBase, path: str) -> dict[str, str]:
    """The paths of the wells in the plate, by their names, in the order of the plate."""
    rows, columns = (
        dict(zip(axis, _numbers(axis)))
        for axis in ([row.name for row in plate.rows], [column.name for column in plate.columns])
    )
    names: dict[tuple[int, int], str] = {}
    for well in plate.wells:
        row, column = well.path.split("/")
        place = rows[row], columns[column]
        if names.get(place, well.path) != well.path:
            raise PlateError(f"{path} lists {names[place]} and {well.path}, which are the same well")
        names[place] = well.path
    if not names:
        raise PlateError(f"{path} lists no wells")
    try:
        return {well_name(*place): names[place] for place in sorted(names)}
    except ValueError as error:
        raise PlateError(f"{path} can't be read: {error}") from None


def _unlisted(path: str, listed: Iterable[str], wells: Iterable[_Well]) -> Iterator[str]:
    """Sentences about the wells and images in a folder that the metadata do not list."""
    columns: dict[str, list[str]] = {}
    for well in listed:
        row, column = well.split("/")
        columns.setdefault(row, []).append(column)
    found = {
        "wells": [
            f"{row}/{column}"
            for row in ome_zarr.groups_in(path)
            for column in ome_zarr.unlisted(f"{path}/{row}", "well", columns.get(row, ()))
        ],
        "images": [image for well in wells for image in well.unlisted],
    }
    for what, names in found.items():
        if names:
            yield f"{what} that the metadata do not list are left out: {first_of(names)}"


def _numbers(names: Sequence[str]) -> list[int]:
    """Positions of rows or columns on a plate, from 0, by their names: letters from A, or numbers from 1 or else 0."""
    if all(name.isascii() and name.isalpha() and len(name) <= 2 for name in names):
        return [parse_well(f"{name}1")[0] for name in names]
    if all(name.isascii() and name.isdigit() and len(name) < 6 for name in names):
        numbers = [int(name) for name in names]
        return [number - (min(numbers) > 0) for number in numbers]
    return list(range(len(names)))


# ---- the listing


def _list_plate(
    plate: PlateStructure, wells: Sequence[_Well], runs: Mapping[int, str], incomplete: Incomplete
) -> PlateListing:
    """Make the listing of a plate from what was read of its wells."""
    sites = {(well.name, site.number): site for well in wells for site in well.sites}
    kinds = Counter(site.image.shape[:3] for site in sites.values() if site.image)
    if not kinds:
        problems = [problem for well in wells for problem in (well.problem, *(site.problem for site in well.sites))]
        raise PlateError(f"plate {plate.name} has no image that can be read: {next(filter(None, problems))}")
    usual = kinds.most_common(1)[0][0]
    example = next(site.image for site in sites.values() if site.image and site.image.shape[:3] == usual)
    arranged = {
        kind: _arrange({place: site for place, site in sites.items() if _kind(site, usual) == kind}, kind, incomplete)
        for kind in kinds
    }
    merged = merge([*arranged.values()])
    check_some_left(plate.name, merged)
    channels = [example.channels()[c] for c in arranged[usual].channels]
    own = {
        place: _metadata(site.image, arranged[_kind(site, usual)].channels)
        for place, site in sites.items()
        if site.image
    }
    listing = PlateListing(
        with_wells(plate, _structures(wells, arranged.values(), example, runs)),
        Backend.OME_ZARR,
        merged.files,
        tuple(name for name, _ in channels),
        example.pixel_size,
        merged.filled,
        _missing(wells, merged.missing),
        (
            *_notes(wells, incomplete),
            *merged.notes,
            *read_as_notes(site.image.array.dtype.name for site in sites.values() if site.image),
        ),
        tuple(color for _, color in channels),
        merged.skipped,
        merged.skipped_planes,
    )
    return listing.with_own({place: about for place, about in own.items() if place in listing.files})


def _metadata(image: ome_zarr.Image, channels: Iterable[int]) -> ImageMetadata:
    """What an image's own metadata say about these of its channels."""
    names, colors = zip(*[image.channels()[c] for c in channels])
    return ImageMetadata(names, colors, image.pixel_size)


def _acquisition(runs: Mapping[int, str], run: int) -> tuple[int, str]:
    """Id and name of an acquisition, which the metadata of the plate need not list."""
    return run, runs.get(run, f"Run {run}")


def _chosen(wells: Sequence[_Well], runs: Mapping[int, str], choice: int | str | None) -> list[_Well]:
    """The wells with the sites of one acquisition, counted from 1; with all of them if it does not choose one.

    What is missing from other acquisitions does not matter then.
    """
    used = {site.acquisition for well in wells for site in well.sites if site.acquisition is not None}
    found = [] if choice in (None, "all") else matching([_acquisition(runs, run) for run in used], choice)
    if len(found) != 1:
        return list(wells)
    of_run = {well.name: [site for site in well.sites if site.acquisition == found[0][0]] for well in wells}
    return [
        replace(well, sites=[replace(site, number=number) for number, site in enumerate(of_run[well.name], 1)])
        for well in wells
    ]


def _with_places(wells: Sequence[_Well]) -> list[_Well]:
    """Give wells that can't be read the sites of the well that has most."""
    most = max((well.sites for well in wells), key=len)
    return [
        well
        if well.sites
        else replace(well, sites=[_Site(site.number, site.acquisition, problem=well.problem) for site in most])
        for well in wells
    ]


def _kind(site: _Site, usual: tuple[int, int, int]) -> tuple[int, int, int]:
    """(T, C, Z) of a site; sites that can't be read are taken to be like most."""
    return site.image.shape[:3] if site.image else usual


def _arrange(sites: Mapping[Place, _Site], kind: tuple[int, int, int], incomplete: Incomplete) -> Arrangement:
    """Arrange the planes of sites with the same numbers of timepoints, channels and z planes."""
    planes: list[PlaneFile] = []
    for (well, number), site in sites.items():
        found = [
            PlaneFile(well, number, t, c, z, site.image.plane_path((t, c, z)))
            for t, c, z in site.planes
            if site.image is not None
        ]
        planes += found or [PlaneFile(well, number, 0, 0, 0, None)]
    numbers = tuple(range(1, 1 + max(number for _, number in sites)))
    t, c, z = (tuple(range(size)) for size in kind)
    return arrange(planes, Announced(numbers, t, c, z, "OME-Zarr metadata", every_site=True), incomplete)


def _structures(
    wells: Sequence[_Well], arranged: Iterable[Arrangement], example: ome_zarr.Image, runs: Mapping[int, str]
) -> dict[str, WellStructure]:
    """The wells with their images; the images that can't be read are like `example`."""
    images = {
        place: _structure(site, arrangement, (well.name, site.number), site.image or example, runs)
        for arrangement in arranged
        for well in wells
        for site in well.sites
        if (place := (well.name, site.number)) in arrangement.files
    }
    return {
        well.name: WellStructure(
            well.name,
            *parse_well(well.name),
            {site.number: images[place] for site in well.sites if (place := (well.name, site.number)) in images},
        )
        for well in wells
    }


def _structure(
    site: _Site, arranged: Arrangement, place: Place, image: ome_zarr.Image, runs: Mapping[int, str]
) -> ImageStructure:
    (well, number), (t, c, z), (y, x), run = place, arranged.sizes, image.shape[3:], site.acquisition
    dtype = image.array.dtype.name
    stamp = f"{site.stamp} {sorted(arranged.filled.get(place, ()))}"
    return ImageStructure(
        None,
        number,
        z,
        c,
        t,
        x,
        y,
        READ_AS.get(dtype, dtype),
        hashlib.sha1(stamp.encode(), usedforsecurity=False).hexdigest(),
        f"{well} site {number}",
        acquisition=None if run is None else _acquisition(runs, run),
    )


def _missing(wells: Sequence[_Well], lacking: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """What is missing, by well; of sites that can't be read, the reason."""
    missing = dict(lacking)
    for well in wells:
        reasons = tuple(f"site {site.number} ({site.problem})" for site in well.sites if site.problem)
        if well.name in missing and reasons:
            broken = {f"files of site {site.number}: all of it" for site in well.sites if site.problem}
            others = tuple(text for text in missing[well.name] if text not in broken)
            missing[well.name] = ((f"its images ({well.problem})",) if well.problem else reasons) + others
    return missing


def _notes(wells: Sequence[_Well], incomplete: Incomplete) -> Iterable[str]:
    """Sentences about what was left out or filled because it can't be read, and about what differs between sites."""
    for well in wells if incomplete != "error" else ():
        for problem in dict.fromkeys(site.problem for site in well.sites if site.problem):
            yield f"well {well.name}: {problem}"
    images = [(well.name, site.number, site.image) for well in wells for site in well.sites if site.image]
    yield from difference("channel names", [(w, s, [name for name, _ in i.channels()]) for w, s, i in images])
    yield from difference("pixel sizes", [(w, s, i.pixel_size) for w, s, i in images])
    if several := next((i.path for *_, i in images if len(i.attributes["multiscales"]) > 1), None):
        yield f"{several} has several `multiscales`; the first is read"
