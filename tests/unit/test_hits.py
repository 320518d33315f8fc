"""Hits, false discovery rate and replicates."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, norm, spearmanr

from openhcs_omero.analysis.hits import Criterion, adjust_p_values, find_hits
from openhcs_omero.analysis.replicates import compare_plates, summarize_replicates
from openhcs_omero.errors import ConfigError

pytestmark = pytest.mark.filterwarnings("error")


def table_of(**columns):
    count = len(next(iter(columns.values())))
    return pd.DataFrame({"plate": "7", "well": [f"A{n + 1:02d}" for n in range(count)], **columns})


def everywhere(table):
    return np.ones(len(table), dtype=bool)


TABLE = table_of(z=[0.0, 5.0, -6.0, 3.0, np.nan, 9.0, 4.0], y=[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0])


@pytest.mark.parametrize(
    "criterion, wells, directions",
    [
        (Criterion("z", above=3), ["A06", "A02", "A07"], ["above"] * 3),
        (Criterion("z", below=-3), ["A03"], ["below"]),
        (Criterion("z", above=3, below=-3), ["A06", "A03", "A02", "A07"], ["above", "below", "above", "above"]),
        (
            Criterion("z", below=4),
            ["A03", "A01", "A04"],
            ["below"] * 3,
        ),  # a count, of which the lowest is the strongest
    ],
)
def test_hits_are_beyond_the_threshold_and_ranked(criterion, wells, directions):
    made = find_hits(TABLE, everywhere(TABLE), [criterion])
    assert made["well"].tolist() == wells and made["direction"].tolist() == directions
    assert made["rank"].tolist() == list(range(1, len(wells) + 1))
    assert made["p_value"].isna().all()  # `z` is not declared to be a z score


def test_a_hit_fulfills_all_criteria_and_is_not_excluded():
    usable = TABLE["well"].ne("A06").to_numpy()
    made = find_hits(TABLE, usable, [Criterion("z", above=3), Criterion("y", above=0.5)])
    assert made["well"].tolist() == ["A02"]


def test_p_and_q_values_match_scipy():
    usable = TABLE["well"].ne("A06").to_numpy()
    made = find_hits(TABLE, usable, [Criterion("z", above=-9, is_z=True)]).set_index("well")
    known = TABLE[usable & TABLE["z"].notna()]
    p = norm.sf(known["z"])
    assert made.loc[known["well"], "p_value"].to_numpy() == pytest.approx(p)
    assert made.loc[known["well"], "q_value"].to_numpy() == pytest.approx(false_discovery_control(p))
    two = find_hits(TABLE, usable, [Criterion("z", above=3, below=-3, is_z=True)]).set_index("well")
    assert two.loc["A03", "p_value"] == pytest.approx(2 * norm.sf(6))


def test_the_example_of_benjamini_and_hochberg():
    """Benjamini and Hochberg 1995, section 4: 4 of these 15 p-values are significant at 0.05."""
    p = np.array(
        [
            0.0001,
            0.0004,
            0.0019,
            0.0095,
            0.0201,
            0.0278,
            0.0298,
            0.0344,
            0.0459,
            0.3240,
            0.4262,
            0.5719,
            0.6528,
            0.7590,
            1,
        ]
    )
    assert (adjust_p_values(p) <= 0.05).sum() == 4
    assert np.isnan(adjust_p_values(np.array([np.nan, 0.01]))).tolist() == [True, False]
    assert np.isnan(adjust_p_values(np.array([np.nan]))).all()


def test_a_false_discovery_rate_limits_the_hits():
    rng = np.random.default_rng(5)
    table = table_of(z=np.concatenate([rng.normal(0, 1, 900), rng.normal(5, 1, 100)]))
    found = find_hits(table, everywhere(table), [Criterion("z", above=1, is_z=True)], fdr=0.1)
    numbers = found["well"].str[1:].astype(int)
    assert (numbers > 900).sum() > 90 and (numbers <= 900).mean() < 0.2
    with pytest.raises(ConfigError, match="hits by z have no false discovery rate"):
        find_hits(table, everywhere(table), [Criterion("z", above=1)], fdr=0.1)
    with pytest.raises(ConfigError, match="hits by z need a threshold"):
        Criterion("z")


def test_without_hits_the_table_is_empty_but_has_its_columns():
    made = find_hits(TABLE, everywhere(TABLE), [Criterion("z", above=99, is_z=True)])
    assert len(made) == 0 and {"rank", "plate", "well", "p_value", "q_value", "n_replicates"} <= set(made.columns)


@given(
    st.lists(st.one_of(st.floats(-9, 9), st.just(np.nan)), min_size=1, max_size=20), st.randoms(use_true_random=False)
)
def test_hits_do_not_depend_on_the_order_of_rows(values, random):
    table = table_of(z=np.array(values))
    order = list(range(len(values)))
    random.shuffle(order)
    criteria = [Criterion("z", above=3, below=-3, is_z=True)]
    before, after = (find_hits(made, everywhere(made), criteria, fdr=0.2) for made in (table, table.iloc[order]))
    assert set(before["well"]) == set(after["well"]) and before["q_value"].tolist() == after["q_value"].tolist()


REPLICATES = pd.DataFrame(
    {
        "plate": ["1", "1", "1", "1", "1", "2", "2", "2", "2", "2"],
        "well": ["A01", "A02", "A03", "A04", "A05"] * 2,
        "compound": ["a", "a", "b", "c", None, "a", "b", "c", "d", "d"],
        "concentration (uM)": [1.0, 1.0, 1.0, 1.0, np.nan, 1.0, 1.0, 1.0, 1.0, 2.0],
        "z": [5.0, 4.0, 0.0, 1.0, 7.0, 6.0, 1.0, 0.0, np.nan, 8.0],
    }
)


def test_replicates_are_summarized_and_their_hits_counted():
    made = summarize_replicates(REPLICATES, everywhere(REPLICATES), ["z"]).set_index(["compound", "concentration (uM)"])
    a = made.loc[("a", 1.0)]
    assert (a["n"], a["n_plates"], a["mean"], a["median"], a["sd"], a["reason"]) == (3, 2, 5, 5, 1, "")
    assert made.loc[("d", 1.0), ["n", "n_plates", "reason"]].tolist() == [0, 0, "no value"]
    assert made.loc[("d", 2.0), "reason"] == "one replicate has no SD" and np.isnan(made.loc[("d", 2.0), "sd"])
    assert len(made) == 5
    hits = find_hits(REPLICATES, everywhere(REPLICATES), [Criterion("z", above=4.5)]).set_index(["plate", "well"])
    assert hits.loc[("1", "A01"), ["n_replicates", "n_replicate_hits"]].tolist() == [3, 2]
    assert hits.loc[("1", "A05"), "n_replicates"] is np.nan or np.isnan(hits.loc[("1", "A05"), "n_replicates"])


def test_plates_are_compared_by_spearman_over_shared_treatments():
    made = compare_plates(REPLICATES, everywhere(REPLICATES), "z")
    assert made[["plate_1", "plate_2", "n", "reason"]].values.tolist() == [["1", "2", 3, ""]]
    assert made.loc[0, "spearman"] == pytest.approx(spearmanr([4.5, 0, 1], [6, 1, 0]).statistic)
    flat = compare_plates(REPLICATES.assign(z=1.0), everywhere(REPLICATES), "z")
    assert flat["reason"].tolist() == ["one plate has equal values only"] and flat["spearman"].isna().all()
    few = compare_plates(REPLICATES, everywhere(REPLICATES), "z", least=5)
    assert few["reason"].tolist() == ["fewer than 5 common treatments"] and few["spearman"].isna().all()


def test_without_compounds_there_are_no_replicates():
    table = REPLICATES.drop(columns="compound")
    assert len(summarize_replicates(table, everywhere(table), ["z"])) == 0
    assert len(compare_plates(table, everywhere(table), "z")) == 0
