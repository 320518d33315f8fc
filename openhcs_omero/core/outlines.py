"""Outlines of objects over the image: a part of each well's first site, and the best and worst wells of a plate."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs_omero.core.figures import figure_of, plain_text
from openhcs_omero.core.plate_tables import read_rows
from openhcs_omero.core.qc import NAME as QC
from openhcs_omero.core.well_file import open_part, well_file
from openhcs_omero.plates.labels import Labels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE = 160  # px, of the part
ACROSS = 8  # objects
EACH = 4  # of the best and of the worst wells
ZOOM = 2  # so that an outline covers little of its object
COLORS = ("#ffd500", "#00e5ff", "#ff5cf4", "#7dff5c")


@dataclass(frozen=True)
class Part:
    """A part of a site with its objects, at the first timepoint, as the maximum over z.

    Parameters
    ----------
    site
        Number of the site.
    acquisition
        Name of the acquisition that it is of; "" if the plate has none.
    planes
        (C, Y, X) float32.
    labels
        (C or 1, Y, X) by name.
    counts
        Number of objects on the whole site, by name of the labels.
    channels
        Names of the channels.
    """

    site: int
    planes: np.ndarray
    labels: Mapping[str, np.ndarray]
    counts: Mapping[str, int]
    channels: Sequence[str]
    acquisition: str = ""


def pack_part(
    site: int, pixels: np.ndarray, labels: Labels, channels: Sequence[str | None], acquisition: str = ""
) -> bytes:
    """Choose a part of a site around its objects, and pack it as an .npz file with 8 bits per pixel.

    The part is as wide as eight objects. It lies around the middle of all objects, or of the site if there are none.

    Parameters
    ----------
    site
        Number of the site.
    pixels
        (T, C, Z, Y, X).
    labels
        The labels of its objects.
    channels
        Names of the channels.
    acquisition
        Name of the acquisition that the site is of.

    Returns
    -------
    bytes
        Empty if no step looked for objects.
    """
    if not labels:
        return b""
    planes = pixels[0].max(axis=1)
    flat = {name: array[0].max(axis=1) for name, array in labels.items()}
    top, left, side = _window(list(flat.values()), planes.shape[1:])
    step = max(1, round(side / SIDE))
    window = (slice(None), slice(top, top + side, step), slice(left, left + side, step))
    shown = planes[window].astype(np.float32)
    low, high = np.percentile(shown, [0.1, 99.9], axis=(1, 2))
    scale = np.where(high > low, high - low, 1)[:, None, None]
    names = [name or f"channel {number}" for number, name in enumerate(channels)]
    about = {
        "site": site,
        "acquisition": acquisition,
        "channels": names if len(names) == len(planes) else [f"channel {number}" for number in range(len(planes))],
        "counts": {name: len(np.unique(array[array > 0])) for name, array in flat.items()},
    }
    content = io.BytesIO()
    np.savez(
        content,
        about=json.dumps(about),
        low=low,
        high=high,
        planes=np.clip(np.rint(255 * (shown - low[:, None, None]) / scale), 0, 255).astype(np.uint8),
        **{f"labels {name}": array[window] for name, array in flat.items()},
    )
    return content.getvalue()


def _window(labels: Sequence[np.ndarray], shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Top, left and side of the part: eight times the diameter of the larger objects, at least `SIDE` px."""
    places = [np.argwhere(array.max(axis=0) > 0) for array in labels]
    areas = [float(np.median(np.unique(array[array > 0], return_counts=True)[1])) for array in labels if array.any()]
    side = min(max(SIDE, round(ACROSS * 2 * np.sqrt(max(areas, default=0) / np.pi))), *shape)
    middle = np.median(np.concatenate(places), axis=0) if areas else np.array(shape) / 2
    top, left = (int(np.clip(place - side / 2, 0, length - side)) for place, length in zip(middle, shape))
    return top, left, side


def load_part(path: Path) -> Part | None:
    """Read the part in the file of a well; None if no step looked for objects."""
    content = _content(path)
    return _part(content) if content else None


def _content(path: Path) -> bytes:
    """What `pack_part` made for a well; empty if no step looked for objects."""
    try:
        with open_part(path, "outlines.npz") as file:
            return file.read()
    except KeyError:  # written by an earlier version
        return b""


def _about(content: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(content)) as file:
        return {"acquisition": "", **json.loads(str(file["about"]))}


def _part(content: bytes) -> Part:
    about = _about(content)
    with np.load(io.BytesIO(content)) as file:
        low, high = file["low"], file["high"]
        labels = {name.removeprefix("labels "): file[name] for name in file.files if name.startswith("labels ")}
        planes = file["planes"].astype(np.float32) / 255 * (high - low)[:, None, None] + low[:, None, None]
    return Part(about["site"], planes, labels, about["counts"], about["channels"], about["acquisition"])


