"""Quality and normalization: values computed by hand, values from R, invariances, and bad input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from openhcs_omero.analysis.normalization import METHODS, normalize
from openhcs_omero.analysis.polish import median_polish, nanmedian
from openhcs_omero.analysis.quality import compute_quality
from openhcs_omero.analysis.wells import read_wells
from openhcs_omero.errors import ConfigError, OpenHCSError
from openhcs_omero.plates.paths import well_name

pytestmark = pytest.mark.filterwarnings("error")


def table_of(values, controls=None, plate="7", rows=8, columns=12):
    """A plate whose wells are filled row by row."""
    places = [well_name(row, column) for row in range(rows) for column in range(columns)][: len(values)]
    table = pd.DataFrame({"plate": plate, "well": places, "f": np.asarray(values, dtype=float)})
    return table if controls is None else table.assign(control=controls)


# 3 negative (mean 10, SD 2), 3 positive (mean 40, SD 3) controls, 6 samples
HAND = table_of([8, 10, 12, 37, 40, 43, 10, 20, 30, 40, 50, 60], ["negative"] * 3 + ["positive"] * 3 + ["none"] * 6)


def quality_of(table, **keywords):
    return compute_quality(read_wells(table, ["f"]), **keywords).set_index("plate")


def test_quality_matches_values_computed_by_hand():
    row = quality_of(HAND).loc["7"]
    assert row["z_prime"] == pytest.approx(1 - 3 * (2 + 3) / 30)
    assert row["robust_z_prime"] == pytest.approx(1 - 3 * 1.4826 * (2 + 3) / 30)
    assert row["ssmd"] == pytest.approx(30 / np.sqrt(4 + 9))
    assert row["signal_to_background"] == pytest.approx(4)
    assert row["cv_negative"] == pytest.approx(0.2) and row["cv_positive"] == pytest.approx(3 / 40)
    assert list(row[["n_negative", "n_positive", "n_samples", "n_missing", "n_excluded"]]) == [3, 3, 6, 0, 0]


@pytest.mark.parametrize(
    "name, expected",
    [
        ("percent_of_control", [80, 100, 120, 370, 400, 430, 100, 200, 300, 400, 500, 600]),
        ("percent_inhibition", [100 * (10 - x) / (10 - 40) for x in HAND["f"]]),
        ("z_score", [(x - 35) / np.sqrt(350) for x in HAND["f"]]),  # of 10, 20, ..., 60
        ("robust_z_score", [(x - 35) / (1.4826 * 15) for x in HAND["f"]]),
    ],
)
def test_normalized_values_match_values_computed_by_hand(name, expected):
    made = normalize(read_wells(HAND, ["f"]), [name])
    assert made.values[:, 0] == pytest.approx(expected)
    assert not any(where.any() for where in made.problems.values())


def test_the_reference_may_be_the_negative_controls():
    made = normalize(read_wells(HAND, ["f"]), ["z_score"], "negative")
    assert made.values[:, 0] == pytest.approx([(x - 10) / 2 for x in HAND["f"]])


M = np.array([[1, 8, 4, 12], [3, 5, 7, 20], [2, 9, 6, 11]], dtype=float)


def test_the_median_polish_matches_r():
    """R 4.2: medpolish(m), and medpolish(m, na.rm = TRUE) with two values missing."""
    missing = M.copy()
    missing[1, 1] = missing[0, 3] = np.nan
    made = median_polish(np.stack([M, missing]))
    assert made.overall == pytest.approx([7.5, 7.5])
    assert made.rows == pytest.approx(np.array([[-1.125, 1, 0], [-1, 1, 0]]))
    assert made.columns == pytest.approx(np.array([[-5.5, 1.5, -1.5, 5.625], [-5.5, 1.5, -1.5, 7.5]]))
    assert made.residuals[0] == pytest.approx(
        np.array([[0.125, 0.125, -0.875, 0], [0, -5, 0, 5.875], [0, 0, 0, -2.125]])
    )
    assert made.residuals[1] == pytest.approx(
        np.array([[0, 0, -1, np.nan], [0, np.nan, 0, 4], [0, 0, 0, -4]]), nan_ok=True
    )


def test_b_scores_are_residuals_divided_by_the_mad_as_in_r():
    table = table_of(M.ravel(), rows=3, columns=4)
    made = normalize(read_wells(table, ["f"]), ["b_score"]).values.reshape(3, 4)
    assert made == pytest.approx(  # R 4.2: medpolish(m)$residuals / mad(medpolish(m)$residuals), mad 0.0926625
        np.array([[0.125, 0.125, -0.875, 0], [0, -5, 0, 5.875], [0, 0, 0, -2.125]]) / 0.0926625
    )


def test_robust_z_scores_match_r():
    """R 4.2: median(m) is 6.5 and mad(m) is 4.4478."""
    made = normalize(read_wells(table_of(M.ravel()), ["f"]), ["robust_z_score"]).values[:, 0]
    assert made == pytest.approx((M.ravel() - 6.5) / 4.4478)


def test_a_chain_applies_each_method_to_the_values_of_the_one_before():
    wells = read_wells(HAND, ["f"])
    first = normalize(wells, ["percent_of_control"])
    chain = normalize(wells, ["percent_of_control", "z_score"])
    assert chain.values == pytest.approx(normalize(wells.with_values(first.values), ["z_score"]).values)


def test_batches_are_normalized_together():
    both = pd.concat([HAND, HAND.assign(plate="8", f=HAND["f"] * 2)], ignore_index=True).assign(batch="monday")
    made = normalize(read_wells(both, ["f"], batch="batch"), ["percent_of_control"])
    assert made.values[:12, 0] == pytest.approx(HAND["f"] * 100 / 15)  # the mean of all six negative controls


def test_a_reason_is_said_of_the_plates_that_it_holds_for():
    """With `together`, too: a plate without batches, and one with two of which one has no controls."""
    both = pd.concat([HAND, HAND.assign(plate="8")], ignore_index=True).assign(batch="monday")
    both.loc[both["plate"] == "8", "batch"] = None
    made = normalize(read_wells(both, ["f"], batch="batch"), ["percent_of_control"])
    assert made.values[:12, 0] == pytest.approx(HAND["f"] * 10) and np.isnan(made.values[12:]).all()
    said = {reason: where[:, 0].tolist() for reason, where in made.problems.items() if where.any()}
    assert said == {"some wells have no value in the column of analysis.together": [False, True]}
    lines = HAND.assign(cell_line=np.where(HAND["control"] == "negative", "HeLa", "U2OS"))
    made = normalize(read_wells(lines, ["f"], batch="cell_line"), ["percent_of_control"])
    assert made.problems["no negative controls"].all()
    plate = table_of(np.random.default_rng(1).normal(0, 1, 96), ["negative"] + ["none"] * 95, rows=8, columns=12)
    flat = pd.concat([plate, plate.assign(plate="8", f=1.0)], ignore_index=True).assign(batch="monday")
    wells = read_wells(flat, ["f"], batch="batch")
    made = normalize(wells, ["b_score"])
    assert made.problems["the MAD of the residuals is 0"][:, 0].tolist() == [False, True]
    wells = read_wells(flat, ["f"])
    chain = normalize(wells, ["b_score", "percent_of_control"]).problems
    first, second = compute_quality(wells, {"chain": chain})["reason"]
    assert "chain: no negative controls" in second and "chain" not in first  # though both plates have controls


def test_position_effects_of_a_plate_are_found():
    rng = np.random.default_rng(3)
    flat = rng.normal(100, 1, (16, 24))
    bent = flat + np.linspace(0, 20, 16)[:, None]
    column = flat.copy()
    column[:, 5] += 30
    rim = flat.copy()
    rim[[0, -1]] += 8
    rim[:, [0, -1]] += 8
    made = {
        name: quality_of(table_of(values.ravel(), rows=16, columns=24)).loc["7"]
        for name, values in {"flat": flat, "bent": bent, "column": column, "rim": rim}.items()
    }
    names = ["edge_effect", "row_effect", "column_effect", "row_trend", "column_trend"]
    assert made["flat"][names].astype(float).abs().max() < 1
    assert made["bent"]["row_trend"] == pytest.approx(20, rel=0.15) and abs(made["bent"]["column_trend"]) < 1
    assert made["column"]["column_effect"] == pytest.approx(30, rel=0.15) and abs(made["column"]["row_effect"]) < 1
    assert made["rim"]["edge_effect"] == pytest.approx(8, rel=0.25)


# -- invariances -------------------------------------------------------------------------------------------------------

floats = st.floats(-1000, 1000).map(lambda value: round(value, 2))
plates = st.lists(floats, min_size=18, max_size=18)
CONTROLS = ["negative"] * 4 + ["positive"] * 4 + ["none"] * 10


@given(plates, floats, st.floats(0.01, 100), st.randoms(use_true_random=False))
def test_scores_do_not_depend_on_shift_scale_or_row_order(values, shift, scale, random):
    """Property: z', its robust form, SSMD, inhibition and z scores are invariant to linear scaling of the feature."""
    table = table_of(values, CONTROLS)
    wells = read_wells(table, ["f"])
    names = ["z_prime", "robust_z_prime", "ssmd"]
    before = quality_of(table).loc["7", names].to_numpy(dtype=float)
    scores = {name: normalize(wells, [name]).values for name in ("percent_inhibition", "z_score", "robust_z_score")}
    numbers = [*before, *(value for made in scores.values() for value in made.ravel())]
    assume(np.isfinite(numbers).all() and np.abs(numbers).max() < 1e4)  # no near-division by 0
    order = list(range(18))
    random.shuffle(order)
    moved = table.assign(f=table["f"] * scale + shift).iloc[order].reset_index(drop=True)
    assert quality_of(moved).loc["7", names].to_numpy(dtype=float) == pytest.approx(before, rel=1e-5, abs=1e-5)
    for name, made in scores.items():
        assert normalize(read_wells(moved, ["f"]), [name]).values == pytest.approx(made[order], rel=1e-5, abs=1e-5)


