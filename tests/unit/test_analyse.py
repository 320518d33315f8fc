"""The command `openhcs-omero analyse`: a screen with known truth, from its tables to the results."""

from __future__ import annotations

import base64
import json
import os
import re

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from openhcs_omero.analysis.exclusion import excluded_rows
from openhcs_omero.analysis.report.data import COLUMN_BYTES
from openhcs_omero.analysis.settings import read_settings
from openhcs_omero.analysis.well_tables import read_tables, round_digits, write_table
from openhcs_omero.cli import app
from openhcs_omero.errors import ConfigError
from openhcs_omero.plates.paths import well_name

pytestmark = pytest.mark.filterwarnings("error")

CONFIG = """
plate_map: {folder}/map.csv
analysis:
  features: [spots, cells]
  normalise: [percent_of_control, percent_inhibition, robust_z_score, {{corrected: [b_score, robust_z_score]}}]
  hits: {{feature: spots, by: robust_z_score, above: 4}}
  dose_response: {{feature: spots, by: percent_inhibition}}
qc: {{exclude: "cells < 500", stop_below: {{z_prime: 0.3}}}}
"""
PLANTED = {"C05", "G10", "M20"}
EMPTY = {"B02", "K15"}
EC50 = {"rise": 0.3, "fall": 2.0}
DOSES = 10.0 ** np.linspace(-3, 2, 11)


def make_screen(folder):
    """Two good plates and one whose controls can't be told apart; compounds, doses, hits and empty wells are known."""
    rng = np.random.default_rng(11)
    layout = []
    for plate in "123":
        rows = []
        for row, column in np.ndindex(16, 24):
            well, kind = well_name(row, column), {0: "negative", 23: "positive"}.get(column, "")
            compound, dose, level = f"C{row * 24 + column:03d}", 10.0, 50.0
            if column in (11, 12) and row < 11:
                compound, dose = ("rise", "fall")[column - 11], DOSES[row]
                share = dose / (dose + EC50[compound])
                level += 60 * (share if compound == "rise" else -0.7 * share)
            elif well in PLANTED:
                level = 110.0
            elif kind:
                compound, level = ("DMSO", 50.0) if kind == "negative" else ("stauro", 200.0)
            if plate == "3" and kind == "positive":
                level = 55.0
            cells = 50 if well in EMPTY else rng.normal(1000, 30)
            rows.append((plate, well, level + rng.normal(0, 4), cells))
            layout.append((well, compound, dose, kind))
        table = pd.DataFrame(rows, columns=["plate", "well", "spots", "cells"])
        table.to_csv(folder / f"plate_{plate}.csv", index=False)
    columns = ["well", "compound", "concentration (uM)", "control"]
    pd.DataFrame(layout[:384], columns=columns).to_csv(folder / "map.csv", index=False)
    (folder / "analysis.yaml").write_text(CONFIG.format(folder=folder))


def analyse(*arguments):
    return CliRunner().invoke(app, ["analyse", *map(str, arguments)])


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("screen")
    make_screen(folder)
    result = analyse(*(folder / f"plate_{n}.csv" for n in "123"), "--config", folder / "analysis.yaml")
    assert result.exit_code == 0, result.output
    return folder, result.output


def read(folder, name):
    return pd.read_csv(folder / name, dtype={"plate": str})


def test_excluded_data_are_reported(screen):
    _, output = screen
    assert "6 of 1152 wells are excluded: cells < 500" in output
    assert "plate 3 has no hits: z_prime is below 0.3 (spots)" in output
    assert "1152 wells on 3 plates" in output and "2 of 332 compounds have a dose response" in output


def test_every_csv_file_has_a_parquet_file(screen):
    folder, _ = screen
    written = {path.stem for path in folder.glob("*.parquet")}
    assert written == {"quality", "normalised", "hits", "dose_response", "replicates", "plate_agreement"}
    for name in written:
        table, same = read(folder, f"{name}.csv"), pd.read_parquet(folder / f"{name}.parquet")
        assert list(same) == list(table) and len(same) == len(table)
        assert len(same.select_dtypes("number").columns) > 1
        for column in same.select_dtypes("number"):
            np.testing.assert_array_equal(same[column].to_numpy(float), table[column].to_numpy(float))
    about = pq.read_schema(folder / "normalised.parquet").field("spots_percent_inhibition").metadata
    assert about == {b"unit": b"%", b"description": b"percent_inhibition of spots"}