def draw_outlines(folder: Path, wells: Sequence[str], title: str) -> Figure | None:
    """Draw the best and the worst wells of a plate, with outlines of their objects.

    Wells are ranked by the focus of the drawn site, if the quality of images was measured: excluded sites are the
    worst, then empty ones. Otherwise they are ranked by the number of objects.

    Parameters
    ----------
    folder
        Folder of the plate.
    wells
        Its processed wells.
    title
        Title of the figure.

    Returns
    -------
    Figure or None
        None if no step looked for objects.
    """
    parts = {well: part for well in wells if (part := _content(well_file(folder, well)))}
    if not parts:
        return None
    known = {well: _about(part) for well, part in parts.items()}
    quality = {(row["well"], row["site"]): row for row in read_rows(folder / QC)} if (folder / QC).exists() else {}
    about = {well: _rank(part["counts"], quality.get((well, str(part["site"])))) for well, part in known.items()}
    order = sorted(parts, key=lambda well: about[well][0])
    count = min(EACH, (len(order) + 1) // 2)
    best = order[count:][-EACH:]
    runs = {well: part["acquisition"] and f", {part['acquisition']}" for well, part in known.items()}
    chosen = {well: f"{well}{runs[well]}: {about[well][1]}" for well in [*order[:count], *best]}
    by = "focus" if any(row["focus_z"] for row in quality.values()) else "number of objects"
    return _draw({well: _part(parts[well]) for well in chosen}, chosen, count, f"{title}: worst and best wells by {by}")


def _rank(counts: Mapping[str, int], quality: Mapping[str, str] | None) -> tuple[tuple[float, ...], str]:
    """What wells are sorted by, the worst first, and what is said about the well."""
    count = sum(counts.values())
    objects = ", ".join(f"{number} {name}" for name, number in counts.items())
    if quality is None:
        return (count,), objects
    focus, empty = quality["focus_z"], quality["empty"] == "1.0" or quality["empty"] == "1"
    words = [f"focus_z {float(focus):.1f}"] if focus else []
    words += ["empty"] if empty else []
    words += ["excluded"] if quality["excluded"] else []
    known = float(focus) if focus else float("-inf")
    return (not quality["excluded"], not empty, known, count), "\n".join([", ".join(words), objects])


def _draw(parts: Mapping[str, Part], captions: Mapping[str, str], worst: int, title: str) -> Figure:
    """Draw wells side by side, one row per channel with one scale."""
    from matplotlib.patches import Patch

    rows = max(len(part.planes) for part in parts.values())
    figure = figure_of(1.6 * len(parts) + 0.4, 1.58 * rows + 0.9)
    axes = figure.subplots(rows, len(parts), squeeze=False)
    names = list(dict.fromkeys(name for part in parts.values() for name in part.labels))
    colors = {name: COLORS[number % len(COLORS)] for number, name in enumerate(names)}
    for number in range(rows):
        shown = [part.planes[number].ravel() for part in parts.values() if number < len(part.planes)]
        low, high = np.percentile(np.concatenate(shown), [1, 99.7])
        for column, (well, part) in enumerate(parts.items()):
            panel = axes[number, column]
            panel.set_xticks([])
            panel.set_yticks([])
            if number < len(part.planes):
                gray = np.clip((part.planes[number] - low) / max(high - low, 1e-9), 0, 1)
                panel.imshow(_outlined(gray, part.labels, number, colors), interpolation="antialiased")
            if number == 0:
                color = "#b2182b" if column < worst else "#1a7a2e"
                panel.set_title(captions[well], color=color, **plain_text(6))
            if column == 0:
                panel.set_ylabel(part.channels[number] if number < len(part.channels) else "", **plain_text(8))
    figure.suptitle(title, x=0.01, ha="left", **plain_text(10))
    patches = [Patch(color=color) for color in colors.values()]
    figure.legend(patches, list(colors), loc="outside lower left", ncols=4, frameon=False, fontsize=7)
    return figure


def _outlined(
    gray: np.ndarray, labels: Mapping[str, np.ndarray], channel: int, colors: Mapping[str, str]
) -> np.ndarray:
    """A gray plane, 0 to 1, as RGB with the outlines of objects, enlarged."""
    from matplotlib.colors import to_rgb
    from skimage.segmentation import find_boundaries

    def enlarged(plane: np.ndarray) -> Any:
        return plane.repeat(ZOOM, axis=0).repeat(ZOOM, axis=1)

    picture = enlarged(np.stack([gray] * 3, axis=-1))
    for name, array in labels.items():
        plane = array[0] if len(array) == 1 else array[channel]
        picture[find_boundaries(enlarged(plane), mode="inner")] = to_rgb(colors[name])
    return picture
