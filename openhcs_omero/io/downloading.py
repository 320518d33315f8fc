"""Copies of plates, wells, images and attached files on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from openhcs_omero.io.base import BadData
from openhcs_omero.io.disk import DiskBackend
from openhcs_omero.io.formats import encode, is_image_format
from openhcs_omero.io.omero_local import OMEROLocalBackend
from openhcs_omero.io.virtual_workspace import METADATA, acquisitions_for_openhcs
from openhcs_omero.omero.annotations import read_file
from openhcs_omero.omero.pixels import read_metadata, read_plane, read_sites
from openhcs_omero.plates.image import ImageMetadata
from openhcs_omero.plates.paths import FilePath, PlanePath, PlatePath, SitePath, VirtualPath, WellPath, parse_path
from openhcs_omero.plates.structure import PlateStructure

Format = Literal["tiff", "ome-tiff"]
Progress = Callable[[int, int], None]


def download(
    backend: OMEROLocalBackend,
    path: VirtualPath,
    target: Path,
    form: Format | None,
    progress: Progress,
    annotation_id: int | None = None,
) -> Path:
    """Copy what a path names out of OMERO. Each file appears complete or not at all.

    Parameters
    ----------
    backend
        The backend of the server.
    path
        A plate or a well, which becomes a folder of its name; or a site, a plane or an attached file.
    target
        The folder to put the copy into, which is created for a plate or a well; or the file to write.
    form
        For plates and wells: "tiff" writes one file per plane, "ome-tiff" one file per site. None means "tiff".
    progress
        Called with the numbers of finished and of all images.
    annotation_id
        For attached files: OMERO's id of the file annotation, if several files have that path.

    Returns
    -------
    Path
        The file or folder that was written.

    Raises
    ------
    OpenHCSError
        If the path does not exist, or the target can't hold it.
    """
    if isinstance(path, PlatePath | WellPath):
        folder = target / str(path).rpartition("/")[2]
        _download_folder(backend, path, folder, form or "tiff", progress)
        return folder
    file = target / _file_name(path, form) if target.is_dir() else target
    if isinstance(path, FilePath):
        if form is not None:
            raise BadData(f"{path} is an attached file: it is copied as it is, without --format")
        DiskBackend().save_bytes(backend.load_bytes(str(path), annotation_id), file)
        return file
    if not is_image_format(file):
        raise BadData(f"{path} is an image: give {target} the ending .tif")
    DiskBackend().save_bytes(_image(backend, path, file), file)
    return file


def _file_name(path: VirtualPath, form: Format | None) -> str:
    name = str(path).rpartition("/")[2]
    return f"{name.removesuffix('.tif')}.ome.tif" if form == "ome-tiff" else name


def _image(backend: OMEROLocalBackend, path: SitePath[PlatePath] | PlanePath[PlatePath], file: Path) -> bytes:
    """A site or a plane as the bytes of an OME-TIFF."""
    image, conn = backend.image(path), backend.conn
    about = read_metadata(conn, [image]).get(image.image_id, ImageMetadata())
    if isinstance(path, SitePath):
        return encode(next(read_sites(conn, [image]))[1], file, about=about)
    plane = read_plane(conn, image, path.z, path.channel, path.t or 0)
    return encode(plane, file, about=_of_channel(about, path.channel))


def _of_channel(about: ImageMetadata, channel: int) -> ImageMetadata:
    only = slice(channel, channel + 1)
    return replace(about, channel_names=about.channel_names[only], colors=about.colors[only])


def _download_folder(
    backend: OMEROLocalBackend,
    path: PlatePath | WellPath[PlatePath],
    folder: Path,
    form: Format,
    progress: Progress,
) -> None:
    plate, disk = backend.plate_structure(path.plate.plate_id, path.plate.output), DiskBackend()
    files = [place for name in backend.list_files(str(path)) if isinstance(place := parse_path(name), FilePath)]
    disk.ensure_directory(folder)
    images = list((plate if isinstance(path, PlatePath) else plate.only([path.well])).images())
    about = read_metadata(backend.conn, [image for _, image in images])
    inside, planes = f"{path}/", []
    progress(0, len(images))
    for done, ((well, image), (_, pixels)) in enumerate(
        zip(images, read_sites(backend.conn, [image for _, image in images])), 1
    ):
        site = SitePath(path.plate, well, image.site)
        for name, data, described in _parts(site, pixels, about.get(image.image_id, ImageMetadata()), form):
            file = folder / name.removeprefix(inside)
            disk.save_bytes(encode(data, file, about=described), file)
            planes.append(name.removeprefix(inside))
        progress(done, len(images))
    for attached in files:
        copy, found = folder / str(attached).removeprefix(inside), backend.namesakes(str(attached))
        for text, _ in found:  # files of one name get the ids of their annotations into their names
            own = copy if len(found) == 1 else copy.with_stem(f"{copy.stem}.{text.annotation_id}")
            disk.save_bytes(read_file(backend.conn, text), own)
    if isinstance(path, PlatePath) and form == "tiff" and images:
        disk.save(_metadata(plate, planes, about.get(images[0][1].image_id, ImageMetadata())), folder / METADATA)


def _metadata(structure: PlateStructure, planes: Sequence[str], about: ImageMetadata) -> dict[str, Any]:
    """The file that makes a folder of planes a plate, with the names of the channels, pixel size and acquisitions."""
    sites = {
        name: {site: image.acquisition[0] for site, image in well.images.items() if image.acquisition}
        for name, well in structure.wells.items()
    }
    z, _, x = about.pixel_size
    plate = {
        "source_filename_parser_name": "OpenHCSFilenameParser",
        "pixel_size": x,
        "z_step": z,
        "channels": {str(number): name for number, name in enumerate(about.channel_names)},
        "image_files": list(planes),
        "available_backends": {"disk": True},
        "main": True,
        "openhcs_omero": {"acquisitions": acquisitions_for_openhcs(structure.described_acquisitions(), sites)},
    }
    return {"subdirectories": {".": plate}}


def _parts(
    site: SitePath[PlatePath], pixels: np.ndarray, about: ImageMetadata, form: Format
) -> Iterator[tuple[str, np.ndarray, ImageMetadata]]:
    """The files of a site: the virtual path, the pixels and the metadata of each."""
    if form == "ome-tiff":
        yield f"{site.stem}.ome.tif", pixels, about
        return
    for t, c, z in np.ndindex(pixels.shape[:3]):
        plane = PlanePath(site.plate, site.well, site.site, z, c, t if len(pixels) > 1 else None)
        yield str(plane), pixels[t, c, z], _of_channel(about, c)
