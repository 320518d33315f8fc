"""Images that steps with `keep: true` leave in `scratch`, so that a change behind such a step starts there.

scratch/kept/plate_7_processed/A01_2_<hash>.zip   well A01 after step 2; the hash is of all that it depends on

Nothing needs these files: without them, a run takes longer. If they take more than `scratch_gb`, those of the plate
that was not used for the longest time are deleted.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from openhcs_omero.core.config import Step
from openhcs_omero.core.kept_file import FORMAT, NotKept, read_kept, write_kept
from openhcs_omero.core.state import digest_of
from openhcs_omero.core.steps.checks import Steps
from openhcs_omero.core.steps.running import SiteResult
from openhcs_omero.core.steps.source import step_record
from openhcs_omero.io.atomic import delete_folder, replacing
from openhcs_omero.io.staged import StagedFiles
from openhcs_omero.version import __version__

FOLDER = "kept"
ABANDONED = 3600  # seconds after which an unfinished file is one of a process that was killed


def keys_of(steps: Steps, given: Any, estimates: Mapping[int, str]) -> dict[int, str]:
    """The hashes of all that a well depends on after each step with `keep: true`, by position of the step.

    Parameters
    ----------
    steps
        The steps with their functions.
    given
        What the first step depends on, as JSON: the images of the well and their metadata.
    estimates
        The hashes of the estimates that steps get, by position of the step.
    """
    keys, before = {}, [FORMAT, __version__, given]
    for step, function in steps:
        before += [step_record(step, function), estimates.get(step.position, "")]
        if step.keep:
            keys[step.position] = digest_of(before)[:32]
    return keys


class KeptWell:
    """The kept files of a well.

    Parameters
    ----------
    scratch
        The folder `scratch`.
    limit
        The bytes that all kept files may take.
    plate
        Name of the plate's folder.
    well
        Name of the well.
    keys
        See `keys_of`.
    files
        The files that steps save.
    """

    def __init__(
        self, scratch: Path, limit: float, plate: str, well: str, keys: Mapping[int, str], files: StagedFiles
    ) -> None:
        self._root, self._limit = scratch / FOLDER, limit
        self._folder, self._well, self._keys, self._files = self._root / plate, well, keys, files

    def latest(self) -> tuple[int, list[tuple[int, SiteResult]]]:
        """The position of the last step whose images are there, and the sites after it; 0 and no sites without any."""
        for position in sorted(self._keys, reverse=True):
            path = self._path(position)
            if not path.exists():
                continue
            try:
                sites, files = read_kept(path)
            except (NotKept, OSError) as error:
                print(f"{path} is ignored, because it can't be read: {error}")
                continue
            with contextlib.suppress(OSError):
                os.utime(path)  # it was used
            self._files.restore(files)
            print(f"starts from the images that step {position} left in {path}")
            return position, sites
        return 0, []

    def after(self, step: Step, sites: Iterable[tuple[int, SiteResult]]) -> Iterator[tuple[int, SiteResult]]:
        """Keep the sites after a step if it says so; yields them."""
        if not step.keep:
            yield from sites
            return
        done = [(site, _in_order(result)) for site, result in sites]
        try:
            self._write(self._path(step.position), done)
        except (NotKept, OSError) as error:
            print(f"the images of {step} are not kept: {error}")
        yield from done

    def _path(self, position: int) -> Path:
        return self._folder / f"{self._well}_{position}_{self._keys[position]}.zip"

    def _write(self, path: Path, sites: Sequence[tuple[int, SiteResult]]) -> None:
        if path.exists():  # damaged
            path.unlink(missing_ok=True)
        for other in self._folder.glob(f".{self._well}_*.part"):
            with contextlib.suppress(OSError):
                if time.time() - other.stat().st_mtime > ABANDONED:
                    other.unlink()
        useful = {self._path(position) for position in self._keys}
        replaced = {other for other in self._folder.glob(f"{self._well}_*.zip") if other not in useful}
        with replacing(path) as draft:
            write_kept(draft, sites, self._files.kept)
            self._make_room(replaced)
        for other in replaced:
            other.unlink(missing_ok=True)

    def _make_room(self, replaced: Collection[Path]) -> None:
        """Delete the files of other plates, the longest unused first, until a draft fits in place of some files."""
        sizes: dict[str, int] = {}
        used: dict[str, float] = {}
        for path in self._root.rglob("*"):
            with contextlib.suppress(OSError):  # another process has deleted it
                about = path.stat()
                plate = path.relative_to(self._root).parts[0]
                if path.is_file() and path not in replaced:
                    sizes[plate] = sizes.get(plate, 0) + about.st_size
                    used[plate] = max(used.get(plate, 0.0), about.st_mtime)
        others = sorted(sizes.keys() - {self._folder.name}, key=lambda plate: used[plate])
        if sizes.get(self._folder.name, 0) > self._limit:  # the other plates could not make room
            raise NotKept(f"{self._root} would take more than the {self._limit / 1e9:g} GB of `scratch_gb`")
        while sum(sizes.values()) > self._limit and others:
            oldest = others.pop(0)
            delete_folder(self._root / oldest)
            print(f"{self._root / oldest} was deleted to make room")
            del sizes[oldest]


def _in_order(result: SiteResult) -> SiteResult:
    """The site with arrays as they are when they are read again: their order in memory has an effect on rounding."""

    def in_order(pixels: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("="))

    labels = {name: in_order(labels) for name, labels in result.labels.items()}
    return replace(result, image=in_order(result.image), labels=labels)
