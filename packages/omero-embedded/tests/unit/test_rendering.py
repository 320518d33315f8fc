"""Pictures of planes: windows, curves, colors and the two models."""

from __future__ import annotations

import io

import numpy as np
import pytest

pytest.importorskip("PIL")

from hypothesis import given
from hypothesis import strategies as st
from omero_embedded.rendering import pictures
from omero_embedded.rendering.pictures import (
    BLUE,
    GREEN,
    GREYSCALE,
    RED,
    RGB,
    WHITE,
    ChannelSettings,
    RenderingSettings,
)
from PIL import Image

FAMILIES = ("linear", "polynomial", "exponential", "logarithmic")
RAMP = np.arange(256, dtype=">u2").reshape(16, 16)


def shown(*channels: ChannelSettings, model: str = RGB) -> RenderingSettings:
    return RenderingSettings(0, 0, model, list(channels))


def test_a_linear_window_is_the_identity_on_bytes():
    picture = pictures.render(shown(ChannelSettings(0, 255, color=RED)), [RAMP])
    assert (picture[..., 0] == RAMP).all() and not picture[..., 1:].any()


@given(st.sampled_from(FAMILIES), st.floats(0.2, 3), st.integers(-200, 100), st.integers(0, 300), st.booleans())
def test_every_curve_goes_from_0_to_255_without_a_step_back(family, coefficient, start, width, inverted):
    channel = ChannelSettings(start, start + width, family=family, coefficient=coefficient, inverted=inverted)
    values = np.linspace(start - 10, start + width + 10, 100)[None].astype(">f8")
    got = channel.quantize(values)[0]
    got = got[::-1] if inverted else got
    assert abs(got[0]) < 1e-3 and abs(got[-1] - 255) < 1e-3
    assert (np.diff(got) >= -1e-3).all()


def test_colors_of_active_channels_add_up_and_stop_at_255():
    both = [ChannelSettings(0, 255, color=RED), ChannelSettings(0, 255, color=(255, 0, 128, 255))]
    picture = pictures.render(shown(*both), [RAMP, RAMP])
    assert picture[0, 1].tolist() == [2, 0, 1] and picture[-1, -1].tolist() == [255, 0, 128]
    both[0].active = False
    assert shown(*both).shown() == [1]


def test_greyscale_shows_the_first_active_channel_without_its_color():
    channels = [ChannelSettings(0, 255, active=False), ChannelSettings(0, 255, color=RED), ChannelSettings(0, 1)]
    grey = shown(*channels, model=GREYSCALE)
    assert grey.shown() == [1]
    assert (pictures.render(grey, [RAMP]) == RAMP[..., None]).all()


def test_default_colors():
    assert pictures.default_colors([None] * 4, [None] * 4) == [RED, GREEN, BLUE, RED]
    assert pictures.default_colors([None] * 3, [461.0, 530.0, 610.0]) == [BLUE, GREEN, RED]
    assert pictures.default_colors([None, None], [None, 530.0]) == [WHITE, GREEN]
    assert pictures.default_colors([(1, 2, 3, 4), None], [None, None]) == [(1, 2, 3, 4), GREEN]


def test_projections():
    stack = np.array([[[1, 7]], [[3, 5]]], dtype=">u2")
    assert pictures.project(stack, "maximum").tolist() == [[3, 7]]
    assert pictures.project(stack, "mean").tolist() == [[2, 6]]
    assert pictures.project(stack, "sum").tolist() == [[4, 12]]


def test_packed_ints_and_jpeg():
    picture = np.zeros((2, 3, 3), np.uint8)
    picture[0, 0] = 1, 2, 3
    first = pictures.packed(picture)[0]
    assert first & 0xFFFFFFFF == 0xFF010203 and -(1 << 31) <= first < 0
    with Image.open(io.BytesIO(pictures.jpeg(picture, 0.9))) as image:
        assert image.format == "JPEG" and image.size == (3, 2)


@pytest.mark.parametrize(
    "kind,ends", [("uint8", (0, 255)), ("int16", (-32768, 32767)), ("float", (0, 1)), ("bit", (0, 1))]
)
def test_ranges_of_types(kind, ends):
    assert pictures.type_range(kind) == ends
