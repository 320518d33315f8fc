"""The file of a kept well: the images, results, objects, labels and files of its sites after a step.

A Zarr store in a ZIP file, in chunks of a plane, compressed. ZIP has a checksum of each chunk.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs_omero.core.steps.running import SiteResult
from openhcs_omero.io.zarr_chunks import check_array, open_safely
from openhcs_omero.plates.image import WellFile

if TYPE_CHECKING:
    import zarr

FORMAT = 1


class NotKept(ValueError):
    """The results of a step can't be written exactly, or a file can't be read."""


def write_kept(path: Path, sites: Sequence[tuple[int, SiteResult]], files: Mapping[str, WellFile]) -> None:
    """Write a file.

    Parameters
    ----------
    path
        The file to write.
    sites
        The sites of the well, after the step.
    files
        The files that the steps saved, by path.

    Raises
    ------
    NotKept
        If results hold values that can't be restored exactly.
    """
    import zarr
    from zarr.storage import ZipStore

    described = [
        {
            "site": site,
            "results": {key: _encode(value) for key, value in done.results.items()},
            "objects": [{key: _encode(value) for key, value in row.items()} for row in done.objects],
            "labels": list(done.labels),
            "timepoints": done.timepoints,
        }
        for site, done in sites
    ]
    saved = [{"path": place, "site": file.site, "name": file.name} for place, file in files.items()]
    try:
        with ZipStore(path, mode="w", compression=zipfile.ZIP_STORED) as store:
            group = zarr.create_group(store, attributes={"record": json.dumps({"sites": described, "files": saved})})
            for site, done in sites:
                _write_array(group, _name("image", site), done.image)
                for number, labels in enumerate(done.labels.values()):
                    _write_array(group, _name("labels", site, number), labels)
            for number, file in enumerate(files.values()):
                _write_array(group, _name("file", number), np.frombuffer(file.data, np.uint8))
    except (OSError, NotKept):
        raise
    except Exception as error:  # of Zarr, which raises others than OSError where the file can't be created, too
        raise NotKept(f"{path.name} can't be written: {type(error).__name__}: {error}") from error


def read_kept(path: Path) -> tuple[list[tuple[int, SiteResult]], dict[str, WellFile]]:
    """Read a file; the inverse of `write_kept`.

    Raises
    ------
    NotKept
        If it is damaged.
    OSError
        If it can't be read.
    """
    import zarr
    from zarr.storage import ZipStore

    open_safely()
    try:
        with ZipStore(path, mode="r") as store:
            group = zarr.open_group(store, mode="r")
            record = json.loads(str(group.attrs["record"]))
            sites = [(about["site"], _read_site(group, about)) for about in record["sites"]]
            files = {
                about["path"]: WellFile(
                    about["site"], about["name"], _read_array(group, _name("file", number)).tobytes()
                )
                for number, about in enumerate(record["files"])
            }
    except OSError:
        raise
    except Exception as error:  # Zarr, its codecs and zipfile raise all kinds of errors for damaged content
        raise NotKept(f"{type(error).__name__}: {error}") from error
    return sites, files


def _read_site(group: zarr.Group, about: Mapping[str, Any]) -> SiteResult:
    site = about["site"]
    return SiteResult(
        _read_array(group, _name("image", site)),
        {key: _decode(value) for key, value in about["results"].items()},
        [{key: _decode(value) for key, value in row.items()} for row in about["objects"]],
        {name: _read_array(group, _name("labels", site, number)) for number, name in enumerate(about["labels"])},
        about["timepoints"],
    )


def _name(kind: str, *numbers: int) -> str:
    """The name of an array. None begins with the name of another one, as Zarr 3.1 would take the one for the other."""
    return "_".join([kind, *(f"{number:09d}" for number in numbers)])


def _write_array(group: zarr.Group, name: str, pixels: np.ndarray) -> None:
    from zarr.codecs import BloscCodec

    chunks = tuple(max(1, size) if axis >= pixels.ndim - 2 else 1 for axis, size in enumerate(pixels.shape))
    array = group.create_array(
        name,
        shape=pixels.shape,
        chunks=chunks,
        dtype=pixels.dtype,
        compressors=BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle", typesize=pixels.dtype.itemsize),
        config={"write_empty_chunks": True},  # so that a chunk that is not there is a damage
    )
    if pixels.size:
        array[...] = pixels


def _read_array(group: zarr.Group, name: str) -> np.ndarray:
    import zarr

    array = group[name]
    assert isinstance(array, zarr.Array)
    check_array(array, name)
    if array.size and array.nchunks_initialized != math.prod(-(-s // c) for s, c in zip(array.shape, array.chunks)):
        raise NotKept(f"chunks of {name} are missing")
    return np.ascontiguousarray(array[...])


def _encode(value: Any) -> Any:
    """A value of a table as JSON that restores it exactly, with its type: the tables depend on it."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, list | tuple):
        return {"list" if isinstance(value, list) else "tuple": [_encode(item) for item in value]}
    if isinstance(value, np.bool_ | np.integer | np.floating) and value.dtype.itemsize <= 8:
        return {"numpy": value.dtype.str, "value": value.item()}
    raise NotKept(f"a value of type {type(value).__name__} can't be kept")


def _decode(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "numpy" in value:
        return np.dtype(value["numpy"]).type(value["value"])
    if "list" in value:
        return [_decode(item) for item in value["list"]]
    return tuple(_decode(item) for item in value["tuple"])
