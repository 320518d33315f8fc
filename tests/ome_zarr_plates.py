"""OME-Zarr plates as other programs write them, made for tests.

The images are given by (well, site) as arrays (T, C, Z, Y, X). What each program writes was looked up in bioformats2raw
0.12, omero-cli-zarr 0.9, ngio 1.1, iohub 0.3 and ngff-zarr 0.50.
"""

from dataclasses import dataclass

import numpy as np
import zarr

from openhcs_omero.plates.paths import parse_well, well_name

AXES = "tczyx"
KINDS = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}


@dataclass(frozen=True)
class Style:
    """How a program writes plates.

    `axes` are those of the arrays; the images have the size 1 on the others. `formats` of paths get the column or the
    site, both from 0. `whole_grid` lists all rows and columns of the plate, not just those with wells. `capitals`
    writes the names of axes in capitals.
    """

    version: str = "0.5"
    axes: str = AXES
    chunks: tuple[int, ...] = (1, 1, 1, 1024, 1024)
    shards: tuple[int, ...] | None = None
    separator: str = "/"
    byte_order: str = "<"
    level: str = "{}"
    column: str = "{:d}"
    levels: int = 2
    whole_grid: bool = False
    capitals: bool = False
    transformation: str = "scale"
    shared_scale: bool = False  # the pixel size stands with the image, not with each level
    compressed: bool = True
    compressor: object = "auto"


STYLES = {
    "bioformats2raw": Style(version="0.4", byte_order=">"),
    "bioformats2raw 0.5": Style(chunks=(1, 1, 1, 8, 8), shards=(1, 1, 1, 16, 16)),
    "omero-cli-zarr": Style(axes="czyx", whole_grid=True),
    "omero-cli-zarr 0.4": Style(version="0.4", axes="czyx", whole_grid=True),
    "ngio": Style(version="0.4", axes="czyx", column="{:02d}"),
    "ngio 0.5": Style(axes="tczyx", column="{:02d}", shards=(1, 2, 2, 1024, 1024)),
    "iohub": Style(version="0.4", transformation="identity", levels=1, capitals=True),
    "iohub scaled": Style(version="0.5", shared_scale=True, chunks=(1, 1, 4, 1024, 1024)),
    "ngff-zarr": Style(version="0.4", axes="zyx", level="scale{}/image", separator="."),
    "planes": Style(version="0.4", axes="yx", separator=".", compressed=False, levels=1),
}
CHANNELS = [("DAPI", "0000FF"), ("FITC", "00FF00"), ("Cy5", "FF0000")]
PIXEL_SIZE = (2.0, 0.65, 0.65)


def write_plate(path, images, style=Style(), runs=None, labels=False):
    """Write a plate; `runs` are names of acquisitions, which the sites of each well are divided among."""
    form = 3 if style.version == "0.5" else 2
    root = zarr.open_group(path, mode="w", zarr_format=form)
    wells = list(dict.fromkeys(well for well, _ in images))
    names = {well: _path_of(well, style) for well in wells}
    rows = sorted({name[0] for name in names.values()})
    columns = sorted({name[1] for name in names.values()}, key=int)
    if style.whole_grid:
        rows, columns = list("ABCDEFGH"), [style.column.format(number) for number in range(1, 13)]
    listed = [
        {"path": "/".join(name), "rowIndex": rows.index(name[0]), "columnIndex": columns.index(name[1])}
        for name in names.values()
    ]
    plate = {
        "name": "a plate",
        "rows": [{"name": name} for name in rows],
        "columns": [{"name": name} for name in columns],
        "wells": listed,
        "field_count": max(site for _, site in images),
    }
    if runs:
        plate["acquisitions"] = [{"id": number, "name": name} for number, name in enumerate(runs, 1)]
    describe(root, style, {"plate": {**plate, "version": style.version}})
    for well in wells:
        sites = sorted(site for name, site in images if name == well)
        group = root.require_group("/".join(names[well]))
        items = [{"path": str(site - 1)} for site in sites]
        for number, item in enumerate(items):
            if runs:
                item["acquisition"] = 1 + number * len(runs) // len(items)
        describe(group, style, {"well": {"images": items, "version": style.version}})
        for site in sites:
            write_image(group.require_group(str(site - 1)), images[well, site], style, labels)
    return path


