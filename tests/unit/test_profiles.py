"""Profiles, and our robust z scores compared with pycytominer's."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import yaml

from openhcs_omero.analysis.from_files import analyze_files
from openhcs_omero.analysis.normalization import normalize
from openhcs_omero.analysis.profiles import make_profiles
from openhcs_omero.analysis.replicability import mean_average_precision
from openhcs_omero.analysis.settings import read_settings
from openhcs_omero.analysis.wells import read_wells
from openhcs_omero.errors import ConfigError
from openhcs_omero.plates.paths import well_name

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


def test_redundant_features_are_omitted_and_every_well_stays():
    table = wells_of()
    table.loc[0, ["excluded", "flat"]] = ["dirty", 9.0]  # an excluded well does not make a feature worth keeping
    made = make_profiles(table, FEATURES, [f"{name}_z" for name in FEATURES], ["compound"])
    metadata = ["Metadata_Plate", "Metadata_Well", "Metadata_compound", "Metadata_excluded"]
    assert list(made.columns[:4]) == metadata and len(made) == 96
    assert set(made.columns[4:]) in ({"a_z", "b_z"}, {"like_a_z", "b_z"})
    assert made["b_z"].to_numpy() == pytest.approx(table["b"].to_numpy())


def test_profiles_of_excluded_wells_have_no_features():
    table = pd.DataFrame({"plate": "7", "well": ["A01", "A02"], "excluded": "x > 1", "a": [1.0, 2.0], "b": [2.0, 1.0]})
    assert list(make_profiles(table, ["a", "b"], ["a", "b"], [])) == [
        "Metadata_Plate",
        "Metadata_Well",
        "Metadata_excluded",
    ]


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


def profiles_of(wells):
    """Profiles of (compound, concentration, control, features)."""
    table = pd.DataFrame(
        [(compound, dose, control, *features) for compound, dose, control, features in wells],
        columns=["Metadata_compound", "Metadata_concentration (uM)", "Metadata_control", "a", "b", "c"],
    )
    table.insert(0, "Metadata_Plate", "7")
    table.insert(1, "Metadata_Well", [well_name(n // 12, n % 12) for n in range(len(table))])
    return table


def screen():
    rng = np.random.default_rng(5)
    controls = [("DMSO", None, "negative", rng.normal(0, 1, 3)) for _ in range(16)]
    strong = [
        ("strong", dose, None, np.array([5, dose, 9]) + rng.normal(0, 0.1, 3)) for dose in (1.0, 10.0) for _ in range(4)
    ]
    inert = [("inert", 1.0, None, rng.normal(0, 1, 3)) for _ in range(4)]
    others = [("once", 1.0, None, rng.normal(0, 1, 3)), ("reference", 1.0, "positive", [9.0, 9.0, 9.0])]
    return profiles_of([*controls, *strong, *inert, *others])


KEYS = ["compound", "concentration (uM)"]


def by_hand(profiles, compound, dose):
    """The mean average precision by its definition."""
    values = profiles[["a", "b", "c"]].to_numpy()
    values = values / np.linalg.norm(values, axis=1, keepdims=True)
    own = ((profiles["Metadata_compound"] == compound) & (profiles["Metadata_concentration (uM)"] == dose)).to_numpy()
    found = []
    for well in np.flatnonzero(own):
        rivals = np.flatnonzero((own | (profiles["Metadata_control"] == "negative")) & (np.arange(len(own)) != well))
        ranked = own[rivals[np.argsort(-values[rivals] @ values[well])]]
        found.append((np.cumsum(ranked) / np.arange(1, len(ranked) + 1))[ranked].mean())
    return np.mean(found)


def test_replicable_profiles_have_a_high_mean_average_precision():
    profiles = screen()
    made = mean_average_precision(profiles, KEYS).set_index(KEYS)
    assert made.index.tolist() == [("strong", 1.0), ("strong", 10.0), ("inert", 1.0), ("once", 1.0)]
    for key in made.index[:3]:
        assert made.loc[key, "mean_average_precision"] == pytest.approx(by_hand(profiles, *key), abs=1e-6)
    assert (made.loc["strong", "mean_average_precision"] == 1).all() and (made.loc["strong", "q_value"] < 0.05).all()
    assert made.loc[("inert", 1.0), "q_value"] > 0.05
    once = made.loc[("once", 1.0)]
    assert np.isnan(once["mean_average_precision"]) and once["reason"] == "fewer than two replicates"
    again = mean_average_precision(profiles.sample(frac=1, random_state=1), KEYS).set_index(KEYS).loc[made.index]
    pd.testing.assert_series_equal(again["mean_average_precision"], made["mean_average_precision"])


def test_excluded_and_incomplete_wells_are_no_replicates():
    profiles = screen()
    first, second = profiles.index[profiles["Metadata_compound"] == "strong"][:2]
    profiles["Metadata_excluded"] = None
    profiles.loc[first, "Metadata_excluded"] = "dirty"
    profiles.loc[second, "b"] = np.nan
    made = mean_average_precision(profiles, KEYS)
    assert made.loc[0, "n_replicates"] == 2 and made.loc[0, "mean_average_precision"] == 1


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda table: table[table["Metadata_control"].isna()], "no negative controls"),
        (lambda table: table[table["Metadata_control"].isna()].assign(Metadata_control="none"), "no negative controls"),
        (lambda table: table.drop(columns=["b", "c"]), "profiles with fewer than two features can't be compared"),
        (lambda table: table.drop_duplicates("Metadata_compound"), "fewer than two replicates"),
    ],
)
def test_what_is_not_computed_has_a_reason(change, reason):
    made = mean_average_precision(change(screen()), KEYS)
    assert len(made) and made["mean_average_precision"].isna().all() and set(made["reason"]) == {reason}
    assert mean_average_precision(screen(), [])["reason"].tolist() == ["the plate map names no compounds"]


def test_the_command_writes_profiles_and_their_replicability(tmp_path):
    table = wells_of(24).drop(columns=["excluded"])
    kinds = ["DMSO" if n < 8 else f"C{n % 4}" for n in range(24)]
    table.assign(compound=kinds).to_csv(tmp_path / "wells.csv", index=False)
    config = {"features": ["a", "b", "gaps"], "normalise": ["z_score"], "controls": {"negative": "DMSO"}}
    (tmp_path / "analysis.yaml").write_text(
        yaml.safe_dump({"analysis": {**config, "profiles": "z_score", "mean_average_precision": True}})
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas and pycytominer
        said = analyze_files([tmp_path / "wells.csv"], tmp_path / "analysis.yaml")
    assert "profiles.parquet, mean_average_precision.csv, report.html" in said[-1]
    assert list(pd.read_parquet(tmp_path / "profiles.parquet").filter(regex="^(?!Metadata)")) == ["a", "b"]
    made = pd.read_csv(tmp_path / "mean_average_precision.csv")
    assert set(made["compound"]) == {"C0", "C1", "C2", "C3"} and made["mean_average_precision"].between(0, 1).all()


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"mean_average_precision": True}, "analysis.mean_average_precision is about profiles"),
        (
            {"anndata": True, "profiles": "z_score"},
            r"needs the package anndata: pip install 'openhcs-omero\[anndata\]'",
        ),
    ],
)
def test_what_profiles_need_is_said_before_anything_runs(keys, message, monkeypatch):
    monkeypatch.setitem(sys.modules, "anndata", None)  # as if it were not installed
    with pytest.raises(ConfigError, match=message):
        read_settings({"analysis": {"normalise": ["z_score"], **keys}})