@given(st.lists(st.one_of(floats, st.just(np.nan)), min_size=1, max_size=12))
def test_the_median_without_missing_values_matches_numpy(values):
    known = [value for value in values if not np.isnan(value)]
    expected = np.median(known) if known else np.nan
    assert nanmedian(np.array(values)) == pytest.approx(expected, nan_ok=True)


@given(st.lists(st.one_of(floats, st.sampled_from([np.nan, np.inf, -np.inf, 0.0])), min_size=1, max_size=30), st.data())
def test_any_table_gives_a_number_or_a_reason_and_no_warning(values, data):
    roles = data.draw(
        st.lists(
            st.sampled_from(["negative", "positive", "empty", "none", None]), min_size=len(values), max_size=len(values)
        )
    )
    excluded = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))))
    wells = read_wells(table_of(values, pd.Series(roles, dtype=object)), ["f"], excluded)
    row = compute_quality(wells).iloc[0]
    numbers = row[["z_prime", "robust_z_prime", "ssmd", "signal_to_background", "cv_negative", "row_effect"]]
    assert numbers.notna().all() or row["reason"]
    assert not np.isinf(numbers.astype(float)).any()
    for name in METHODS:
        made = normalize(wells, [name])
        lost = np.isnan(made.values) & ~np.isnan(wells.values)
        assert not np.isinf(made.values).any()
        assert not lost.any() or any(where.any() for where in made.problems.values())


