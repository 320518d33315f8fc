"""The combined tables of all wells: how the numbers in wells.csv are computed, and how missing values are treated."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openhcs_omero.core.config import Step
from openhcs_omero.core.features import Feature, Features
from openhcs_omero.core.plate_tables import aggregate, csv_of, read_places, read_rows, write_rows
from openhcs_omero.core.well_file import well_file, write_well_file
from openhcs_omero.errors import StepError
from openhcs_omero.processing.cells import cell_counting_cpu
from openhcs_omero.processing.measurements import by_timepoint, mean_and_sd
from openhcs_omero.processing.spots import count_spots

SPOTS = Features(
    {
        "spots_c{channel}": Feature("count", description="number of spots"),
        "height_c{channel}": Feature("objects", "counts", "height of the spots", "spots_c{channel}"),
    }
)


def aggregated(folder, rows, declared=None, objects=()):
    """The tables of wells whose sites have these features; the keys are well names."""
    places = {"A02": (0, 1), "AB03": (27, 2)}
    wells = folder / "wells.tsv"
    write_rows(
        wells,
        [
            {"well": well, "row": places[well][0], "column": places[well][1], "sites": len(sites)}
            for well, sites in rows.items()
        ],
        delimiter="\t",
    )
    for well, sites in rows.items():
        features = [{"plate": 7, "well": well, "site": 1 + number, **site} for number, site in enumerate(sites)]
        found = [row for row in objects if row["well"] == well]
        write_well_file(well_file(folder, well), "{}", csv_of(features), csv_of(found))
    tables = {name: folder / f"{name}.csv" for name in ("features", "wells", "objects", "columns")}
    aggregate(wells, folder, tables, declared or Features())
    return {name: read_rows(table) for name, table in tables.items()}


def test_aggregate(tmp_path):
    tables = aggregated(
        tmp_path,
        {
            "A02": [{"spots": 3, "note": "x,y"}, {"spots": 4, "note": "", "extra": 0.5}],
            "AB03": [{"spots": 10}],
        },
        objects=[{"plate": 7, "well": "A02", "site": 1, "label": 1}],
    )
    features = tables["features"]
    assert features[0] == {
        "plate": "7",
        "well": "A02",
        "row": "A",
        "column": "2",
        "site": "1",
        "spots": "3",
        "note": "x,y",
        "extra": "",
    }
    assert [row["well"] for row in features] == ["A02", "A02", "AB03"] and features[2]["row"] == "AB"
    assert tables["wells"] == [
        {
            "plate": "7",
            "well": "A02",
            "row": "A",
            "column": "2",
            "sites": "2",
            "spots": "3.5",
            "spots_sd": "0.7071067812",
            "spots_n": "2",
            "note": "x,y",
            "extra": "0.5",
            "extra_sd": "",
            "extra_n": "1",
        },
        {
            "plate": "7",
            "well": "AB03",
            "row": "AB",
            "column": "3",
            "sites": "1",
            "spots": "10",
            "spots_sd": "",
            "spots_n": "1",
            "note": "",
            "extra": "",
            "extra_sd": "",
            "extra_n": "0",
        },
    ]
    assert tables["objects"] == [{"plate": "7", "well": "A02", "row": "A", "column": "2", "site": "1", "label": "1"}]
    assert read_places(tmp_path / "wells.tsv") == {"A02": (0, 1), "AB03": (27, 2)}


def test_no_rows_give_an_empty_file(tmp_path):
    write_rows(tmp_path / "none.csv", [])
    assert (tmp_path / "none.csv").read_bytes() == b"" and read_rows(tmp_path / "none.csv") == []


@pytest.mark.parametrize(
    ("declared", "with_objects", "without", "mean"),
    [
        (
            Features.of([(Step(1, "spots:count_spots"), count_spots)]),
            {"spots_c0": 1, **mean_and_sd("spot_height_c0", [445.04])},
            {"spots_c0": 0, **mean_and_sd("spot_height_c0", [])},
            {"spots_c0": "0.5", "spots_c0_sum": "1", "spot_height_c0": "445.04", "spot_height_c0_n": "1"},
        ),
        (
            Features.of([(Step(1, "cells:cell_counting_cpu", name="dapi"), cell_counting_cpu)]),
            {"dapi_cells_c1": 3, **mean_and_sd("dapi_cell_area_c1", [484, 486, 488])},
            {"dapi_cells_c1": 0, **mean_and_sd("dapi_cell_area_c1", [])},
            {
                "dapi_cells_c1": "1.5",
                "dapi_cell_area_c1": "486",
                "dapi_cell_area_c1_sd": "2",
                "dapi_cell_area_c1_n": "3",
            },
        ),
    ],
    ids=["spots", "cells"],
)
def test_a_mean_over_nothing_is_missing(tmp_path, declared, with_objects, without, mean):
    """A site without objects contributes to the mean of counts, but not to the means of measurements."""
    tables = aggregated(tmp_path, {"A02": [with_objects, without], "AB03": [without]}, declared)
    well, empty = tables["wells"]
    assert {name: well[name] for name in mean} == mean
    measured = [name for name in mean if "height" in name or "area" in name]
    assert {name: empty[name] for name in measured} == {name: "0" if name.endswith("_n") else "" for name in measured}
    assert all(tables["features"][1][name] == "" for name in without if "height" in name or "area" in name)


@given(st.lists(st.lists(st.floats(-1e6, 1e6), max_size=5), min_size=1, max_size=5))
def test_objects_are_averaged_over_the_well(tmp_path_factory, sites):
    """Mean and deviation are over all objects of the well, however they are distributed over sites."""
    rows = [{"spots_c1": len(heights), **mean_and_sd("height_c1", heights)} for heights in sites]
    [well] = aggregated(tmp_path_factory.mktemp("well"), {"A02": rows}, SPOTS)["wells"]
    heights = np.concatenate([np.array(site, float) for site in sites])
    assert well["height_c1_n"] == str(len(heights)) and well["spots_c1_sum"] == str(len(heights))
    for column, expected in (
        ("height_c1", heights.mean() if len(heights) else None),
        ("height_c1_sd", heights.std(ddof=1) if len(heights) > 1 else None),
    ):
        if expected is None:
            assert well[column] == ""
        else:
            assert float(well[column]) == pytest.approx(expected, rel=1e-6, abs=1e-3)


@pytest.mark.parametrize("nothing", [None, math.nan, "", np.float32("nan")])
def test_missing_values_are_omitted(tmp_path, nothing):
    tables = aggregated(tmp_path, {"A02": [{"area": 2, "kind": "a"}, {"area": nothing, "kind": nothing}]})
    assert tables["wells"][0]["area"] == "2" and tables["wells"][0]["area_n"] == "1"
    assert tables["wells"][0]["kind"] == "a" and tables["features"][1]["area"] == ""


def test_a_deviation_that_a_site_lacks_is_not_made_up(tmp_path):
    rows = [
        {"spots_c0": 2, "height_c0": 1.0, "height_c0_sd": None},
        {"spots_c0": 2, "height_c0": 2.0, "height_c0_sd": 1},
    ]
    [well] = aggregated(tmp_path, {"A02": rows}, SPOTS)["wells"]
    assert well["height_c0"] == "1.5" and well["height_c0_sd"] == ""


def test_text_and_booleans_that_all_sites_share(tmp_path):
    tables = aggregated(
        tmp_path,
        {
            "A02": [{"kind": "a", "ok": True, "other": "x"}, {"kind": "a", "ok": True, "other": "y"}],
            "AB03": [{"kind": "b", "ok": True}, {"kind": "", "ok": np.bool_(False)}],
        },
    )
    assert [(row["kind"], row["ok"], row["other"]) for row in tables["wells"]] == [("a", "True", ""), ("b", "", "")]


def test_timepoints_are_separate_rows(tmp_path):
    rows = [{"site": site, "t": t, "time_s": 60.0 * t, "spots_c0": 10 * site + t} for site in (1, 2) for t in range(3)]
    tables = aggregated(tmp_path, {"A02": rows}, SPOTS)
    assert [(row["site"], row["t"], row["time_s"]) for row in tables["features"]] == [
        (str(site), str(t), str(60.0 * t)) for site in (1, 2) for t in range(3)
    ]
    assert [(row["t"], row["time_s"], row["sites"], row["spots_c0"]) for row in tables["wells"]] == [
        ("0", "0", "2", "15"),
        ("1", "60", "2", "16"),
        ("2", "120", "2", "17"),
    ]


def test_wells_without_rows_are_omitted(tmp_path):
    tables = aggregated(tmp_path, {"A02": [], "AB03": [{"n": 1}]})
    assert [row["well"] for row in tables["wells"]] == ["AB03"]
    tables = aggregated(tmp_path, {"A02": [], "AB03": []})
    assert tables == {"features": [], "wells": [], "objects": [], "columns": []}


def test_the_description_of_the_columns(tmp_path):
    site = {"spots_c0": 1, **mean_and_sd("height_c0", [2.5]), "n": 1}
    columns = aggregated(tmp_path, {"A02": [site]}, SPOTS)["columns"]
    about = {(row["table"], row["column"]): (row["statistic"], row["unit"], row["description"]) for row in columns}
    assert about["wells.csv", "height_c0"] == ("mean over objects", "counts", "height of the spots")
    assert about["wells.csv", "spots_c0_sum"] == ("sum over sites", "", "number of spots")
    assert about["features.csv", "height_c0"] == ("", "counts", "height of the spots")
    assert about["wells.csv", "n"] == ("mean over sites", "", "")


@pytest.mark.parametrize(
    ("about", "problem"),
    [
        ({"statistic": "median"}, "the statistic 'median' of 'x': it must be one of mean, count, objects"),
        ({"statistic": "objects"}, "a mean over objects, and no other, needs `count`"),
        ({"count": "n"}, "a mean over objects, and no other, needs `count`"),
        ({"units": "px"}, "expected a dict of text with any of the keys statistic, unit, description, count"),
        ("px", "expected a dict of text"),
    ],
)
def test_refused_declarations(about, problem):
    def step():
        """A stand-in for a step's function."""

    step.features = {"x": about}
    with pytest.raises(StepError) as error:
        Features.of([(Step(2, "module:step"), step)])
    assert problem in str(error.value) and str(error.value).startswith("step 2 (module:step) declares")


def test_a_number_of_objects_that_no_step_returns(tmp_path):
    with pytest.raises(StepError, match="mean over 'spots_c0', which no step returns"):
        aggregated(tmp_path, {"A02": [{"height_c0": 1.0}]}, SPOTS)


def test_results_by_timepoint():
    assert by_timepoint([{"a": 1}]) == {"a": 1}
    assert by_timepoint([{"a": 1}, {"a": None}]) == {"a": [1, None]}


def test_a_plate_map_with_formulas_reaches_the_table_of_objects(tmp_path):
    aggregated(tmp_path, {"A02": [{"n": 1}]}, objects=[{"plate": 7, "well": "A02", "site": 1, "label": 1}])
    tables = {name: tmp_path / f"{name}.csv" for name in ("features", "wells", "objects", "columns")}
    aggregate(tmp_path / "wells.tsv", tmp_path, tables, Features(), {"A02": {"=dose": "+x"}})
    assert [read_rows(tables[name])[0]["=dose"] for name in ("features", "wells", "objects")] == ["+x"] * 3
