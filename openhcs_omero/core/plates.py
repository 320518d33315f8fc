"""An opened plate of the configuration: how to read it, and where its results go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openhcs_omero.core.config import Settings
from openhcs_omero.core.materialization import MaterializationFlagPlanner
from openhcs_omero.core.outputs.base import Output
from openhcs_omero.core.outputs.folder import FolderOutput
from openhcs_omero.errors import PlateError, first_of
from openhcs_omero.io.base import StorageBackend, StorageRegistry, storage_registry
from openhcs_omero.io.filemanager import FileManager
from openhcs_omero.io.memory import MemoryBackend
from openhcs_omero.microscopes.base import Backend, MicroscopeHandler, Plane, PlateListing
from openhcs_omero.microscopes.detect import handler_of
from openhcs_omero.plates.paths import expand_wells, parse_well, plate_of

if TYPE_CHECKING:
    import numpy as np

    from openhcs_omero.omero.connection import BlitzGateway
    from openhcs_omero.omero.server import Server
    from openhcs_omero.plates.image import ImageMetadata
    from openhcs_omero.plates.structure import ImageStructure, PlateStructure

SHOWN = 8  # wells in a sentence


@dataclass(frozen=True)
class Plate:
    """A plate of the configuration, ready to be read.

    Parameters
    ----------
    label
        Name of the plate in rules and tables.
    path
        The plate's path for the handler.
    files
        The backends of this process.
    output
        Where the results go.
    known
        A recorded listing, which may cover only some of the wells; None asks the handler.
    """

    label: str
    path: str
    handler: MicroscopeHandler
    files: FileManager
    output: Output
    known: PlateListing | None = None

    @property
    def listing(self) -> PlateListing:
        return self.known or self.handler.listing(self.path)

    @property
    def structure(self) -> PlateStructure:
        return self.known.structure if self.known else self.handler.structure(self.path)

    def sites(self, well: str) -> Iterator[tuple[ImageStructure, np.ndarray]]:
        """Yield each image of a well with its pixels, (T, C, Z, Y, X), in the order of the sites.

        The next site is read while the caller works on the current one.
        """
        return self.handler.read_sites(self.listing, well, self.files)

    def plane(self, well: str, site: int, place: Plane) -> np.ndarray:
        """Read one plane, (Y, X), of a site; `place` is its (t, c, z), each from 0."""
        return self.handler.read_plane(self.listing, well, site, place, self.files)

    def channel_names(self, chosen: PlateStructure) -> tuple[str | None, ...]:
        """The names of the channels, by number, of the chosen wells.

        Raises
        ------
        PlateError
            If the images of the plate name their channels differently.
        """
        return self.handler.channel_names(self.path, chosen)

    def metadata(self, well: str) -> dict[int, ImageMetadata]:
        """Read the channel names, colors and pixel sizes of a well's images, by site."""
        return self.handler.read_metadata(self.listing, well)


def open_plates(settings: Settings, labels: Iterable[str], connect: Callable[[Server], BlitzGateway]) -> list[Plate]:
    """Open plates: find out how to read each one and where its results go.

    Parameters
    ----------
    settings
        The configuration.
    labels
        Labels of the plates to open.
    connect
        Makes the connection to OMERO; called only if one of the plates is in OMERO.

    Raises
    ------
    OpenHCSError
        If the connection fails, or a folder does not exist or is not from a known microscope.
    """
    paths = {label: settings.plates[label] for label in labels}
    registry = StorageRegistry({**storage_registry, "memory": MemoryBackend()})
    if any(plate_of(path) for path in paths.values()):
        from openhcs_omero.io.omero_local import OMEROLocalBackend  # runs over folders need no OMERO

        registry["omero_local"] = OMEROLocalBackend(omero_conn=connect(settings.server()))
    files = FileManager(registry)
    planner = MaterializationFlagPlanner(files, settings.materialization_backend)
    plates = []
    for label, path in paths.items():
        options = settings.options[label]
        handler = handler_of(
            path, registry, options.pattern, options.incomplete, options.follow_links, options.acquisition
        )
        name = planner.plan(handler, path).materialization_backend
        output = _output(settings, label, name, registry[name])
        plates.append(Plate(label, path, handler, files, output))
    return plates


def _output(settings: Settings, label: str, name: str, backend: StorageBackend) -> Output:
    """The output for a plate whose results are written by the named backend."""
    if name != Backend.OMERO_LOCAL:
        return FolderOutput(backend, name, settings.folder(label), settings.plates[label])  # type: ignore[arg-type]
    from openhcs_omero.core.outputs.omero import OMEROOutput

    acquisition = settings.options[label].acquisition
    return OMEROOutput(backend, settings.output, settings.rois, acquisition)  # type: ignore[arg-type]


def choose_wells(plate: Plate, settings: Settings, say: Callable[[str], None] = lambda note: None) -> PlateStructure:
    """The structure of the plate, limited to the wells that the configuration asks for.

    ``all`` and ranges include only wells with images.

    Parameters
    ----------
    plate
        The plate.
    settings
        The configuration.
    say
        Called with one sentence about everything that is left out or filled.

    Raises
    ------
    PlateError
        If a well is not in the plate, a well named individually has no images, a well is incomplete, or no well has
        images that can be processed.
    """
    structure, asked = plate.structure, settings.options[plate.label].wells
    structure.check_images()
    try:
        chosen = expand_wells(asked, structure.wells, (structure.rows, structure.columns))
    except PlateError as error:
        raise PlateError(f"plate {plate.label}: {error}") from None
    plate.handler.check_complete(plate.path, chosen)
    filled = [name for name in chosen if structure.wells[name].images]
    empty = [name for name in chosen if not structure.wells[name].images]
    alone = {
        parse_well(item) for item in ([asked] if isinstance(asked, str) else asked) if "-" not in item and item != "all"
    }
    if wrong := [name for name in empty if parse_well(name) in alone]:
        raise PlateError(
            f"plate {plate.label} has wells without images ({first_of(wrong, SHOWN)}): choose wells with images in "
            f"`wells`, such as [{', '.join(structure.wells_with_images()[:3])}]"
        )
    if not filled:
        raise PlateError(
            f"plate {plate.label} has no images in the wells {_listed(asked)}: choose wells with images, such as "
            f"[{', '.join(structure.wells_with_images()[:3])}]"
        )
    _tell_types(structure, filled, say)
    for note in plate.handler.notes(plate.path):
        say(f"plate {plate.label}: {note}")
    if empty:
        are = "1 well has no images and is" if len(empty) == 1 else f"{len(empty)} wells have no images and are"
        say(f"plate {plate.label}: {are} left out ({first_of(empty, SHOWN)})")
    taken = structure.only(filled)
    if len(kinds := taken.kinds()) > 1:
        say(
            f"plate {plate.label}: images of {len(kinds)} kinds go to the steps as they are: "
            f"{'; '.join(kinds[:4])}{'; ...' if len(kinds) > 4 else ''}"
        )
    return taken


def _tell_types(structure: PlateStructure, wells: Sequence[str], say: Callable[[str], None]) -> None:
    """Say which wells can't be processed because of the type of their pixels; PlateError if it is all of them."""
    other = structure.wells_of_other_types()
    failing = [well for well in wells if well in other]
    if len(failing) == len(wells):
        structure.check_types(wells)
    for problem in structure.type_problems(failing):
        say(f"plate {structure.label}: {problem}; {first_of(failing, SHOWN)} will fail")


def _listed(asked: str | Sequence[str]) -> str:
    return asked if isinstance(asked, str) else ", ".join(asked)