def write_image(group, image, style=Style(), labels=False):
    """Write an image (T, C, Z, Y, X) with its levels and metadata."""
    kept = [axis for axis in AXES if axis in style.axes]
    pixels = image[tuple(slice(None) if axis in kept else 0 for axis in AXES)]
    size = dict(zip("zyx", PIXEL_SIZE))
    datasets = []
    for level in range(style.levels):
        shape = pixels.shape[:-2] + tuple(-(-side // 2**level) for side in pixels.shape[-2:])
        chosen = [dict(zip(AXES, of)) if of else None for of in (style.chunks, style.shards)]
        chunks, shards = (of and tuple(of[axis] for axis in kept) for of in chosen)
        if style.version == "0.5":
            more = {"dimension_names": kept, "shards": shards}
        else:
            more = {"chunk_key_encoding": {"name": "v2", "separator": style.separator}}
        array = group.create_array(
            style.level.format(level),
            shape=shape,
            chunks=tuple(min(a, b) for a, b in zip(chunks, shape)) if not shards else chunks,
            dtype=pixels.dtype.newbyteorder(style.byte_order) if style.version == "0.4" else pixels.dtype,
            compressors=style.compressor if style.compressed else None,
            fill_value=0,
            **more,
            config={"write_empty_chunks": True},
        )
        array[...] = pixels[..., :: 2**level, :: 2**level]
        scale = [2.0**level if axis in "yx" else 1.0 for axis in kept]
        if not style.shared_scale:
            scale = [factor * size.get(axis, 1.0) for factor, axis in zip(scale, kept)]
        made = {"type": "identity"} if style.transformation == "identity" else {"type": "scale", "scale": scale}
        datasets.append({"path": style.level.format(level), "coordinateTransformations": [made]})
    axes = [
        {
            "name": axis.upper() if style.capitals else axis,
            "type": KINDS[axis],
            **({"unit": "micrometer"} if axis in size else {}),
        }
        for axis in kept
    ]
    multiscale = {"name": "an image", "version": style.version, "axes": axes, "datasets": datasets}
    if style.shared_scale:
        shared = [size.get(axis, 1.0) for axis in kept]
        multiscale["coordinateTransformations"] = [{"type": "scale", "scale": shared}]
    window = {"min": 0, "max": 65535, "start": 0, "end": 1000}
    channels = [
        {"label": label, "color": color, "active": True, "window": window}
        for label, color in CHANNELS[: image.shape[1]]
    ]
    describe(group, style, {"multiscales": [multiscale], "omero": {"channels": channels}})
    if labels:
        made = group.require_group("labels")
        describe(made, style, {"labels": ["nuclei"]})
        write_image(made.require_group("nuclei"), (image > 100).astype("uint8"), style)


def describe(group, style, metadata):
    """Add NGFF's metadata to a group."""
    if style.version == "0.5":
        group.attrs["ome"] = {**group.attrs.get("ome", {"version": "0.5"}), **metadata}
    else:
        group.attrs.update(metadata)


def _path_of(well, style):
    row, column = parse_well(well)
    return well_name(row, 0).removesuffix("01"), style.column.format(column + 1)


def images_of(style, wells=("A01", "B03"), sites=2, dtype="uint16", seed=0, shape=(2, 3, 2, 18, 22)):
    """Random images for (well, site), with the size 1 on axes that the style does not have."""
    rng = np.random.default_rng(seed)
    shape = tuple(size if axis in style.axes else 1 for axis, size in zip(AXES, shape))
    return {(well, site): rng.integers(1, 250, shape).astype(dtype) for well in wells for site in range(1, sites + 1)}


def chunk_file(plane):
    """The file of a plane's only chunk, in a plate of the default style, by the plane's path."""
    image, _, indices = plane.rpartition("?")
    t, c, z = (part.split("=")[1] for part in indices.split("&"))
    return f"{image}/0/c/{t}/{c}/{z}/0/0"