def test_exactly_the_planted_hits_are_found_on_the_good_plates(screen):
    folder, _ = screen
    hits = read(folder, "hits.csv")
    assert hits["rank"].tolist() == list(range(1, len(hits) + 1))
    single = hits[~hits["compound"].isin(EC50)]
    assert set(zip(single["plate"], single["well"])) == {(plate, well) for plate in "12" for well in PLANTED}
    assert (single["n_replicate_hits"] == 2).all() and (single["q_value"] < 0.01).all()


def test_z_prime_equals_three_lines_of_numpy(screen):
    folder, _ = screen
    wells, quality = read(folder, "normalised.csv"), read(folder, "quality.csv")
    for plate in "123":
        mine = wells[(wells["plate"] == plate) & wells["excluded"].isna()]
        p, n = (mine.loc[mine["control"] == kind, "spots"].to_numpy() for kind in ("positive", "negative"))
        expected = 1 - 3 * (p.std(ddof=1) + n.std(ddof=1)) / abs(p.mean() - n.mean())
        found = quality[(quality["plate"] == plate) & (quality["feature"] == "spots")].iloc[0]
        assert found["z_prime"] == pytest.approx(expected)
        assert found["gate"] == ("stopped: z_prime is below 0.3" if plate == "3" else "passed")
    assert quality.loc[quality["feature"] == "cells", "gate"].isna().all()


def test_ec50s_are_within_their_confidence_intervals(screen):
    folder, _ = screen
    fits = read(folder, "dose_response.csv").set_index("compound")
    for compound, true in EC50.items():
        fit = fits.loc[compound]
        assert fit["ec50_low"] < true < fit["ec50_high"] and fit["unit"] == "uM" and fit["n"] == 22
    others = fits.drop(index=list(EC50))
    excluded = others["reason"] == "no fit: all wells are excluded, or on plates that were stopped"
    assert set(others.index[excluded]) == {"C025", "C254"} and (fits["n_excluded"] >= 1).all()  # plate 3 was stopped
    assert others["ec50"].isna().all() and others.loc[~excluded, "reason"].str.startswith("no fit: 1 dose").all()
    replicates = read(folder, "replicates.csv").set_index("compound")
    assert set(replicates.loc[["C025", "C254"], "reason"]) == {"all wells are excluded"}


def test_every_well_is_in_the_normalized_table(screen):
    folder, _ = screen
    made = read(folder, "normalised.csv")
    assert len(made) == 3 * 384 and made["excluded"].notna().sum() == 6
    assert {"spots_percent_of_control", "spots_corrected", "cells_robust_z_score"} <= set(made.columns)
    negative = made[(made["control"] == "negative") & (made["plate"] == "1")]
    assert negative["spots_percent_of_control"].mean() == pytest.approx(100)


def test_results_are_reproducible_and_independent_of_row_order(screen, tmp_path):
    folder, _ = screen
    for plate in "123":
        table = read(folder, f"plate_{plate}.csv")
        table.sample(frac=1, random_state=1).to_csv(tmp_path / f"plate_{plate}.csv", index=False)
    result = analyse(
        *(tmp_path / f"plate_{n}.csv" for n in "123"), "--config", folder / "analysis.yaml", "--out", tmp_path / "out"
    )
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "quality.csv").read_bytes() == (folder / "quality.csv").read_bytes()
    assert (tmp_path / "out" / "hits.csv").read_bytes() == (folder / "hits.csv").read_bytes()


def test_the_report_is_self_contained(screen):
    folder, _ = screen
    page = (folder / "report.html").read_text(encoding="utf-8")
    markup = re.sub(r"(?s)<script>.*?</script>", "", page)
    assert page.count("<script>") == 4 and not re.search(r"<script|\b(src|href)=|url\(|@import", markup)
    data = json.loads(json.loads(re.search(r"const DATA = JSON.parse\((.*)\);</script>", page)[1]))
    assert data["plates"] == ["1", "2", "3"] and data["n_hits"] == len(read(folder, "hits.csv"))
    assert data["stopped"] == ["3"] and [fit["compound"] for fit in data["dose_response"]] == list(EC50)
    assert dict(data["dose_rest"])["no fit: all wells are excluded, or on plates that were stopped"] == 2
    assert sum(dict(data["dose_rest"]).values()) == 330
    values = np.frombuffer(base64.b64decode(data["values"]["spots"][1:]), dtype="<f4")
    assert values == pytest.approx(read(folder, "normalised.csv")["spots"].to_numpy(), rel=1e-6)
    assert len(values) * 4 * 4 / 3 < COLUMN_BYTES