# -- bad input ---------------------------------------------------------------------------------------------------------


def reason_of(values, controls, **keywords):
    return quality_of(table_of(values, controls), **keywords).loc["7", "reason"]


@pytest.mark.parametrize(
    "controls, values, reason",
    [
        (["positive"] * 2 + ["none"] * 4, [1, 2, 3, 4, 5, 6], "no negative controls"),
        (["negative"] * 2 + ["none"] * 4, [1, 2, 3, 4, 5, 6], "no positive controls"),
        (
            ["negative", "positive"] + ["none"] * 4,
            [1, 2, 3, 4, 5, 6],
            "only one negative control; only one positive control",
        ),
        (["negative"] * 2 + ["positive"] * 2 + ["none"] * 2, [1, 1, 4, 4, 5, 6], "the controls are all alike"),
        (["negative"] * 2 + ["positive"] * 2 + ["none"] * 2, [0.1, 0.1, 0.1, 0.1, 5, 6], "have the same mean"),
        (
            ["negative"] * 2 + ["positive"] * 2 + ["none"] * 2,
            [-1, 1, 4, 5, 5, 6],
            "the mean of the negative controls is 0",
        ),
        (["negative"] * 3 + ["positive"] * 3, [1, 2, 3, 4, 5, 6], "no sample wells"),
    ],
)
def test_values_that_are_not_computed_have_a_reason(controls, values, reason):
    assert reason in reason_of(values, controls)


