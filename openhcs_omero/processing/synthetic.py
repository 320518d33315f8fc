"""A synthetic screen with known ground truth, used by the demo and to test the steps.

The images have two 16-bit channels. Channel 0 is GFP: diffuse cells in which an active compound causes spots. The
number of spots follows a dose-response curve over the columns of the plate (Hill, 1910). Channel 1 is DAPI, the nuclei.
Both channels have uneven illumination (a Gaussian fall-off around an off-center point) and the offset, shot noise and
read noise of a camera.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openhcs_omero.io.atomic import write
from openhcs_omero.io.virtual_workspace import METADATA

OFFSET = 100.0  # camera offset, counts
READ_NOISE = 4.0  # counts, standard deviation
GAIN = 1.5  # counts per photoelectron
SPOT_SIGMA = 1.5  # px
PIXEL_SIZE = 0.65  # um, as of a 10x objective
CHANNELS = ("GFP", "DAPI")


@dataclass(frozen=True)
class Screen:
    """The layout of the plate: rows are replicates, columns are doses.

    Parameters
    ----------
    rows, columns
        Numbers of rows and columns of wells.
    sites
        Number of sites per well.
    size
        Side length of an image in px.
    seed
        The same seed makes the same plate, byte for byte.
    """

    rows: int = 4
    columns: int = 6
    sites: int = 2
    size: int = 512
    seed: int = 1

    def dose(self, column: int) -> float:
        """The dose in micromolar of a column (from 0): 0 in the first one, then threefold steps up to 10."""
        return 0.0 if column == 0 else 10.0 / 3.0 ** (self.columns - 1 - column)

    def expected_spots_per_cell(self, column: int) -> float:
        """Expected spots per cell: 0.5 without compound, 8.5 at saturation; EC50 0.5 uM, Hill coefficient 1.5."""
        dose = self.dose(column) ** 1.5
        return 0.5 + 8.0 * dose / (0.5**1.5 + dose)


@dataclass(frozen=True)
class Truth:
    """The ground truth of a site."""

    well: str
    site: int
    dose: float
    cells: int
    spots: int


def illumination(size: int, channel: int) -> np.ndarray:
    """The illumination over the field.

    Parameters
    ----------
    size
        Side length of the image in px.
    channel
        0 or 1.

    Returns
    -------
    ndarray
        (size, size) float64 with mean 1; the maximum is about 2.5 times the minimum.
    """
    center_y, center_x = ((0.40, 0.58), (0.60, 0.45))[channel]
    y, x = np.mgrid[0:size, 0:size] / size
    light = np.exp(-((y - center_y) ** 2 + (x - center_x) ** 2) / (2 * 0.55**2))
    return light / light.mean()


def sites(screen: Screen) -> Iterator[tuple[Truth, np.ndarray]]:
    """Yield every site of the screen in order: its ground truth and its image, (C, Y, X) = (2, size, size) uint16."""
    for row in range(screen.rows):
        for column in range(screen.columns):
            for site in range(1, screen.sites + 1):
                rng = np.random.default_rng([screen.seed, row, column, site])
                cells, spots, image = draw_site(rng, screen.size, screen.expected_spots_per_cell(column))
                yield Truth(f"{chr(ord('A') + row)}{column + 1:02d}", site, screen.dose(column), cells, spots), image


def write_plate(folder: Path, screen: Screen) -> list[Truth]:
    """Write the screen to a folder of TIFFs, `A01_s001_z000_c000.tif`, that `openhcs-omero import` can read."""
    import tifffile

    folder.mkdir(parents=True, exist_ok=True)
    truths = []
    for truth, image in sites(screen):
        for channel, plane in enumerate(image):
            tifffile.imwrite(folder / f"{truth.well}_s{truth.site:03d}_z000_c{channel:03d}.tif", plane)
        truths.append(truth)
    return truths


def write_metadata(folder: Path) -> None:
    """Write the names of the channels and the size of a pixel beside the images of `write_plate`."""
    metadata = {
        "source_filename_parser_name": "OpenHCSFilenameParser",
        "pixel_size": PIXEL_SIZE,
        "channels": {str(number): name for number, name in enumerate(CHANNELS)},
        "image_files": sorted(path.name for path in folder.glob("*.tif")),
        "available_backends": {"disk": True},
        "main": True,
    }
    write(folder / METADATA, json.dumps({"subdirectories": {".": metadata}}, indent=1))


def draw_site(
    rng: np.random.Generator, size: int, spots_per_cell: float, cells: int | None = None, blur: float = 0.0
) -> tuple[int, int, np.ndarray]:
    """Draw a site.

    Parameters
    ----------
    rng
        The source of randomness.
    size
        Side length of the image in px.
    spots_per_cell
        Expected number of spots per cell.
    cells
        Number of cells; None for a random number that fits the size. Fewer are drawn if there is no room.
    blur
        Standard deviation in px of the blur of an image out of focus; 0 for none.

    Returns
    -------
    int, int, ndarray
        The numbers of cells and of spots, and the image, (C, Y, X) = (2, size, size) uint16.
    """
    from scipy.ndimage import gaussian_filter

    wanted = max(1, rng.poisson(40 * (size / 512) ** 2)) if cells is None else cells
    centers = _scatter(rng, size, wanted=wanted, margin=min(26, size // 6), distance=24)
    gfp, nuclei = np.full((size, size), 30.0), np.full((size, size), 30.0)
    spots: list[tuple[float, float]] = []
    for center in centers:
        angle = rng.uniform(0, np.pi)
        nucleus = rng.uniform(10, 14), rng.uniform(8.5, 11)
        body = _soft_ellipse(angle, nucleus[0] * 2.0, nucleus[1] * 1.7, 3.0)
        _add(gfp, center, 60, body, rng.uniform(60, 140))
        _add(nuclei, center, 25, _soft_ellipse(angle, *nucleus, 0.8), rng.uniform(300, 700))
        spots += _spots_of_cell(rng, center, rng.poisson(spots_per_cell), spots)
    for spot in spots:
        _add(gfp, spot, 8, lambda y, x: np.exp(-(y**2 + x**2) / (2 * SPOT_SIGMA**2)), rng.uniform(150, 400))
    light = [gaussian_filter(plane, blur) if blur else plane for plane in (gfp, nuclei)]
    return len(centers), len(spots), np.stack([_camera(rng, plane, channel) for channel, plane in enumerate(light)])


def _scatter(rng, size: int, wanted: int, margin: int, distance: float) -> list[tuple[float, float]]:
    """Up to `wanted` places that are at least `distance` px apart."""
    places: list[tuple[float, float]] = []
    for _ in range(50 * wanted):
        if len(places) == wanted:
            break
        y, x = rng.uniform(margin, size - margin, 2)
        if all((y - v) ** 2 + (x - u) ** 2 >= distance**2 for v, u in places):
            places.append((y, x))
    return places


def _spots_of_cell(rng, center, wanted: int, taken: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Up to `wanted` places around a nucleus, at least 7 px from every other spot so that they can be told apart."""
    places: list[tuple[float, float]] = []
    for _ in range(40 * wanted):
        if len(places) == wanted:
            break
        radius, angle = rng.uniform(5, 20), rng.uniform(0, 2 * np.pi)
        y, x = center[0] + radius * np.sin(angle), center[1] + radius * np.cos(angle)
        if all((y - v) ** 2 + (x - u) ** 2 >= 49 for v, u in (*taken, *places)):
            places.append((y, x))
    return places