def test_names_in_the_tables_are_escaped_in_the_report(tmp_path):
    compound = "</script><script>alert(1)</script>"
    pd.DataFrame({"well": ["A01", "A02"], "compound": [compound, "b"], "x": [1.0, 2.0]}).to_csv(tmp_path / "p.csv")
    (tmp_path / "c.yaml").write_text("analysis: {features: [x], hits: {feature: x, above: 0}}")
    result = analyse(tmp_path / "p.csv", "--config", tmp_path / "c.yaml")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "alert(1)</script>" not in page and "alert(1)\\u003c/script>" in page


@pytest.mark.parametrize(
    "config, message",
    [
        (
            "analysis: {normalise: [zscore]}",
            "the configuration's analysis.normalise[0] is 'zscore', but it must be percent_of_control, ",
        ),
        ("analysis: {normalise: [{}]}", "analysis.normalise[0] is {}, but it must not be empty"),
        ("analysis: {hits: {feature: spots, above: x}}", "analysis.hits.above is 'x', but it must be a number"),
        ("analysis: {hits: 7}", "analysis.hits is 7, but it must be a criterion like {feature: cells, above: 3}"),
        ("analysis: {hits: {feature: spots, fdr: 0}}", "analysis.hits.fdr is 0, but it must be above 0"),
        ("analysis: {web: example.org}", "'example.org', but it must be an address like https://"),
        ("qc: {stop_below: {zprime: 0}}", "unknown key 'zprime' in qc.stop_below: did you mean 'z_prime'?"),
        (
            "analysis: {hits: {feature: spots, by: z_score, above: 3}}",
            "analysis.hits uses z_score, which is not in",
        ),
        ("analysis: {hits: {feature: spots}}", "hits by spots need a threshold"),
        ("analysis: {hits: {feature: g, above: 3}, features: [spots]}", "g is not in analysis.features"),
        ("analysis: {hits: {feature: g, above: 3}}", "hits are chosen by g, but the tables have no such column"),
        ("analysis: {features: [g]}", "the tables have no column g: they have spots, cells"),
        ("analysis: {controls: {negative: DMSO}}", "names compounds, but neither the tables nor a plate map"),
        ("analysis: {dose_response: {feature: spots}}", "dose response needs the column"),
        ("qc: {exclude: 'spots >'}", "qc.exclude 'spots >' is not a valid condition"),
        ("qc: {exclude: 'dirt > 3'}", "the tables have no column dirt"),
        ("plate_map: nowhere.csv", "the plate map nowhere.csv can't be read"),
        ("steps: []", "the configuration has an unknown key 'steps': known are analysis, plate_map, qc"),
        ("analysis: {hits: {feature: spots, above: .nan}}", "analysis.hits.above is nan, but it must be a number"),
        ("qc: {stop_below: {z_prime: .inf}}", "qc.stop_below.z_prime is inf, but it must be a number"),
        ("analysis: {hits: {feature: spots, above: 1, below: 5}}", "every value is above 1 or below 5"),
        ("analysis: {normalise: [{z_score: [b_score]}]}", "analysis.normalise can't have the name z_score"),
        ("analysis: {controls: {positive: a, negative: a}}", "names a as positive and as negative control: keep one"),
        ("- 1", "has no keys"),
        ("a: [", "is not a YAML file"),
    ],
)
def test_a_wrong_configuration_gets_one_sentence(screen, tmp_path, config, message):
    (tmp_path / "c.yaml").write_text(config)
    result = analyse(screen[0] / "plate_1.csv", "--config", tmp_path / "c.yaml", "--out", tmp_path / "out")
    assert result.exit_code == 1 and message in result.stderr
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1


def test_a_control_without_wells_is_refused(screen, tmp_path):
    (tmp_path / "c.yaml").write_text(
        f"plate_map: {screen[0]}/map.csv\nanalysis: {{controls: {{negative: [DMSO], positive: taxol}}}}"
    )
    result = analyse(screen[0] / "plate_1.csv", "--config", tmp_path / "c.yaml", "--out", tmp_path / "out")
    assert "analysis.controls names taxol as positive control, but no well has that compound" in result.stderr


