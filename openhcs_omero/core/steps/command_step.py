"""Commands as steps: the images of a well are written for a program, and what it writes becomes the results."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from openhcs_omero.core.command import Command
from openhcs_omero.core.config import Step
from openhcs_omero.core.steps.processes import Scratch
from openhcs_omero.core.steps.running import SiteResult, failing
from openhcs_omero.core.steps.written import Written, read_written
from openhcs_omero.errors import StepError
from openhcs_omero.io.formats import write_tiff
from openhcs_omero.io.zarr_image import write_image
from openhcs_omero.plates.image import ImageMetadata, storable

MINUTE = 60.0
ENDINGS = {"ome-tiff": ".ome.tif", "ome-zarr": ".ome.zarr"}


@dataclass(frozen=True)
class Place:
    """Where commands run.

    Parameters
    ----------
    plate
        The plate's label.
    well
        The well's name.
    scratch
        The folder for temporary files; None for the system's.
    threads
        Number of CPUs of the job.
    """

    plate: str
    well: str
    scratch: Path | None
    threads: int


class CommandStep:
    """A step that runs a program.

    Parameters
    ----------
    step
        The step, which has a command.
    """

    def __init__(self, step: Step) -> None:
        assert step.command is not None
        self._step, self._command = step, step.command
        if not self._command.tables:
            self.features: dict[str, Any] = {}  # no columns, as declared by functions

    def __call__(self, *args: Any, **params: Any) -> tuple[np.ndarray, dict[str, Any]]:
        raise StepError(f"{self._step} is a command, which runs on the sites of a well: use `run`")

    def run(
        self, sites: Iterable[tuple[int, SiteResult, ImageMetadata]], place: Place
    ) -> Iterator[tuple[int, SiteResult]]:
        """Run the command on all sites of a well; yields each site with its results.

        Parameters
        ----------
        sites
            The number of each site, what the steps before made of it, and the metadata of its source image.
        place
            Where it runs.

        Raises
        ------
        StepFailed
            If the command fails, or writes something else than the configuration says.
        """
        minutes = self._step.needs.runtime
        deadline = time.monotonic() + MINUTE * minutes if minutes else None
        groups = [list(sites)] if self._command.per == "well" else ([site] for site in sites)
        for group in groups:
            only = group[0][0] if self._command.per == "site" else None
            with failing(self._step, only):
                yield from self._run_group(group, place, deadline)

    def _run_group(
        self, sites: Sequence[tuple[int, SiteResult, ImageMetadata]], place: Place, deadline: float | None
    ) -> list[tuple[int, SiteResult]]:
        command = self._command
        stems = {site: f"{place.well}_s{site:03d}" for site, _, _ in sites}
        shapes = {}
        with Scratch(place.scratch) as scratch:
            images, out = scratch.folder / "images", scratch.folder / "out"
            images.mkdir()
            out.mkdir()
            for site, done, about in sites:
                chosen = self._chosen(done)
                shapes[site] = chosen.shape
                _write_site(
                    images / f"{stems[site]}{ENDINGS[command.images]}", chosen, self._about(done, about), command
                )
            values: dict[str, object] = {
                "images": images,
                "out": out,
                "config_dir": command.folder.absolute(),
                "well": place.well,
                "plate": place.plate,
                "site": sites[0][0],
                "threads": place.threads,
            }
            scratch.run(command.expanded(values), None if deadline is None else deadline - time.monotonic())
            found = read_written(command, out, stems, shapes)
            return [(site, self._after(done, found[site])) for site, done, _ in sites]

    def _chosen(self, done: SiteResult) -> np.ndarray:
        """The channels that the command gets."""
        channels = self._step.channels
        return done.image if channels is None else done.image[:, list(channels)]

    def _about(self, done: SiteResult, about: ImageMetadata) -> ImageMetadata:
        """The metadata of these channels."""
        if done.image.shape[1] != len(about.channel_names):
            return replace(about, channel_names=(), colors=())
        channels = range(done.image.shape[1]) if self._step.channels is None else self._step.channels
        colors = tuple(about.colors[c] for c in channels) if about.colors else ()
        return replace(about, channel_names=tuple(about.channel_names[c] for c in channels), colors=colors)

    def _after(self, done: SiteResult, found: Written) -> SiteResult:
        image = done.image if found.image is None else self._put_back(done.image, found.image)
        return done.after(self._step, (image, {**found.results, "objects": found.objects, "labels": found.labels}))

    def _put_back(self, whole: np.ndarray, found: np.ndarray) -> np.ndarray:
        """The image with the channels that the command returned in their places."""
        if self._step.channels is None:
            return found
        expected = (whole.shape[0], len(self._step.channels), *whole.shape[2:])
        if found.shape != expected:
            raise StepError(
                f"wrote an image {found.shape}; with `channels`, it must have the shape {expected} of its input"
            )
        image = whole.astype(np.result_type(whole, found))
        image[:, list(self._step.channels)] = found
        return image


def _write_site(path: Path, pixels: np.ndarray, about: ImageMetadata, command: Command) -> None:
    stored = storable(pixels, path.name)
    if command.images == "ome-tiff":
        write_tiff(path, stored, about=about)
    else:
        write_image(path, path.name.removesuffix(ENDINGS[command.images]), stored, about)
