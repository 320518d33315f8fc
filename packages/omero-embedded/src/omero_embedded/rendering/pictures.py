"""Planes as pictures, as OMERO renders them: windows, curves and colors of channels, and two color models.

A value v of a channel with the window from s to e becomes q = 255 * (f(x) - f(0)) / (f(1) - f(0)) with
x = (v - s) / (e - s) clipped to [0, 1] and f the channel's family (linear: x; polynomial: x^k; exponential: exp(x^k);
logarithmic: log(1 + 255 x)), reversed if the channel is inverted. The rgb model adds q * color of the active channels
up, the greyscale model shows q of the first active one.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

RGB, GREYSCALE = "rgb", "greyscale"
DEPTH = 255  # of the codomain: one byte per color
DTYPES = {
    "bit": ">u1",
    "int8": ">i1",
    "int16": ">i2",
    "int32": ">i4",
    "uint8": ">u1",
    "uint16": ">u2",
    "uint32": ">u4",
    "float": ">f4",
    "double": ">f8",
}  # in the byte order of the files
RED, GREEN, BLUE, WHITE = (255, 0, 0, 255), (0, 255, 0, 255), (0, 0, 255, 255), (255, 255, 255, 255)
ACTIVE_AT_FIRST = 3  # the number of channels that are active by default
MAX_COLORED = 10  # an image with this many channels or more is gray by default


@dataclass
class ChannelSettings:
    """How one channel is shown."""

    start: float
    end: float
    active: bool = True
    color: tuple[int, int, int, int] = WHITE  # red, green, blue, alpha from 0 to 255
    family: str = "linear"
    coefficient: float = 1.0
    noise_reduction: bool = False
    inverted: bool = False
    lookup_table: str | None = None  # stored for clients; rendering uses the color

    def quantize(self, plane: np.ndarray) -> np.ndarray:
        """Map values of any type to float32 from 0 to 255."""
        width = self.end - self.start
        # a window without width is a threshold
        scaled = (plane.astype(np.float32) - np.float32(self.start)) / np.float32(width if width else 1e-6)
        curved = _curve(self.family, self.coefficient, np.clip(scaled, 0, 1))
        return DEPTH * (1 - curved if self.inverted else curved)


@dataclass
class RenderingSettings:
    """How an image is shown."""

    z: int
    t: int
    model: str
    channels: list[ChannelSettings]
    cd_start: int = 0
    cd_end: int = DEPTH
    resolution: int = DEPTH
    compression: float = 1.0
    owner: int | None = None
    id: int | None = field(default=None)  # of the RenderingDef; None if there is none yet

    def shown(self) -> list[int]:
        """The channels that contribute to the picture."""
        active = [index for index, channel in enumerate(self.channels) if channel.active]
        return active[:1] if self.model == GREYSCALE else active


def _curve(family: str, k: float, x: np.ndarray) -> np.ndarray:
    if family == "polynomial":
        return x ** np.float32(k)
    if family == "exponential":
        return np.expm1(x ** np.float32(k)) / np.float32(np.expm1(1))
    if family == "logarithmic":
        return np.log1p(DEPTH * x) / np.float32(np.log1p(DEPTH))
    return x


def render(settings: RenderingSettings, planes: Sequence[np.ndarray]) -> np.ndarray:
    """Render one picture of the planes of the channels that `settings.shown()` names.

    Parameters
    ----------
    planes
        One array (Y, X) of any type for each channel.

    Returns
    -------
    numpy.ndarray
        (Y, X, 3), uint8.
    """
    total = np.zeros((*planes[0].shape, 3), np.float32)
    for index, plane in zip(settings.shown(), planes, strict=True):
        channel = settings.channels[index]
        value = channel.quantize(plane)
        red, green, blue, alpha = WHITE if settings.model == GREYSCALE else channel.color
        for band, part in enumerate((red, green, blue)):
            if part:
                total[..., band] += value * np.float32(part * alpha / (DEPTH * DEPTH))
    return np.clip(np.rint(total), settings.cd_start, settings.cd_end).astype(np.uint8)


def project(stack: np.ndarray, how: str) -> np.ndarray:
    """Project (Z, Y, X) to (Y, X) by `maximum`, `mean` or `sum`, which is clipped to the range of the type."""
    if how == "maximum":
        return stack.max(axis=0)
    total = stack.astype(np.float64)
    return total.mean(axis=0) if how == "mean" else total.sum(axis=0)


def project_sections(stack: np.ndarray, how: str, start: int, end: int, step: int) -> np.ndarray:
    """Project sections of (Z, Y, X) to (Y, X). As in OMERO, the last one counts for the maximum alone."""
    sections = stack[start : end + 1 if how == "maximum" else end : step]
    return project(sections, how) if len(sections) else np.zeros(stack.shape[1:])


def jpeg(picture: np.ndarray, quality: float) -> bytes:
    """Encode a picture as JPEG, with a quality from 0 to 1."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=max(1, min(100, round(quality * 100))))
    return file.getvalue()


def resize(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resize a picture to exactly this size."""
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0))


def packed(picture: np.ndarray) -> list[int]:
    """Pack pixels into signed 32 bit integers: alpha (opaque), red, green, blue from the highest byte down."""
    wide = picture.astype(np.uint32)
    whole = np.uint32(0xFF000000) | wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
    return whole.astype(np.uint32).view(np.int32).ravel().tolist()


def type_range(kind: str) -> tuple[float, float]:
    """The smallest and the largest value of a pixels type; 0 and 1 for floating point types."""
    dtype = np.dtype(DTYPES.get(kind, ">f4"))
    if kind == "bit" or dtype.kind == "f":
        return 0.0, 1.0
    info = np.iinfo(dtype)
    return float(info.min), float(info.max)


def emission_color(wavelength: float) -> tuple[int, int, int, int]:
    """The color of a channel from its emission wavelength in nm."""
    return BLUE if wavelength <= 500 else GREEN if wavelength <= 600 else RED


def default_colors(
    stored: Sequence[tuple[int, int, int, int] | None], wavelengths: Sequence[float | None]
) -> list[tuple[int, int, int, int]]:
    """The colors of channels: their own, that of their emission, or red, green and blue in turn.

    If the emission of some channels is known, channels of which nothing is known are white (transmitted light).
    """
    unknown = [color is None and wave is None for color, wave in zip(stored, wavelengths)]
    open_ones = [color is None for color in stored]
    mixed = any(unknown) and sum(unknown) != sum(open_ones)
    turn = (RED, GREEN, BLUE)
    return [
        color or (emission_color(wave) if wave is not None else WHITE if mixed else turn[index % 3])
        for index, (color, wave) in enumerate(zip(stored, wavelengths))
    ]