def _soft_ellipse(angle: float, a: float, b: float, softness: float):
    """An ellipse with half-axes a and b px, whose edge falls off over about `softness` px."""

    def shape(y, x):
        u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        radius = np.sqrt((u / a) ** 2 + (v / b) ** 2)
        return 1 / (1 + np.exp((radius - 1) * min(a, b) / softness))

    return shape


def _add(plane: np.ndarray, center, half: int, shape, height: float) -> None:
    """Add `height * shape(dy, dx)` to the plane in a window of `half` px around the center."""
    top, left = max(0, int(center[0]) - half), max(0, int(center[1]) - half)
    bottom, right = (min(side, int(c) + half + 1) for side, c in zip(plane.shape, center))
    y, x = np.ogrid[top:bottom, left:right]
    plane[top:bottom, left:right] += height * shape(y - center[0], x - center[1])


def _camera(rng: np.random.Generator, light: np.ndarray, channel: int) -> np.ndarray:
    """The camera's image of the light, uint16, with shot noise, gain, offset and read noise."""
    electrons = rng.poisson(light * illumination(len(light), channel) * 3.0 / GAIN)
    counts = electrons * GAIN + OFFSET + rng.normal(0, READ_NOISE, light.shape)
    return np.clip(np.rint(counts), 0, 65535).astype(np.uint16)
