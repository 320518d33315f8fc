"""Plates in OMERO: read from it and written to it, whatever else is configured."""

import numpy as np

from openhcs_omero.errors import PlateError
from openhcs_omero.io.filemanager import FileManager
from openhcs_omero.io.omero_local import OMEROLocalBackend
from openhcs_omero.microscopes.base import Backend, MicroscopeHandler, PlateListing, PlatePath
from openhcs_omero.omero.paths import VirtualPath
from openhcs_omero.omero.pixels import ImageMetadata, read_metadata


class OMEROHandler(MicroscopeHandler):
    """Plates of an OMERO server.

    Parameters
    ----------
    backend
        The backend that speaks to the server. It asks for what a plate is made of once.
    """

    microscope_type = "omero"
    parser_name = "VirtualPath"

    def __init__(self, backend: OMEROLocalBackend) -> None:
        super().__init__()
        self.backend = backend

    @property
    def compatible_backends(self) -> list[Backend]:
        return [Backend.OMERO_LOCAL]

    def parse(self, plate_path: PlatePath) -> PlateListing:
        path = plate_of(plate_path)
        structure = self.backend.plate_structure(path.plate_id, path.output)
        first = next((image for _, image in structure.images()), None)
        metadata = ImageMetadata() if first is None else read_metadata(self.backend.conn, [first])[first.image_id]
        return PlateListing(structure, Backend.OMERO_LOCAL, {}, metadata.channel_names, metadata.pixel_size)

    def refresh(self, plate_path: PlatePath) -> None:
        path = plate_of(plate_path)
        self._listings = {known: listing for known, listing in self._listings.items() if plate_of(known) != path}
        self.backend.refresh(str(path))

    def load_site(self, plate_path: PlatePath, well: str, site: int, filemanager: FileManager) -> np.ndarray:
        self.listing(plate_path).structure.image(well, site)  # says which sites there are where this is none
        path = plate_of(plate_path)
        return filemanager.load(str(VirtualPath(path.plate_id, path.output, well, site)), Backend.OMERO_LOCAL)


def plate_of(plate_path: PlatePath) -> VirtualPath:
    """The plate that an id, its digits or a path like ``/omero/plate_7`` names, or PlateError."""
    text = str(plate_path)
    try:
        path = VirtualPath(int(text)) if text.isdecimal() else VirtualPath.parse(text)
    except ValueError as error:
        raise PlateError(str(error)) from None
    if path.kind != "plate":
        raise PlateError(f"{text} is a {path.kind} and not a plate: expected an id or /omero/plate_<id>")
    return path
