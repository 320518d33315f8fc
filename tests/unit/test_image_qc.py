"""The quality of images: what is measured per site, how sites are compared, and which conditions are about images."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openhcs_omero.analysis.exclusion import condition_columns
from openhcs_omero.analysis.image_qc import (
    compare_sites,
    contrast,
    is_image_column,
    measure_site,
    robust_z,
    spectrum_slope,
)
from openhcs_omero.analysis.settings import read_settings
from openhcs_omero.errors import ConfigError
from openhcs_omero.processing.synthetic import draw_site

pytestmark = pytest.mark.filterwarnings("error")


def site(seed=0, cells=6, blur=0.0, level=3.0):
    """(T, C, Z, Y, X) of a synthetic site."""
    return draw_site(np.random.default_rng(seed), 128, level, cells, blur)[2][None, :, None]


def table_of(sites, **columns):
    rows = [
        {"plate": "7", "well": f"A{n:02}", "site": "1", "reason": "", **measure_site(pixels)}
        for n, pixels in enumerate(sites, 1)
    ]
    return compare_sites(pd.DataFrame(rows).assign(**columns), range(sites[0].shape[1]))


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_the_slope_of_power_law_noise_is_the_one_that_was_put_in(noise):
    rng = np.random.default_rng(1)
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)[None, :])
    frequency[0, 0] = 1
    slopes = []
    for power in (-2.0, -3.0, -4.0):
        spectrum = np.fft.rfft2(rng.normal(size=(256, 256))) * frequency ** (power / 2)
        plane = np.fft.irfft2(spectrum)
        slopes.append(spectrum_slope(plane + rng.normal(size=plane.shape) * noise * plane.std()))
    assert slopes == pytest.approx([-2, -3, -4], abs=0.5) and slopes == sorted(slopes, reverse=True)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.1, 100), st.floats(0, 1000), st.integers(0, 5))
def test_slope_and_contrast_depend_on_neither_offset_nor_gain(gain, offset, seed):
    plane = site(seed)[0, 1, 0].astype(float)
    assert spectrum_slope(gain * plane + offset) == pytest.approx(spectrum_slope(plane), abs=0.01)
    assert contrast(gain * plane + offset) == pytest.approx(contrast(plane), rel=0.01)


def test_blurred_and_empty_sites_stand_out():
    sites = [site(seed) for seed in range(20)]
    table = table_of([*sites, site(90, blur=5.0), site(91, cells=0)])
    assert table["focus_z"].iloc[:20].min() > -4 and table["focus_z"].iloc[20] < -4
    assert table["empty"].tolist() == [0] * 21 + [1]
    assert np.isnan(table["focus_z"].iloc[21])  # noise has no focus
    assert (table["reason"] == "").all()


def test_saturated_and_dark_pixels_are_those_at_the_limits_of_the_plate():
    bright, dark, usual = (np.full((1, 1, 1, 10, 10), 500, "uint16") for _ in range(3))
    bright[..., :3] = 4095  # the limit of a camera with 12 bits
    dark[..., :2, :] = 0
    usual[..., 0, 0] = 900
    table = table_of([bright, dark, usual])
    assert table["saturated"].tolist() == [0.3, 0, 0] and table["dark"].tolist() == [0, 0.2, 0]
    assert table_of([np.full((1, 1, 1, 8, 8), 7, "uint16")] * 2)["saturated"].tolist() == [0, 0]


def test_debris_is_far_brighter_than_the_objects_of_other_sites():
    sites = [site(seed) for seed in range(15)]
    fiber = site(50)
    fiber[0, 0, 0, 20:24] = 40_000
    assert (table := table_of([*sites, fiber])["debris_z"]).iloc[15] > 10 and table.iloc[:15].max() < 6


def test_planes_that_were_not_acquired_are_left_out():
    pixels = site()
    stack = np.concatenate([np.zeros_like(pixels), pixels], axis=2)
    filled = [(0, c, 0) for c in range(2)]
    assert measure_site(stack, filled) == measure_site(pixels)
    assert measure_site(stack, [(0, c, z) for c in range(2) for z in range(2)]) == {}


def test_a_site_that_cannot_be_read_has_missing_values_and_a_reason():
    table = pd.DataFrame(
        [
            *(
                {"plate": "7", "well": f"A{n:02}", "site": "1", "reason": "", **measure_site(site(n))}
                for n in range(1, 5)
            ),
            {"plate": "7", "well": "A05", "site": "1", "reason": "no such file"},
        ]
    )
    made = compare_sites(table, range(2))
    assert made.iloc[4].drop(["plate", "well", "site", "reason"]).isna().all()
    assert made["reason"].tolist() == [""] * 4 + ["no such file"] and made["focus_z"].iloc[:4].notna().all()


def test_sites_that_are_all_alike_have_no_deviation():
    assert table_of([site()] * 4)["focus_z"].isna().all()
    assert robust_z(pd.Series([1.0, 2.0, 3.0, 10.0]), np.array([True] * 4)).iloc[3] == pytest.approx(7.5 / 1.4826)


def test_times_count_from_the_first_site():
    table = table_of([site(n) for n in range(3)], acquired=["1000.5", "1030.5", ""])
    assert table["acquired_s"].tolist()[:2] == [0, 30] and np.isnan(table["acquired_s"].iloc[2])


@pytest.mark.parametrize("name", ["saturated", "focus_z", "focus_c0", "p99_c12", "empty", "acquired_s", "debris_z_c1"])
def test_columns_of_images_are_known(name):
    assert is_image_column(name)


@pytest.mark.parametrize("name", ["focus", "cells_c1", "background", "p99", "saturated_c", "spots_c0"])
def test_other_columns_are_about_wells(name):
    assert not is_image_column(name)


def test_conditions_are_sorted_by_what_they_are_about():
    read = read_settings({"qc": {"exclude": ["saturated > 0.01 or focus_z < -4", "cells_c1 < 100"]}})
    assert read.exclude_sites == ["saturated > 0.01 or focus_z < -4"] and read.exclude == ["cells_c1 < 100"]
    assert condition_columns("not a > 1 and (b == 'x' or 1 < a <= 2)") == ["a", "b"]


@pytest.mark.parametrize(
    "condition, message",
    [
        ("saturated >", "is not a valid condition: "),
        ("saturated > 'much'", "it compares the text 'much' with a number"),
        ("saturated > 0.1 and cells_c1 < 100", "write two conditions, as a list"),
        ("__import__('os').system('true')", "expected comparisons"),
        ("saturated + 1 > 2", "expected a column, a number or a quoted text"),
        pytest.param("(" * 5000 + "1" + ")" * 5000, "is not a valid condition", id="nested"),
        ("\0", "is not a valid condition"),
    ],
)
def test_a_bad_condition_is_refused_before_there_are_tables(condition, message):
    with pytest.raises(ConfigError, match=r"qc\.exclude .* is not a valid condition") as error:
        read_settings({"qc": {"exclude": condition}})
    assert message in str(error.value) and len(str(error.value)) < 300
