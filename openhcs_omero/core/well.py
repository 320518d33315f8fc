"""Processing one well: read its sites, run the steps, and return images, files and table rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from openhcs_omero.core.command import hash_of
from openhcs_omero.core.config import Settings, Step
from openhcs_omero.core.estimates import Estimates, estimates_for, load_estimates
from openhcs_omero.core.kept import KeptWell, keys_of
from openhcs_omero.core.plates import Plate
from openhcs_omero.core.records import DerivedPlate, WellRecord, to_json
from openhcs_omero.core.steps.command_step import Place
from openhcs_omero.core.steps.loading import load_step, wants_treatment
from openhcs_omero.core.steps.running import SiteResult, StepFailed, failing, rows_of
from openhcs_omero.core.steps.stages import Sites, Told, run_on_well
from openhcs_omero.core.treatments import recorded_treatments
from openhcs_omero.errors import OpenHCSError, StepError, is_lost
from openhcs_omero.io.base import StorageRegistry
from openhcs_omero.io.filemanager import FileManager
from openhcs_omero.io.staged import StagedFiles
from openhcs_omero.plates.image import ImageMetadata, NewImage, WellFile, storable
from openhcs_omero.plates.labels import Labels, fits
from openhcs_omero.plates.structure import ImageStructure

THUMBNAIL = 96  # px

Rows = Sequence[Mapping[str, Any]]


class WellFailed(OpenHCSError):
    """A site can't be read or a step fails on it, and a retry would not help. The cause holds the traceback."""

    def __init__(self, site: int | None, step: str, reason: str) -> None:
        super().__init__(f"{step}: {reason}")
        self.site, self.step, self.reason = site, step, reason


@dataclass(frozen=True)
class Processed:
    """The results of a well.

    Parameters
    ----------
    images
        Derived images by site.
    files
        The files that the steps saved.
    features, objects
        Table rows: one per site (and timepoint), and one per object.
    label_channels
        The channels that a step turned into label images.
    """

    images: Mapping[int, NewImage]
    files: Sequence[WellFile]
    features: Rows
    objects: Rows
    label_channels: Collection[int]


def process(
    settings: Settings, plate: Plate, derived: DerivedPlate, well: str, estimates: Sequence[Path], threads: int = 1
) -> Processed:
    """Run the steps on all sites of a well; nothing is written.

    Parameters
    ----------
    settings
        The configuration.
    plate
        The plate.
    derived
        The record of the derived plate.
    well
        Name of the well.
    estimates
        `<position>_<function>_c<channel>.npz` files.
    threads
        Number of CPUs of the job.

    Raises
    ------
    WellFailed
        If a site can't be read, or a step fails on it.
    """
    run = WellSteps(settings, settings.steps, plate, derived, well)
    loaded = load_estimates(estimates)
    place = Place(plate.label, well, settings.scratch, threads)
    images: dict[int, NewImage] = {}
    features: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    kept = run.kept(settings, estimates) if any(step.keep for step, _ in run.steps) else None
    try:
        for site, done in run.on(_read(plate, well), loaded, place, kept):
            image, about = run.sites[site], run.described[site]
            if settings.rois.on == "both" and image.image_id is not None:
                _check_on_source(run.steps[-1][0], image, done.labels)
            images[site] = _new_image(image, _storable(run.steps[-1][0], image, done.image), done.labels, about)
            where = {"plate": plate.label, "well": well, **_acquisition(image), "site": site}
            features += [{**where, **row} for row in rows_of(done.results, about.times or [None] * image.size_t)]
            objects += [{**where, **row} for row in done.objects]
    except StepFailed as error:
        raise WellFailed(error.site, str(error.step), error.reason) from error.__cause__
    _check_names(images, run.files.files)
    return Processed(images, run.files.files, features, objects, _label_channels(run.steps, done.image.shape[1]))


class WellSteps:
    """Runs steps on sites of a well. What they save is held, not written.

    Parameters
    ----------
    settings
        The configuration.
    steps
        The steps to run.
    plate
        The plate.
    derived
        Where the results go.
    well
        Name of the well.
    """

    def __init__(
        self, settings: Settings, steps: Iterable[Step], plate: Plate, derived: DerivedPlate, well: str
    ) -> None:
        self.steps = [(step, load_step(step)) for step in steps]
        self._plate, self._well = plate, well
        self.sites, self.described = plate.structure.wells[well].images, plate.metadata(well)
        treatment: dict[str, Any] = {}
        if any(wants_treatment(function) for _, function in self.steps):
            treatment["treatment"] = recorded_treatments(settings.folder(plate.label)).get(well, {})
        self._metadata = {
            site: _metadata(settings, derived, well, image, self.described[site]) | treatment
            for site, image in self.sites.items()
        }
        behind, self._backend = plate.output.backend, plate.output.name
        self.files = StagedFiles(behind, derived.path, well, list(self.described))
        self._manager = FileManager(
            StorageRegistry(
                {name: self.files if backend is behind else backend for name, backend in plate.files.registry.items()}
            )
        )

    def kept(self, settings: Settings, estimates: Sequence[Path]) -> KeptWell:
        """The kept images of the well; `estimates` are the files with the estimates that the steps get."""
        hashes: dict[int, str] = {}
        for path in sorted(estimates):
            position = int(path.stem.partition("_")[0])
            hashes[position] = hashes.get(position, "") + hash_of(path)
        images = to_json(WellRecord.of(self._plate.path, self._plate.listing, self._well))
        described = {site: asdict(about) for site, about in self.described.items()}
        given = [self._plate.path, self._plate.label, images, self._metadata, described, self._backend]
        keys = keys_of(self.steps, given, hashes)
        assert settings.scratch is not None  # the configuration was checked
        folder = settings.folder(self._plate.label).name
        return KeptWell(settings.scratch, settings.scratch_gb * 1e9, folder, self._well, keys, self.files)

    def on(
        self, sites: Sites, estimates: Estimates, place: Place, kept: KeptWell | None = None
    ) -> Iterator[tuple[int, SiteResult]]:
        """Run the steps on sites of the well, or those after the last one whose images are kept; raises StepFailed."""
        told = {
            site: Told(self._metadata[site], self.described[site], estimates_for(image, estimates))
            for site, image in self.sites.items()
        }
        done, found = (0, []) if kept is None else kept.latest()
        rest = [(step, function) for step, function in self.steps if step.position > done]
        after = None if kept is None else kept.after
        return run_on_well(rest, found if done else sites, told, self._manager, self._backend, place, after)