def test_excluded_wells_and_plates_without_a_map_are_reported():
    wells = read_wells(HAND, ["f"], np.ones(12, dtype=bool))
    row = compute_quality(wells, without_map=np.array([True])).iloc[0]
    assert row["reason"].startswith("no plate map; all wells are excluded") and "controls" not in row["reason"]
    assert row["n_excluded"] == 12 and np.isnan(row["z_prime"])
    one = compute_quality(read_wells(HAND, ["f"], np.arange(12) == 0)).iloc[0]
    assert (one["n_negative"], one["n_excluded"]) == (2, 1)


def test_constant_features_have_no_scores_and_missing_values_stay_missing():
    table = table_of([5.0] * 12, HAND["control"])
    for name in ("z_score", "robust_z_score", "b_score", "percent_inhibition"):
        made = normalize(read_wells(table, ["f"]), [name])
        assert np.isnan(made.values).all() and any(where.all() for where in made.problems.values())
    gap = HAND.assign(f=HAND["f"].where(HAND["well"] != "A07"))
    made = normalize(read_wells(gap, ["f"]), ["z_score"]).values[:, 0]
    assert np.isnan(made[6]) and np.isfinite(np.delete(made, 6)).all()
    assert quality_of(gap).loc["7", "n_missing"] == 1


def test_reasons_of_normalizations_are_in_the_quality_table():
    table = table_of([1, 2, 3, 9, 9, 9, 9, 5], ["negative"] * 2 + ["positive"] + ["none"] * 5)
    wells = read_wells(table, ["f"])
    problems = {"robust_z_score": normalize(wells, ["robust_z_score"]).problems}
    assert "robust_z_score: the MAD of the sample wells is 0" in compute_quality(wells, problems).loc[0, "reason"]


def test_wrong_names_are_refused():
    with pytest.raises(ConfigError, match="there is no normalization zscore: expected one of percent_of_control"):
        normalize(read_wells(HAND, ["f"]), ["zscore"])
    with pytest.raises(OpenHCSError, match="the tables have no column g: they have f"):
        read_wells(HAND, ["g"])
    with pytest.raises(OpenHCSError, match="the column control can't be analyzed: 'negative' of well"):
        read_wells(HAND, ["control"])


def test_drift_follows_the_order_of_acquisition_and_not_the_place():
    rng = np.random.default_rng(4)
    places = [well_name(row, column) for row in range(8) for column in range(12)]
    order = rng.permutation(96)  # no row or column is acquired before another
    values = rng.normal(0, 1, 96)
    values -= np.polyval(np.polyfit(order, values, 1), order)  # no drift at all
    table = pd.DataFrame({"plate": "7", "well": places, "acquired_s": 30.0 * order, "flat": values})
    table["late"] = values + 6 * order / 95
    found = compute_quality(read_wells(table, ["flat", "late"])).set_index("feature")
    assert found.loc["flat", "drift"] == pytest.approx(0, abs=1e-9) and found.loc["late", "drift"] > 2.5
    again = compute_quality(read_wells(table.sample(frac=1, random_state=1), ["flat", "late"])).set_index("feature")
    assert again["drift"].to_numpy() == pytest.approx(found["drift"].to_numpy())
    unknown = compute_quality(read_wells(table.assign(acquired_s=np.nan), ["flat"])).iloc[0]
    assert np.isnan(unknown["drift"]) and "the order of acquisition is not known" in unknown["reason"]
    assert "drift" not in compute_quality(read_wells(table.drop(columns="acquired_s"), ["flat"]))