@pytest.mark.parametrize(
    "text, message",
    [
        ("plate,x\n1,2\n", "has no column `well`"),
        ("well,x\n", "has no wells"),
        ("", "can't be read as a table"),
        ("well,x\nA01,1\nA1,2\n", "well A01 of plate p is there twice"),
        ("well,x\n9,1\n", "'9' is not a well"),
    ],
)
def test_a_bad_table_gets_one_sentence(tmp_path, text, message):
    (tmp_path / "p.csv").write_text(text)
    (tmp_path / "c.yaml").write_text("analysis: {}")
    result = analyse(tmp_path / "p.csv", "--config", tmp_path / "c.yaml")
    assert (
        result.exit_code == 1 and message in result.stderr and str(tmp_path / "p.csv") in result.stderr
    ) or "twice" in result.stderr


@pytest.mark.parametrize(
    "text, encoding",
    [
        ("well;x\nA01;1,5\nA02;2\n", "utf-8"),
        ("well;x\nA01;1.5\nA02;2\n", "utf-8-sig"),
        ("well\tx\tµ\nA01\t1.5\tk\nA02\t2\tl\n", "utf-16"),
        ("well,x,µ\nA01,1.5,k\nA02,2,l\nA03,NA,m\n", "cp1252"),
    ],
)
def test_tables_of_other_programs_are_read(tmp_path, text, encoding):
    (tmp_path / "p.csv").write_text(text, encoding=encoding)
    table = read_tables([tmp_path / "p.csv"])
    assert table["x"].dropna().tolist() == [1.5, 2] and set(table["plate"]) == {"p"}
    assert "µ" not in text or list(table.columns) == ["plate", "well", "x", "µ"]


def test_a_text_among_numbers_is_named(tmp_path):
    (tmp_path / "p.csv").write_text("well,x,y\nA01,1,1\nA02,few,2\nA03,3,3\n")
    (tmp_path / "c.yaml").write_text("analysis: {}")
    said = "'few' of well A02 of plate p is not a number"
    result = analyse(tmp_path / "p.csv", "--config", tmp_path / "c.yaml")
    assert result.exit_code == 0 and f"the column x is not analyzed: {said}" in result.output
    (tmp_path / "c.yaml").write_text("analysis: {features: [x]}")
    result = analyse(tmp_path / "p.csv", "--config", tmp_path / "c.yaml")
    assert result.exit_code == 1 and f"the column x can't be analyzed: {said}" in result.stderr


def test_what_the_tables_say_otherwise_than_expected_is_understood_or_refused(tmp_path):
    """Spelling of controls, columns twice, texts in one table and numbers in another, infinite values, own columns."""
    head, hits = "well,x,y,control,note\n", "analysis: {{features: [x, y], hits: {{feature: {}, above: 1}}}}"
    (tmp_path / "a.csv").write_text(head + "A01,1,1,NEGATIVE,q\nA02,3,2,none,r\nA03,inf,3,,s\nA04,2,4,negative,t\n")
    (tmp_path / "b.csv").write_text(head + "A01,1,NA,,7\nA02,3,NA,,8\n")
    tables, config, out = [tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "c.yaml", tmp_path / "out"
    config.write_text(hits.format("x"))
    result = analyse(*tables, "--config", config, "--out", out)
    assert result.exit_code == 0 and "infinite values of x count as missing: 1 wells" in result.output, result.output
    assert read(out, "quality.csv").set_index(["plate", "feature"])["n_negative"].tolist() == [2, 2, 0, 0]
    assert read(out, "normalised.csv")["note"].tolist() == ["q", "r", "s", "t", "7", "8"]
    assert set(zip(read(out, "hits.csv")["plate"], read(out, "hits.csv")["well"])) == {("a", "A02"), ("b", "A02")}
    for text, feature, message in (
        ("well,x,y,control\nA01,1,2,neg\n", "x", "control of well A01 of plate a is 'neg': expected one of positive, "),
        ("well,x,x\nA01,1,2\n", "x", "a.csv has the column 'x' more than once"),
        ("well,x,y,rank\nA01,1,2,3\n", "rank", "hits.csv has a column rank of its own: rename"),
        ("well,note\nA01,q\n", "x", "the tables have no column of numbers to analyze"),
    ):
        tables[0].write_text(text)
        config.write_text(hits.format(feature).replace("features: [x, y], ", ""))
        result = analyse(tables[0], "--config", config, "--out", out)
        assert result.exit_code == 1 and message in result.stderr and result.stderr.count("\n") == 1, result.output


def test_pipes_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "c.yaml").write_text("analysis: {}")
    (tmp_path / "t.csv").write_text("well,x\nA01,1\n")
    for table, config in (("pipe.csv", "c.yaml"), ("t.csv", "pipe.csv")):
        result = analyse(tmp_path / table, "--config", tmp_path / config)
        assert result.exit_code == 1 and result.stderr.endswith("pipe.csv can't be read: it is no regular file\n")


