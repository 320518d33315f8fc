"""Whether replicates of a treatment have profiles that are like each other and unlike those of the controls."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from openhcs_omero.analysis.wells import is_control

METADATA = "Metadata_"  # pycytominer's start of the names of columns that are not features
COLUMNS = ["n_replicates", "mean_average_precision", "normalized", "p_value", "q_value", "reason"]
DRAWS = 10_000  # of the null distribution


def mean_average_precision(profiles: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """The mean average precision of each treatment, by copairs.

    Each well of a treatment ranks the other wells of the treatment and the negative controls by the cosine similarity
    of the profiles. Its average precision is 1 if all replicates come before all controls. Wells that are excluded or
    miss a value of a feature are left out.

    Parameters
    ----------
    profiles
        What `make_profiles` returns.
    keys
        The columns of the plate map that make two wells replicates of each other, `compound` first.

    Returns
    -------
    DataFrame
        One row per treatment, in the order of the wells: the columns `keys`, the number of replicates, the mean average
        precision, 0 to 1; the same with 0 for what random profiles get; its p value from 10,000 random rankings; the
        p value after Benjamini-Hochberg; and the reason if it was not computed.

    References
    ----------
    Kalinin et al., A versatile information retrieval framework for evaluating profile strength and similarity, Nature
    Communications 16, 5181 (2025).
    """
    if not keys:
        return pd.DataFrame([{"reason": "the plate map names no compounds"}], columns=COLUMNS)
    names = [METADATA + key for key in keys]
    control = profiles.get(f"{METADATA}control", pd.Series(index=profiles.index, dtype=object))
    features = [name for name in profiles.columns if not name.startswith(METADATA)]
    whole = profiles[features].notna().all(axis=1)
    if f"{METADATA}excluded" in profiles:
        whole &= profiles[f"{METADATA}excluded"].isna()
    samples = ~is_control(control) & profiles[names[0]].notna()
    number = profiles[samples].groupby(names, dropna=False, sort=False).ngroup().reindex(profiles.index, fill_value=-1)
    made = profiles.loc[samples, names].assign(treatment=number).drop_duplicates("treatment").set_index("treatment")
    made["n_replicates"] = number[samples & whole].value_counts().reindex(made.index, fill_value=0)
    controls = whole & (control == "negative")
    compared = made.index[made["n_replicates"] > 1]
    if len(features) < 2:
        made["reason"] = "profiles with fewer than two features can't be compared"
    elif not controls.any():
        made["reason"] = "no negative controls"
    else:
        made["reason"] = np.where(made.index.isin(compared), "", "fewer than two replicates")
        if len(compared):
            used = controls | whole & number.isin(compared)
            made = made.join(_scores(profiles.loc[used, features].to_numpy(dtype="float64"), number[used].to_numpy()))
    return made.rename(columns=dict(zip(names, keys))).reset_index(drop=True).reindex(columns=[*keys, *COLUMNS])


def _scores(features: np.ndarray, treatment: np.ndarray) -> pd.DataFrame:
    """The scores by treatment; `treatment` is the number of that of each row of `features`, -1 for a control."""
    import copairs.map as copairs

    # two wells are replicates if both are the same, and a sample and a control if both differ
    pairs = ["treatment", "control"]
    about = pd.DataFrame({"treatment": treatment, "control": np.where(treatment < 0, np.arange(len(treatment)), -1)})
    precision = copairs.average_precision(about, features, pairs, [], [], pairs, progress_bar=False)
    scores = copairs.mean_average_precision(
        precision[precision["treatment"] >= 0], ["treatment"], DRAWS, 0.05, seed=0, progress_bar=False, max_workers=1
    )
    return scores.set_index("treatment")[
        ["mean_average_precision", "mean_normalized_average_precision", "p_value", "corrected_p_value"]
    ].set_axis(["mean_average_precision", "normalized", "p_value", "q_value"], axis=1)
