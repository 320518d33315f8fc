"""Open an OME-Zarr plate with ome-zarr-py, ngio and napari's reader, and print what they find as JSON.

tests/unit/test_zarr_readers.py runs this in an environment with these programs. A warning is an error.
"""

import contextlib
import json
import logging
import sys
import warnings

import ngio
import numpy as np
from napari.components import ViewerModel
from napari_ome_zarr import napari_get_reader
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader


class Complaints(logging.Handler):
    """Keeps log records of level warning and above."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


def by_ome_zarr(path):
    (node,) = Reader(parse_url(path))()
    return {
        "levels": [list(level.shape) for level in node.data],
        "axes": [axis["name"] for axis in node.metadata["axes"]],
        "sum": int(node.data[0].sum().compute()),
        "corner": node.data[0][0, 0, 0, :2, :2].compute().tolist(),
    }


def by_ngio(path):
    found = {}
    for name, container in ngio.open_ome_zarr_plate(path, mode="r").get_images(max_workers=1).items():
        image = container.get_image(path="0")
        size = image.pixel_size
        labels = {label: container.get_label(label, path="0").get_as_numpy() for label in container.list_labels()}
        found[name] = [
            container.channel_labels,
            [size.z, size.y, size.x],
            int(image.get_as_numpy().sum()),
            {label: [array.dtype.name, *map(int, np.bincount(array.ravel()))] for label, array in labels.items()},
        ]
    return found


def by_napari(path):
    viewer = ViewerModel()  # napari without its window
    with contextlib.redirect_stdout(sys.stderr):
        for data, metadata, kind in napari_get_reader(path)():
            getattr(viewer, f"add_{kind}")(data, **metadata)
    return {
        "levels": [[list(level.shape) for level in layer.data] for layer in viewer.layers],
        "sum": sum(int(layer.data[0].sum()) for layer in viewer.layers),
    }


def main(path, image):
    warnings.simplefilter("error")
    complaints = Complaints()
    logging.getLogger().addHandler(complaints)
    found = {
        "ome_zarr": by_ome_zarr(path),
        "image": by_ome_zarr(image),
        "ngio": by_ngio(path),
        "napari": by_napari(path),
    }
    print(json.dumps({**found, "complaints": complaints.messages}))


main(*sys.argv[1:])