def test_tables_of_the_workflow_are_analyzed_by_well_means(tmp_path):
    (tmp_path / "wells.csv").write_text("plate,well,sites,x,x_sd,x_n\n7,A01,2,1,0.5,2\n7,A02,2,3,0.5,2\n")
    (tmp_path / "columns.csv").write_text(
        "table,column,unit,statistic,description\nfeatures.csv,x,,,\nwells.csv,x,,mean over sites,\n"
        "wells.csv,x_sd,,standard deviation between sites,\nwells.csv,x_n,,number of sites with a value,\n"
    )
    (tmp_path / "c.yaml").write_text("analysis: {}")
    result = analyse(tmp_path / "wells.csv", "--config", tmp_path / "c.yaml")
    assert result.exit_code == 0, result.output
    assert read(tmp_path, "quality.csv")["feature"].tolist() == ["x"]


def test_a_plate_whose_sites_are_all_excluded_has_no_numbers_and_the_others_have_theirs(tmp_path):
    rows = "".join(f"7,{well},1,{{}}\n" for well in ("A01", "A02", "A03"))
    head = "plate,well,sites,sites_excluded,x\n"
    (tmp_path / "a.csv").write_text(head + rows.format(*["1,"] * 3))
    (tmp_path / "b.csv").write_text((head + rows.format("0,1", "0,2", "0,3")).replace("7,", "8,"))
    (tmp_path / "c.yaml").write_text("analysis: {features: [x], normalise: [z_score], hits: {feature: x, above: 2}}")
    for tables in (["a.csv"], ["a.csv", "b.csv"]):
        result = analyse(*(tmp_path / name for name in tables), "--config", tmp_path / "c.yaml")
        assert result.exit_code == 0, result.output
        assert f"3 of {3 * len(tables)} sites are excluded, all sites of 3 wells" in result.output
        quality = read(tmp_path, "quality.csv").set_index("plate")
        assert quality.loc["7", "reason"] == "all wells are excluded" and quality.loc["7", "n_excluded"] == 3
    assert read(tmp_path, "hits.csv")["plate"].tolist() == ["8"]


def test_one_of_several_timepoints_is_selected(tmp_path):
    (tmp_path / "p.csv").write_text("plate,well,t,time_s,x\n7,A01,0,0,1\n7,A01,1,60,5\n7,A02,0,0,2\n7,A02,1,60,6\n")
    (tmp_path / "c.yaml").write_text("analysis: {}")
    result = analyse(tmp_path / "p.csv", "--config", tmp_path / "c.yaml")
    assert "the tables have 2 timepoints: name the one to analyze in analysis.timepoint" in result.stderr
    (tmp_path / "c.yaml").write_text("analysis: {timepoint: 1}")
    assert analyse(tmp_path / "p.csv", "--config", tmp_path / "c.yaml").exit_code == 0
    assert read(tmp_path, "normalised.csv")["x"].tolist() == [5, 6]
    (tmp_path / "c.yaml").write_text("analysis: {timepoint: 2}")
    result = analyse(tmp_path / "p.csv", "--config", tmp_path / "c.yaml")
    assert "the tables have no timepoint 2: they have 0 to 1" in result.stderr


def test_one_of_several_acquisitions_is_selected(tmp_path):
    """They are never analyzed together. Plates with one acquisition need no choice."""
    (tmp_path / "p.csv").write_text(
        "plate,well,acquisition,x\n7,A01,1,1\n7,A01,2,5\n7,A02,1,2\n7,A02,2,6\n8,A01,other,3\n8,A02,other,4\n"
    )
    (tmp_path / "c.yaml").write_text("analysis: {}")
    result = analyse(tmp_path / "p.csv", "--config", tmp_path / "c.yaml")
    assert "plate 7 has the acquisitions 1, 2: name the one to analyze in analysis.acquisition" in result.stderr
    (tmp_path / "c.yaml").write_text("analysis: {acquisition: '2'}")
    result = analyse(tmp_path / "p.csv", "--config", tmp_path / "c.yaml")
    assert result.exit_code == 0, result.output
    assert read(tmp_path, "normalised.csv")["x"].tolist() == [5, 6, 3, 4]
    (tmp_path / "c.yaml").write_text("analysis: {acquisition: third}")
    result = analyse(tmp_path / "p.csv", "--config", tmp_path / "c.yaml")
    assert "plate 7 has the acquisitions 1, 2: it has no 'third' as asked by analysis.acquisition" in result.stderr


