"""Dose response: known curves are recovered, and a failed fit gives its reason."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from openhcs_omero.analysis.dose_response import fit_curve, fit_dose_responses, hill
from openhcs_omero.errors import OpenHCSError

pytestmark = pytest.mark.filterwarnings("error")

DOSES = np.repeat(10.0 ** np.arange(-3, 2.1, 0.5), 2)


def curve(dose, bottom, top, ec50, slope):
    """The curve as it is written in textbooks."""
    return bottom + (top - bottom) / (1 + (ec50 / dose) ** slope)


@given(
    ec50=st.floats(0.01, 10),
    slope=st.floats(0.6, 3),
    bottom=st.floats(-100, 100),
    height=st.floats(0.1, 1000),
    rising=st.booleans(),
)
def test_a_curve_without_noise_is_recovered(ec50, slope, bottom, height, rising):
    slope = slope if rising else -slope
    fit = fit_curve(DOSES, curve(DOSES, bottom, bottom + height, ec50, slope))
    assert fit.reason == "" and fit.r2 == pytest.approx(1)
    assert fit.ec50 == pytest.approx(ec50, rel=1e-3) and fit.slope == pytest.approx(slope, rel=1e-3)
    assert fit.top == pytest.approx(bottom + height, abs=height / 500)
    assert fit.bottom == pytest.approx(bottom, abs=height / 500)
    assert fit.response(DOSES) == pytest.approx(curve(DOSES, bottom, bottom + height, ec50, slope), abs=height / 500)


def test_the_confidence_interval_covers_the_true_value_in_95_of_100_cases():
    rng = np.random.default_rng(8)
    inside, count = 0, 200
    for _ in range(count):
        ec50 = 10 ** rng.uniform(-1.5, 0.5)
        fit = fit_curve(DOSES, curve(DOSES, 10, 100, ec50, -1.2) + rng.normal(0, 5, len(DOSES)))
        inside += fit.ec50_low <= ec50 <= fit.ec50_high
    assert 0.9 < inside / count < 0.99


def test_noisy_data_give_the_fit_that_scipy_finds_from_the_true_values():
    rng = np.random.default_rng(2)
    response = curve(DOSES, 5, 80, 0.3, 1.5) + rng.normal(0, 4, len(DOSES))
    fit = fit_curve(DOSES, response)
    best, covariance = curve_fit(lambda x, *p: hill(np.log(x), *p), DOSES, response, p0=[5, 80, np.log(0.3), 1.5])
    assert [fit.bottom, fit.top, np.log(fit.ec50), fit.slope] == pytest.approx(best, rel=1e-3)
    half = 2.1009220 * np.sqrt(covariance[2, 2])  # R: qt(0.975, 18)
    assert np.log([fit.ec50_low, fit.ec50_high]) == pytest.approx([best[2] - half, best[2] + half], rel=1e-3)


@given(scale=st.floats(0.01, 100), factor=st.floats(0.01, 100), seed=st.integers(0, 20))
def test_units_of_response_and_dose_only_scale_the_fit(scale, factor, seed):
    response = curve(DOSES, 5, 80, 0.3, 1.5) + np.random.default_rng(seed).normal(0, 4, len(DOSES))
    one, other = fit_curve(DOSES, response), fit_curve(DOSES * factor, response * scale + 7)
    assert other.ec50 == pytest.approx(one.ec50 * factor, rel=1e-3)
    assert (other.slope, other.r2) == pytest.approx((one.slope, one.r2), rel=1e-3)
    assert other.top == pytest.approx(one.top * scale + 7, rel=1e-3)


def test_dose_0_determines_where_the_curve_starts():
    top = DOSES > 0.05  # the lower plateau was not measured
    dose, response = DOSES[top], curve(DOSES[top], 10, 90, 0.1, 1.0)
    fit = fit_curve(np.r_[dose, 0, 0], np.r_[response, 10, 10])
    assert fit.ec50 == pytest.approx(0.1, rel=1e-3) and fit.bottom == pytest.approx(10, abs=0.05)


RNG = np.random.default_rng(4)


@pytest.mark.parametrize(
    "dose, response, reason",
    [
        (DOSES[:2], [1.0, 2.0], "no fit: 1 dose, 4 are needed"),
        (DOSES[:6], np.arange(6.0), "no fit: 3 doses, 4 are needed"),
        (DOSES[::2][:4], np.arange(4.0), "no fit: 4 wells, 5 are needed"),
        (DOSES, np.full(len(DOSES), 0.1), "no fit: all responses are equal"),
        (DOSES, RNG.normal(0, 1, len(DOSES)), "no fit: the curve is no better than a flat line"),
        (
            DOSES,
            curve(DOSES, 0, 100, 1000, 1.0) + RNG.normal(0, 0.01, len(DOSES)),
            "no fit: the EC50 lies above the highest dose",
        ),
        ([], [], "no fit: 0 doses, 4 are needed"),
    ],
)
def test_a_failed_fit_gives_its_reason(dose, response, reason):
    fit = fit_curve(np.asarray(dose, dtype=float), np.asarray(response, dtype=float))
    assert fit.reason == reason
    assert np.isnan([fit.ec50, fit.ec50_low, fit.ec50_high, fit.slope, fit.top, fit.bottom, fit.r2]).all()


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.1, 1.0, 10.0, 100.0, 1e-6]),
            st.one_of(st.floats(-1e6, 1e6), st.sampled_from([0.0, 1.0])),
        ),
        max_size=20,
    )
)
def test_any_data_give_a_curve_or_a_reason_and_no_warning(points):
    dose, response = (np.array([point[n] for point in points], dtype=float) for n in (0, 1))
    fit = fit_curve(dose, response)
    assert fit.reason.startswith("no fit") or np.isfinite([fit.ec50, fit.slope, fit.top, fit.bottom, fit.r2]).all()
    assert fit.reason or fit.ec50_low <= fit.ec50 <= fit.ec50_high


def test_a_slope_at_its_limit_is_said():
    noise = np.tile([-1.0, 1.0], len(DOSES))[: len(DOSES)]
    assert fit_curve(DOSES, curve(DOSES, 10, 90, 0.5, 1.0) + noise).reason == ""
    fit = fit_curve(DOSES, np.where(DOSES > 0.5, 90.0, 10.0) + noise)
    assert fit.slope == pytest.approx(10) and fit.reason.startswith("the slope is at its limit, 0.2 or 10")


def test_a_table_has_one_row_per_compound():
    table = pd.DataFrame(
        {
            "plate": "7",
            "well": "A01",
            "compound": ["x"] * 22 + ["y"] * 3 + [None],
            "concentration (uM)": [*DOSES, 1, 2, np.nan, 1],
            "spots": [*curve(DOSES, 10, 90, 0.5, 1.0), 1, 2, 3, 4],
        }
    )
    usable = np.ones(len(table), dtype=bool)
    made = fit_dose_responses(table, usable, "spots").set_index("compound")
    assert list(made.index) == ["x", "y"]
    assert made.loc["x", "ec50"] == pytest.approx(0.5)
    assert made.loc["x", ["unit", "n", "n_missing"]].tolist() == ["uM", 22, 0]
    assert made.loc["y", ["n", "n_doses", "n_missing"]].tolist() == [2, 2, 1]
    assert made.loc["y", "reason"] == "no fit: 2 doses, 4 are needed" and np.isnan(made.loc["y", "ec50"])
    with pytest.raises(OpenHCSError, match="dose response needs the column dose, which neither"):
        fit_dose_responses(table, usable, "spots", "dose")
    with pytest.raises(OpenHCSError, match="the column compound has text"):
        fit_dose_responses(table, usable, "spots", "compound")
