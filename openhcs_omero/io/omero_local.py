"""Plates in OMERO as a storage backend: virtual paths stand for images and file annotations.

Source plates can be read, and files can be attached to them. Images are written only to derived plates, such as
``/omero/plate_7_processed``, which are created by the first write.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from openhcs_omero.errors import PlateError
from openhcs_omero.io.base import BadData, MissingFile, PathLike, VirtualBackend
from openhcs_omero.io.formats import check_image, decode, encode
from openhcs_omero.io.planes import ImagePath, Planes, collect, planes_of, stack
from openhcs_omero.omero import connection, queries
from openhcs_omero.omero.annotations import Kind, TextFile, delete_text, namesakes, read_file, save_text, texts_of
from openhcs_omero.omero.connection import BlitzGateway, adopt, connect
from openhcs_omero.omero.copying import set_acquisitions
from openhcs_omero.omero.derived import derive_plate, find_derived, own_plates
from openhcs_omero.omero.derived_well import write_well
from openhcs_omero.omero.marks import NAMESPACE as DERIVED
from openhcs_omero.omero.omero_tables import attach_table, is_table
from openhcs_omero.omero.pixels import read_metadata, read_plane, read_positions, read_site
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.omero.server import Server
from openhcs_omero.omero.session_store import tag_of
from openhcs_omero.plates.image import Acquired, ImageMetadata, NewImage, WellFile
from openhcs_omero.plates.paths import (
    FilePath,
    PlanePath,
    PlatePath,
    SitePath,
    VirtualPath,
    WellPath,
    make_path,
    parse_path,
)
from openhcs_omero.plates.structure import ImageStructure, PlateStructure

Holder = PlatePath | WellPath[PlatePath] | SitePath[PlatePath]  # what a file can be attached to


class OMEROLocalBackend(VirtualBackend):
    """Plates of an OMERO server under ``/omero``.

    The structure of a plate is queried once and cached. It is queried again after this backend saves or deletes
    something; call `refresh` to see what others have changed. The backend can be pickled; the pickle contains no
    connection, session or password. The process that unpickles it joins the session of the process that created it,
    through the OMERO command line's session store.

    Parameters
    ----------
    omero_conn
        A live connection.
    server
        The server to connect to on first use, instead of a connection.
    """

    def __init__(self, omero_conn: BlitzGateway | None = None, server: Server | None = None) -> None:
        if (omero_conn is None) == (server is None):
            raise TypeError("OMEROLocalBackend takes either omero_conn or server")
        self.server = server or adopt(omero_conn)
        self._initial_conn = omero_conn
        self._pid = os.getpid()
        self._session = "" if omero_conn is None else tag_of(omero_conn.c.getSessionId())
        self._structures: dict[tuple[int, str | None], PlateStructure] = {}
        self._own_ids: set[int] = set()  # derived plates of this user

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state["_initial_conn"] = None  # its communicator can't be pickled
        state["_session"] = self._session or connection.tag(self.server)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @property
    def conn(self) -> BlitzGateway:
        """The given connection, or in another process that process's own connection to the same session."""
        if self._initial_conn is not None and self._pid == os.getpid():
            return self._initial_conn
        return connect(self.server, self._session)

    # ---- listing

    def plate_structure(self, plate_id: int, output: str | None = None) -> PlateStructure:
        """The wells, sites and sizes of a plate, or of its derived plate for `output`, even without images.

        Parameters
        ----------
        plate_id
            OMERO's id of the plate; for a derived plate, that of its source.
        output
            The output whose derived plate is meant.

        Raises
        ------
        MissingFile
            If there is no such plate, or if this user may not see it.
        """
        key = (plate_id, output)
        if key not in self._structures:
            found = plate_id if output is None else find_derived(self.conn, plate_id, output)
            if found is None:
                raise MissingFile(f"plate {plate_id} has no derived plate {output!r}, or this user may not see it")
            with _missing():
                self._structures[key] = load_plate(self.conn, found, require_images=False)
        return self._structures[key]

    def refresh(self, plate: PathLike | int) -> None:
        """Clear what is cached about a plate, without querying it again yet.

        Parameters
        ----------
        plate
            The plate's id or path; a derived plate can be given only by its path.
        """
        path = PlatePath(plate) if isinstance(plate, int) else _parse_directory(plate).plate
        self._forget(path)

    def generate_filename(self, metadata: Mapping[str, Any]) -> str:
        """The virtual path of what `metadata` describes.

        Parameters
        ----------
        metadata
            The parts of the path by name: plate_id, well, site and so on, as `make_path` takes them.

        Raises
        ------
        BadData
            If there is an unknown key or the values do not form a path.
        """
        try:
            return str(make_path(**metadata))
        except (TypeError, ValueError) as error:
            raise BadData(f"no path can be built from {dict(metadata)}: {error}") from None

    def list_files(self, directory: PathLike) -> list[str]:
        """List the virtual paths of all planes and attached files of a plate or well, in a call per 10,000 images."""
        path = _parse_directory(directory)
        self._object(path)
        plate, name = self._plate(path), path.well if isinstance(path, WellPath) else None
        holders: dict[Kind, dict[int, Holder]] = {"Plate": {}, "Well": {}, "Image": {}}
        if isinstance(path, PlatePath):
            holders["Plate"][plate.plate_id] = path
        for well in (plate if name is None else plate.only([name])).wells.values():
            holders["Well"][well.well_db_id] = WellPath(path.plate, well.well_id)
            for site, image in well.images.items():
                holders["Image"][image.image_id] = SitePath(path.plate, well.well_id, site)
        files = [file for kind, places in holders.items() for file in self._attached(kind, places)]
        return sorted(plate.list_paths(name, path.plate) + files)

    def list_attached(self, directory: PathLike) -> list[str]:
        """List the virtual paths of the files attached to a plate or well itself, not to its contents, in one call."""
        path = _parse_directory(directory)
        kind, object_id = self._object(path)
        return sorted(self._attached(kind, {object_id: path}))

    def _attached(self, kind: Kind, places: Mapping[int, Holder]) -> Iterator[str]:
        """Virtual paths of the files attached to objects, given the objects' paths by id."""
        for object_id, texts in texts_of(self.conn, kind, list(places)).items():
            for text in texts:
                with contextlib.suppress(ValueError):  # names from other programs may not be valid in paths
                    yield str(FilePath(places[object_id], text.name))

    def exists(self, path: PathLike) -> bool:
        try:
            self._object(_parse(path))
        except (BadData, MissingFile):
            return False
        return True

    def _plate(self, path: VirtualPath) -> PlateStructure:
        return self.plate_structure(path.plate.plate_id, path.plate.output)

    def image(self, path: ImagePath) -> ImageStructure:
        """The image that the path of a plane or site names; MissingFile if there is none."""
        with _missing():
            image = self._plate(path).image(path.well, path.site)
        if isinstance(path, PlanePath) and (path.t, path.channel, path.z) not in planes_of(image):
            raise MissingFile(
                f"there is no plane {path}: the image has {image.size_z} z, {image.size_c} channels and "
                f"{image.size_t} timepoints, counted from 0; names have _t only if there are several timepoints"
            )
        return image

    def _object(self, path: VirtualPath) -> tuple[Kind, int]:
        """Class and id of the object at a path, or of the object that a file belongs to; MissingFile if none."""
        if isinstance(path, FilePath):
            kind, object_id = self._object(path.parent)
            if all(text.name != path.name for text in texts_of(self.conn, kind, [object_id])[object_id]):
                raise MissingFile(f"there is no file {path}")
            return kind, object_id
        if isinstance(path, SitePath | PlanePath):
            return "Image", self.image(path).image_id
        if isinstance(path, PlatePath):
            return "Plate", self._plate(path).plate_id
        with _missing():
            return "Well", self._plate(path).well(path.well).well_db_id

    # ---- reading

    def load(self, path: PathLike) -> Any:
        """Read a plane as (Y, X), a site as (T, C, Z, Y, X), or the content of an attached file."""
        virtual = _parse_file(path)
        if isinstance(virtual, SitePath):
            return read_site(self.conn, self.image(virtual))
        if isinstance(virtual, PlanePath):
            return read_plane(self.conn, self.image(virtual), virtual.z, virtual.channel, virtual.t or 0)
        return decode(self.load_bytes(path), path)

    def load_bytes(self, path: PathLike, annotation_id: int | None = None) -> bytes:
        """Read the bytes of an attached file.

        Parameters
        ----------
        path
            The file.
        annotation_id
            OMERO's id of the file annotation, if several files have that path.

        Raises
        ------
        BadData
            If several files have that path, which the message lists, or none of them has that id.
        """
        found = self.namesakes(path)
        chosen = [file for file, _ in found if annotation_id in (None, file.annotation_id)]
        if len(chosen) == 1:
            return read_file(self.conn, chosen[0])
        listed = "; ".join(
            f"annotation {file.annotation_id} of {owner}, {file.size} bytes, namespace {file.namespace or '(none)'}"
            for file, owner in found
        )
        if annotation_id is not None:
            raise BadData(f"{path} is not attached as annotation {annotation_id}, but as {listed}")
        raise BadData(
            f"{path} is the name of {len(found)} files: {listed}. Say which one, for example "
            f"`openhcs-omero get {path} . --annotation {found[-1][0].annotation_id}`"
        )

    def namesakes(self, path: PathLike) -> list[tuple[TextFile, str]]:
        """The attached files that have a path, with their owners; several users and programs may use one name."""
        virtual = _parse_file(path)
        if not isinstance(virtual, FilePath):
            raise BadData(f"{path} is not an attached file")
        kind, object_id = self._object(virtual)
        return namesakes(self.conn, kind, object_id, virtual.name)

    # ---- writing

    def save(self, data: Any, path: PathLike) -> None:
        """Write an image to a derived plate, or attach a file to a plate, a well or a site's image."""
        self.save_batch([data], [path])

    def save_batch(self, items: Sequence[Any], paths: Sequence[PathLike]) -> None:
        """Write several images and files; all images of a well become visible at once.

        All items are checked before anything is written. Planes of a site that are not given stay unchanged. OMERO's
        images can't have missing planes, so save the planes of a new site in one batch, or channel by channel.

        Raises
        ------
        BadData
            If data don't fit their path, if a site would lack planes, or if an image's path is not in a derived plate.
        MissingFile
            If the source plate, or the well or site that a file belongs to, does not exist.
        """
        if len(items) != len(paths):
            raise BadData(f"{len(items)} items can't be saved under {len(paths)} paths: give one path per item")
        sites: dict[SitePath, Planes | np.ndarray] = {}
        files: list[tuple[FilePath, bytes]] = []
        for data, path in zip(items, map(_parse_file, paths)):
            if isinstance(path, FilePath):
                files.append((path, encode(data, str(path), "zlib")))
            else:
                if path.plate.output is None:
                    derived = replace(path, plate=replace(path.plate, output="processed"))
                    raise BadData(
                        f"{path} belongs to a source plate, whose images are never changed: save to a derived one, "
                        f"as {derived}"
                    )
                collect(sites, path, check_image(data, str(path)))
        wells: dict[WellPath, dict[int, np.ndarray]] = {}
        for site, given in sites.items():
            wells.setdefault(site.parent, {})[site.site] = self._complete(site, given)
        for well, images in wells.items():
            self._check_well(well, images)
        for path, _ in files:
            self._check_holder(path.parent, wells)
        for well, images in wells.items():
            self._write_well(well, images, [(path, data) for path, data in files if _is_of(path, well, images)])
        for path, data in files:
            if not any(_is_of(path, well, images) for well, images in wells.items()):
                self._write_file(path, data)

    def _check_well(self, path: WellPath, images: Mapping[int, np.ndarray]) -> None:
        """Refuse images that can't be written to a well, before a derived plate is created for them."""
        wells = self._writable(path.plate).wells
        if path.well not in wells:
            raise BadData(f"{path} can't be written: the derived plate has no such well")
        free = len(wells[path.well].images) + 1
        for site in sorted(images):
            if site > free:
                raise PlateError(f"site {site} can't be written before site {free}: sites can't have gaps")
            free = max(free, site + 1)

    def _check_holder(self, path: Holder, wells: Mapping[WellPath, Mapping[int, Any]]) -> None:
        """Refuse a file for an object that neither exists nor will be written, before a derived plate is created."""
        plate = self._plate(path) if path.plate.output is None else self._writable(path.plate)
        with _missing():
            if isinstance(path, SitePath) and path.site not in wells.get(path.parent, {}):
                plate.image(path.well, path.site)
            elif isinstance(path, WellPath):
                plate.well(path.well)

    def _writable(self, path: PlatePath) -> PlateStructure:
        """This user's derived plate or, if it does not exist yet, its future structure: the source's wells, empty."""
        own = self._own(path)
        if own is not None:
            return own
        source = self.plate_structure(path.plate_id)
        wells = {name: replace(source.wells[name], images={}) for name in source.wells_with_images()}
        return replace(source, wells=wells)

    def _write_file(self, path: FilePath, data: bytes) -> None:
        if path.plate.output is not None:
            self._derive(path.plate)
        kind, object_id = self._object(path.parent)
        save_text(self.conn, kind, object_id, path.name, data)
        self._attach_table(path, data)

    def _attach_table(self, path: FilePath, data: bytes) -> None:
        """Update a plate's OMERO.table to match a file of features."""
        if isinstance(path.parent, PlatePath) and is_table(path.name):
            attach_table(self.conn, load_plate(self.conn, self._plate(path).plate_id, False), path.name, data)

    def ensure_directory(self, directory: PathLike) -> None:
        """Create a derived plate with its wells if it does not exist; any other plate or well must exist."""
        path = _parse(directory)
        if not isinstance(path, PlatePath | WellPath):
            raise BadData(f"{directory} can't be a directory: it is the name of a file")
        if path.plate.output is not None:
            self._derive(path.plate)
        self._object(path)

    def delete(self, path: PathLike) -> None:
        """Delete an attached file, or the last site of a derived plate's well."""
        virtual = _parse_file(path)
        kind, object_id = self._object(virtual)
        if isinstance(virtual, FilePath):
            delete_text(self.conn, kind, object_id, virtual.name)
            self._attach_table(virtual, b"")
            return
        image, plate = self.image(virtual), self._plate(virtual)
        if virtual.plate.output is None:
            raise BadData(f"{path} belongs to a source plate, whose images are never changed")
        if isinstance(virtual, PlanePath) and image.shape[:3] != (1, 1, 1):
            raise BadData(f"{path} is one of several planes of an image: delete the site")
        if image.site != len(plate.well(virtual.well).images):
            raise BadData(
                f"{path} is not the last site of its well: sites can't have gaps, so delete the later ones first"
            )
        queries.delete(self.conn, plate.group_id, WellSample=[image.well_sample_id])
        self._forget(virtual.plate)

    def _forget(self, path: PlatePath) -> None:
        self._structures.pop((path.plate_id, path.output), None)

    def _own(self, path: PlatePath) -> PlateStructure | None:
        """This user's derived plate at a path, the only one that is written to; None if it does not exist yet."""
        known = self._structures.get((path.plate_id, path.output))
        if known is not None and known.plate_id in self._own_ids:
            return known
        own = own_plates(self.conn, self.plate_structure(path.plate_id), path.output or "")
        return self._keep_own(path, own[0]) if own else None

    def _keep_own(self, path: PlatePath, derived_id: int) -> PlateStructure:
        self._own_ids.add(derived_id)
        self._structures[path.plate_id, path.output] = load_plate(self.conn, derived_id, require_images=False)
        return self._structures[path.plate_id, path.output]

    def _derive(self, path: PlatePath) -> PlateStructure:
        """This user's derived plate at a path; created with the wells of its source if it does not exist yet."""
        found = self._own(path)
        if found is not None:
            return found
        source = self.plate_structure(path.plate_id)
        return self._keep_own(path, derive_plate(self.conn, source, path.output or "", {}))

    def _complete(self, site: SitePath, given: Planes | np.ndarray) -> np.ndarray:
        """The pixels of a new image: the given planes, and all other planes from the current image."""
        if isinstance(given, np.ndarray):
            return given
        planes: Planes = {}
        if self._own(site.plate) is None:
            return stack(site, given)
        with contextlib.suppress(MissingFile):
            image = self.image(site)
            if set(planes_of(image)) - set(given):
                present = read_site(self.conn, image)
                planes = {(t, c, z): present[t or 0, c, z] for t, c, z in planes_of(image)}
        return stack(site, planes | given)

    def _write_well(self, path: WellPath, images: dict[int, np.ndarray], files: list[tuple[FilePath, bytes]]) -> None:
        """Write sites of a derived plate's well, with their files, in one go.

        The files of replaced images move to the new images.
        """
        derived = self._derive(path.plate)
        if path.well not in derived.wells:
            raise BadData(f"{path} can't be written: the derived plate has no such well")
        source = self.plate_structure(path.plate.plate_id)
        set_acquisitions(self.conn, derived.plate_id, source, DERIVED)
        beside = [WellFile(getattr(file.parent, "site", None), file.name, data) for file, data in files]
        write_well(self.conn, derived.plate_id, path.well, self._new_images(path, images), {}, beside, whole=False)
        self._forget(path.plate)

    def _new_images(self, path: WellPath, images: Mapping[int, np.ndarray]) -> dict[int, NewImage]:
        """The images of a well's sites, with names and metadata from the source plate if it has these sites."""
        well = self.plate_structure(path.plate.plate_id).wells.get(path.well)
        origins = {site: image for site, image in well.images.items() if site in images} if well else {}
        described = read_metadata(self.conn, list(origins.values()), all_planes=True)
        positions = read_positions(self.conn, list(origins.values()))
        new = {}
        for site, pixels in images.items():
            origin = origins.get(site)
            metadata = described.get(origin.image_id, ImageMetadata()) if origin else ImageMetadata()
            acquired = metadata.recorded.processed(origin.shape[:3], pixels.shape[:3]) if origin else Acquired()
            if origin:
                acquired = replace(acquired, position=positions.get(origin.well_sample_id, (None, None)))
            alike = len(metadata.channel_names) == pixels.shape[1]
            new[site] = NewImage(
                (origin.name if origin else "") or f"{path.well} site {site}",
                pixels,
                channel_names=metadata.channel_names if alike else (),
                colors=metadata.colors if alike else (),
                pixel_size=metadata.pixel_size,
                source_image=origin.image_id if origin else None,
                acquired=acquired,
                acquisition=origin.acquisition[0] if origin and origin.acquisition else None,
            )
        return new


def _parse(path: PathLike) -> VirtualPath:
    try:
        return parse_path(str(path))
    except ValueError as error:
        raise BadData(str(error)) from None


def _parse_file(path: PathLike) -> ImagePath | FilePath:
    virtual = _parse(path)
    if isinstance(virtual, PlatePath | WellPath):
        raise BadData(f"{path} is a {virtual.kind}, which is a directory and not a file")
    return virtual


def _parse_directory(path: PathLike) -> PlatePath | WellPath:
    virtual = _parse(path)
    if not isinstance(virtual, PlatePath | WellPath):
        raise MissingFile(f"there is no directory {path}")
    return virtual


@contextlib.contextmanager
def _missing() -> Iterator[None]:
    """Raise MissingFile for objects that OMERO does not have."""
    try:
        yield
    except PlateError as error:
        raise MissingFile(str(error)) from None


def _is_of(path: FilePath, well: WellPath, images: Mapping[int, Any]) -> bool:
    """Whether a file belongs to a well or to one of these images in it."""
    return path.parent == well or (
        isinstance(path.parent, SitePath) and path.parent.parent == well and path.parent.site in images
    )