# -- conditions and tables ---------------------------------------------------------------------------------------------

TABLE = pd.DataFrame({"a": [1.0, 2.0, np.nan], "b": ["x", "y", None]})


@pytest.mark.parametrize(
    "condition, rows",
    [
        ("a > 1", [False, True, False]),
        ("a < 9", [True, True, False]),
        ("not a < 9", [False, False, True]),
        ("a > 1 or b == 'x'", [True, True, False]),
        ("a >= 1 and b != 'x'", [False, True, False]),
        ("0 < a <= 1", [True, False, False]),
        ("a > -1", [True, True, False]),
        ("1 > 2", [False] * 3),
    ],
)
def test_conditions_are_evaluated_and_missing_values_fulfill_none(condition, rows):
    assert excluded_rows(TABLE, condition).tolist() == rows


@pytest.mark.parametrize(
    "condition", ["a", "a + 1 > 2", "__import__('os')", "a > 'x'", "b < 3", "a.b > 1", "a in b", ""]
)
def test_invalid_conditions_are_refused(condition):
    with pytest.raises(ConfigError, match=r"qc\.exclude .* is not a valid condition"):
        excluded_rows(TABLE, condition)


def test_the_configuration_of_the_issue_is_read():
    settings = read_settings(
        {
            "plate_map": "maps/",
            "analysis": {
                "features": ["spots_c0", "cells_c1"],
                "normalise": ["percent_of_control", "robust_z_score"],
                "hits": {"feature": "spots_c0", "by": "robust_z_score", "above": 3},
                "dose_response": {"feature": "spots_c0", "dose": "concentration"},
            },
            "qc": {"exclude": "saturated > 0.01", "stop_below": {"z_prime": 0.3}},
        }
    )
    assert [response.column for response in settings.responses] == ["spots_c0_robust_z_score", "spots_c0"]
    assert settings.stop_below == {"z_prime": 0.3}


@given(
    st.lists(
        st.tuples(st.floats(allow_infinity=False), st.text(st.characters(exclude_categories=["Cs"]), max_size=5)),
        min_size=1,
        max_size=8,
    )
)
def test_written_tables_are_read_back(tmp_path_factory, rows):
    file = tmp_path_factory.mktemp("tables") / "p.csv"
    texts = [text if text not in ("nan", "NaN") and "\0" not in text and text.isprintable() else "" for _, text in rows]
    table = pd.DataFrame(
        {
            "plate": "7",
            "well": [well_name(0, n) for n in range(len(rows))],
            "compound": texts,
            "x": [value for value, _ in rows],
        }
    )
    write_table(table, file)
    again = read_tables([file])
    assert again["compound"].fillna("").tolist() == texts
    assert again["x"].to_numpy(dtype=float) == pytest.approx(table["x"].to_numpy(), rel=1e-9, nan_ok=True)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_rounding_keeps_10_significant_digits(value):
    assert (
        round_digits(np.array([value]))[0] == pytest.approx(float(f"{value:.10g}"), rel=1e-15, abs=0)
        or abs(value) > 1.797693e308
    )


def test_one_timepoint_is_analyzed(tmp_path):
    """Tables with several timepoints have several rows per well; a plate with one timepoint has no column for it."""
    series, single = tmp_path / "plate_1.csv", tmp_path / "plate_2.csv"
    series.write_text("plate,well,t,n\n1,A01,0,3\n1,A01,1,4\n1,A02,0,5\n1,A02,1,6\n")
    single.write_text("plate,well,n\n2,A01,7\n")
    assert read_tables([series], 1)["n"].tolist() == [4, 6]
    assert read_tables([series, single], 0)["n"].tolist() == [3, 5, 7]
    for files, timepoint, message in (
        ([series], None, "the tables have 2 timepoints: name the one to analyze in analysis.timepoint"),
        ([series], 2, "the tables have no timepoint 2: they have 0 to 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_tables(files, timepoint)
