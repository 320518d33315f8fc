"""Labels of a site in OME-Zarr: the group ``labels`` of the site's image, with an image for each of its labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from openhcs_omero.io.atomic import delete_folder, replacing
from openhcs_omero.plates.labels import Labels

FOLDER = "labels"


def write_labels(
    image: Path, drafts: Path, labels: Labels, levels: int, pixel_size: tuple[float | None, float | None, float | None]
) -> list[Path]:
    """Replace the labels of an image.

    Parameters
    ----------
    image
        Folder of the image in the store.
    drafts
        Folder outside of the store, on the same disk.
    labels
        By name, (T, C or 1, Z or 1, Y, X).
    levels
        How many sizes the image has. Labels have as many, each made of every second pixel of the one before.
    pixel_size
        (z, y, x) in micrometers.

    Returns
    -------
    list of Path
        The files of the labels in full size, and of their metadata.
    """
    from openhcs_omero.io import ngff_metadata

    if not labels:
        delete_folder(image / FOLDER)
        return []
    with replacing(image / FOLDER, draft_in=drafts) as draft:
        for name, pixels in labels.items():
            _write_levels(draft / name, pixels, levels)
            values, sizes = np.unique(pixels[pixels > 0], return_counts=True)
            objects = {int(value): int(size) for value, size in zip(values, sizes)}
            ngff_metadata.write_labels_image(draft / name, name, levels, pixel_size, objects)
        ngff_metadata.write_list_of_labels(draft, list(labels))
    return [path for name in labels for path in sorted((image / FOLDER / name / "0").rglob("*")) if path.is_file()] + [
        image / FOLDER / name / "zarr.json" for name in labels
    ]


def _write_levels(folder: Path, pixels: np.ndarray, levels: int) -> None:
    import zarr

    from openhcs_omero.io import ngff_metadata

    for level in range(levels):
        array = zarr.create_array(
            folder / str(level),
            shape=pixels.shape,
            chunks=(1, 1, 1, *pixels.shape[3:]),
            dtype=pixels.dtype,
            fill_value=0,
            dimension_names=list(ngff_metadata.AXES),
        )
        array[...] = pixels
        pixels = pixels[..., ::2, ::2]