def _check_on_source(last: Step, image: ImageStructure, labels: Labels) -> None:
    """Check that labels can be drawn on the source image, which steps may have cropped or scaled; raises StepFailed."""
    with failing(last, image.site):
        for name, array in labels.items():
            if not fits(array, image.shape):
                raise StepError(
                    f"leaves labels {name!r} {array.shape}, which do not fit the source image {image.shape} that "
                    "`rois: {on: both}` draws them on: without it, only the derived images get regions of interest"
                )


def _check_names(images: Mapping[int, NewImage], files: Sequence[WellFile]) -> None:
    """Check that no step saved a file with the name that the file of labels has in a folder."""
    for file in files:
        labels = () if file.site is None else images[file.site].labels
        for name in labels:
            if file.name.lower() == f"{name}_labels.tif".lower():
                reason = f"a step saved {file.name!r}, which is the name of the file with the labels {name!r}"
                raise WellFailed(file.site, "saving files", reason)


def _label_channels(steps: Iterable[tuple[Step, Callable[..., Any]]], channels: int) -> set[int]:
    """The channels that hold label images, according to the declarations of the steps."""
    return {
        channel
        for step, function in steps
        if getattr(function, "makes_labels", False)
        for channel in (range(channels) if step.channels is None else step.channels)
    }


def _read(plate: Plate, well: str) -> Iterator[tuple[int, SiteResult]]:
    """Read the sites of a well; an unreadable site fails the well, and a lost server fails the job."""
    try:
        plate.structure.check_types([well])
        for image, pixels in plate.sites(well):
            yield image.site, SiteResult.of(pixels)
    except OpenHCSError as error:
        if is_lost(error):
            raise
        raise WellFailed(None, "reading the images", str(error)) from error


def _metadata(
    settings: Settings, derived: DerivedPlate, well: str, image: ImageStructure, about: ImageMetadata
) -> dict[str, Any]:
    """The metadata that a step gets about the site."""
    return {
        **_acquisition(image),
        "plate_id": derived.source_plate,
        "plate": derived.path,
        "output": settings.output,
        "well": well,
        "site": image.site,
        "channels": list(about.channel_names),
        "pixel_size": about.pixel_size[2],
        "filled": [list(plane) for plane in about.filled],
    }


def _acquisition(image: ImageStructure) -> dict[str, str]:
    """The name of the image's acquisition, for tables and steps; empty if it has none."""
    return {} if image.acquisition is None else {"acquisition": image.acquisition[1]}


def _storable(last: Step, image: ImageStructure, pixels: np.ndarray) -> np.ndarray:
    """The pixels that the last step returned, in a type that OMERO and files can have; raises StepFailed."""
    with failing(last, image.site):
        return storable(pixels, image.name)


def _new_image(image: ImageStructure, pixels: np.ndarray, labels: Labels, about: ImageMetadata) -> NewImage:
    same = pixels.shape[1] == image.size_c  # otherwise a step changed the channels
    return NewImage(
        image.name,
        pixels,
        about.channel_names if same else (),
        about.colors if same else (),
        about.pixel_size,
        source_image=image.image_id,
        labels=labels,
        acquired=about.recorded.processed(image.shape[:3], pixels.shape[:3]),
        acquisition=None if image.acquisition is None else image.acquisition[0],
    )


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """Make a small picture of an image: the first timepoint, as the maximum over z and over blocks of pixels.

    Parameters
    ----------
    pixels
        (T, C, Z, Y, X).

    Returns
    -------
    ndarray
        (C, Y, X).
    """
    planes = pixels[0].max(axis=1)
    block = -(-max(planes.shape[1:]) // THUMBNAIL)
    y, x = (side // block * block or side for side in planes.shape[1:])
    rows, columns = max(1, y // block), max(1, x // block)
    return planes[:, :y, :x].reshape(len(planes), rows, y // rows, columns, x // columns).max(axis=(2, 4))
