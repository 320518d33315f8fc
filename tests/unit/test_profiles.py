"""Profiles, and our robust z scores compared with pycytominer's."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from openhcs_omero.analysis.normalization import normalize
from openhcs_omero.analysis.profiles import make_profiles, write_profiles
from openhcs_omero.analysis.wells import read_wells
from openhcs_omero.plates.paths import well_name

pytest.importorskip("pycytominer")
pytestmark = pytest.mark.filterwarnings("error")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pycytominer

FEATURES = ["a", "b", "like_a", "flat", "gaps"]


def wells_of(count=96):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(5, 2, (count, 5)), columns=FEATURES)
    table["like_a"] = 3 * table["a"] + 0.01 * table["like_a"]
    table["flat"] = 1.0
    table.loc[::3, "gaps"] = np.nan
    places = [well_name(n // 12, n % 12) for n in range(count)]
    return pd.concat([pd.DataFrame({"plate": "7", "well": places, "compound": "x", "excluded": None}), table], axis=1)


def test_redundant_features_are_omitted_and_every_well_stays(tmp_path):
    table = wells_of()
    table.loc[0, ["excluded", "flat"]] = ["dirty", 9.0]  # an excluded well does not make a feature worth keeping
    made = make_profiles(table, FEATURES, [f"{name}_z" for name in FEATURES], ["compound"])
    metadata = ["Metadata_Plate", "Metadata_Well", "Metadata_compound", "Metadata_excluded"]
    assert list(made.columns[:4]) == metadata and len(made) == 96
    assert set(made.columns[4:]) in ({"a_z", "b_z"}, {"like_a_z", "b_z"})
    write_profiles(made, tmp_path / "profiles.parquet")
    assert pd.read_parquet(tmp_path / "profiles.parquet")["b_z"].to_numpy() == pytest.approx(table["b"].to_numpy())


def test_robust_z_scores_match_pycytominer():
    table = wells_of()
    ours = normalize(read_wells(table, ["a", "b"]), ["robust_z_score"]).values
    theirs = pycytominer.normalize(
        table[["plate", "a", "b"]],
        features=["a", "b"],
        meta_features=["plate"],
        method="mad_robustize",
        mad_robustize_epsilon=0,
    )
    assert ours == pytest.approx(theirs[["a", "b"]].to_numpy(), rel=1e-4)
