"""Plates in OMERO, which are always read from and written to OMERO."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from openhcs_omero.errors import PlateError
from openhcs_omero.io.filemanager import FileManager
from openhcs_omero.io.omero_local import OMEROLocalBackend
from openhcs_omero.microscopes.base import (
    Backend,
    MicroscopeHandler,
    Place,
    Plane,
    PlateLike,
    PlateListing,
    common_names,
)
from openhcs_omero.omero import pixels
from openhcs_omero.omero.filled import read_filled
from openhcs_omero.plates.image import ImageMetadata
from openhcs_omero.plates.paths import PlatePath, plate_of
from openhcs_omero.plates.structure import ImageStructure, PlateStructure


class OMEROHandler(MicroscopeHandler):
    """Plates of an OMERO server.

    Parameters
    ----------
    backend
        The backend that talks to the server. It queries the structure of a plate only once.
    acquisition
        Id or name of the acquisition to read, or "all", for a plate that was imaged several times.
    """

    microscope_type = "omero"
    parser_name = "VirtualPath"

    def __init__(self, backend: OMEROLocalBackend, acquisition: int | str | None = None) -> None:
        super().__init__()
        self.backend = backend
        self.acquisition = acquisition

    @property
    def compatible_backends(self) -> list[Backend]:
        return [Backend.OMERO_LOCAL]

    def structure(self, plate_path: PlateLike) -> PlateStructure:
        path = _in_omero(plate_path)
        return self.backend.plate_structure(path.plate_id, path.output).of_acquisition(self.acquisition)

    def parse(self, plate_path: PlateLike) -> PlateListing:
        structure, derived = self.structure(plate_path), _in_omero(plate_path).output is not None
        filled = {} if derived else read_filled(self.backend.conn, structure)
        return PlateListing(structure, Backend.OMERO_LOCAL, filled=filled)

    def notes(self, plate_path: PlateLike) -> tuple[str, ...]:
        return self.structure(plate_path).notes

    def get_channel_values(self, plate_path: PlateLike) -> dict[int, str | None]:
        listing = self.listing(plate_path)
        first = next((image for _, image in listing.structure.images()), None)
        if first is not None and not listing.channel_names:  # jobs and plans don't need them: query on demand
            metadata = pixels.read_metadata(self.backend.conn, [first])[first.image_id]
            self._listings[str(plate_path)] = replace(
                listing, channel_names=metadata.channel_names, pixel_size=metadata.pixel_size
            )
        return super().get_channel_values(plate_path)

    def channel_names(self, plate_path: PlateLike, chosen: PlateStructure) -> tuple[str | None, ...]:
        images = list(chosen.images())
        described = pixels.read_metadata(self.backend.conn, [image for _, image in images])
        about = [(well, image.site, described.get(image.image_id, ImageMetadata())) for well, image in images]
        return common_names(plate_path, [(well, site, metadata.channel_names) for well, site, metadata in about])

    def refresh(self, plate_path: PlateLike) -> None:
        path = _in_omero(plate_path)
        self._listings = {known: listing for known, listing in self._listings.items() if plate_of(known) != path}
        self.backend.refresh(str(path))

    def close(self) -> None:
        pixels.close_store()

    def _read_site(self, listing: PlateListing, well: str, site: int, filemanager: FileManager) -> np.ndarray:
        return pixels.read_site(self.backend.conn, listing.structure.image(well, site))

    def read_sites(
        self, listing: PlateListing, well: str, filemanager: FileManager
    ) -> Iterator[tuple[ImageStructure, np.ndarray]]:
        images = listing.structure.well(well).images
        return pixels.read_sites(self.backend.conn, [images[site] for site in sorted(images)])

    def read_plane(
        self, listing: PlateListing, well: str, site: int, place: Plane, filemanager: FileManager
    ) -> np.ndarray:
        t, c, z = place
        return pixels.read_plane(self.backend.conn, listing.structure.image(well, site), z, c, t)

    def read_metadata(self, listing: PlateListing, well: str) -> dict[int, ImageMetadata]:
        wells, own = listing.structure.wells, listing.structure.well(well)
        later = list(wells)[list(wells).index(own.well_id) + 1 :]
        following = (image for name in later for image in wells[name].images.values())
        described = pixels.read_recorded(self.backend.conn, list(own.images.values()), following)
        return {
            site: replace(described[image.well_sample_id], filled=tuple(sorted(listing.filled.get((well, site), ()))))
            for site, image in own.images.items()
        }

    def read_dates(self, listing: PlateListing) -> dict[Place, float]:
        places = {image.image_id: (well, image.site) for well, image in listing.structure.images()}
        return {places[image]: date for image, date in pixels.read_dates(self.backend.conn, list(places)).items()}


def _in_omero(plate_path: PlateLike) -> PlatePath:
    path = plate_of(plate_path)
    if path is None:
        raise PlateError(f"{plate_path} is not a plate in OMERO: expected an id or /omero/plate_<id>[_<output>]")
    return path
