"""What is checked about the params of steps, the columns that they return, and the rows about one object."""

from typing import Annotated, Literal

import numpy as np
import pytest
from annotated_types import Gt, Le, Unit

from openhcs_omero.core.config import Step
from openhcs_omero.core.estimates import uses_estimate
from openhcs_omero.core.features import Features
from openhcs_omero.core.steps.checks import check_params
from openhcs_omero.core.steps.columns import known_columns
from openhcs_omero.core.steps.object_rows import one_row_per_object
from openhcs_omero.core.steps.running import StepFailed, run_steps
from openhcs_omero.errors import StepError
from openhcs_omero.processing.cells import segment_cells
from openhcs_omero.processing.objects import measure_objects


def limited(
    image,
    filemanager,
    metadata,
    backend="disk",
    radius: Annotated[float, Gt(0), Unit("px")] = 5.0,
    level: Literal["site"] | Annotated[float, Le(9)] = "site",
    distance: Annotated[float | None, Gt(0)] = None,
):
    """Do nothing."""
    return image, {}


def step(function, name=None, channels=None, **params):
    return Step(1, f"{function.__module__}:{function.__name__}", name, channels, params)


@pytest.mark.parametrize(
    ("params", "wrong"),
    [
        ({"radius": 0}, "radius: 0 in its params, but it should be greater than 0"),
        ({"distance": -1.5}, "but it should be greater than 0"),
        ({"level": 10}, "but it should be less than or equal to 9"),
        ({"level": "well"}, "but its function expects 'site' | float"),
        ({"radius": "wide"}, "but its function expects float"),
        ({"distance": "far"}, "but its function expects float | None"),
    ],
)
def test_params_beyond_their_limits(params, wrong):
    with pytest.raises(StepError) as error:
        check_params(step(limited, **params), limited)
    assert wrong in str(error.value)


@pytest.mark.parametrize("params", [{}, {"radius": 2}, {"level": "site"}, {"level": 9}, {"distance": None}])
def test_params_within_their_limits(params):
    check_params(step(limited, **params), limited)


def test_columns_that_depend_on_params():
    columns = known_columns(step(measure_objects, labels=["cells"], channels=(1,)), measure_objects, 3)
    assert "cells_count" in columns and "cells_mean_intensity_c1" in columns
    assert not [column for column in columns if "nuclei" in column or "_c0" in column]
    declared = Features.of([(step(measure_objects, name="x", labels=["cells"]), measure_objects)])
    assert declared["x_cells_area"].unit == "px" and declared["x_cells_mean_intensity_c2"].count == "x_cells_count"


def test_a_declaration_that_fails():
    def broken(image, filemanager, metadata, backend="disk"):
        return image, {}

    broken.features = lambda wrong: {}
    with pytest.raises(StepError, match="can't say which features it returns: TypeError"):
        Features.of([(step(broken), broken)])


def test_estimates_are_made_only_for_the_params_that_use_them():
    assert uses_estimate(step(segment_cells, threshold="plate"), segment_cells)
    assert not uses_estimate(step(segment_cells), segment_cells)
    assert not uses_estimate(step(segment_cells, threshold=120.0), segment_cells)


LABELS = {"nuclei": np.zeros((2, 1, 1, 4, 4), int), "rings": np.zeros((2, 3, 1, 4, 4), int)}


def row(step, label, labels="nuclei", **values):
    return {"step": step, "labels": labels, "label": label, **values}


def test_what_steps_find_out_about_an_object_stands_in_one_row():
    rows = [
        row("find", 1, t=0, channel=1, area=4.0),
        row("find", 2, t=0, channel=1, area=5.0),
        row("find", 1, t=1, channel=1, area=6.0),
        row("measure", 2, t=0, area=5.0, mean=7.0),
        row("measure", 1, t=0, area=4.5, mean=float("nan")),
        row("again", 1, t=0, mean=float("nan")),
    ]
    assert one_row_per_object(rows, LABELS)[1:] == [
        row("find", 2, t=0, channel=1, area=5.0, mean=7.0),
        row("find", 1, t=1, channel=1, area=6.0),
    ]
    first = one_row_per_object(rows, LABELS)[0]
    assert first["area"] == 4.0 and first["measure_area"] == 4.5 and "again_mean" not in first


def test_rows_that_are_not_about_the_same_object_stay():
    rows = [
        row("find", 1, "rings", channel=0),
        row("measure", 1, "rings", channel=1),
        row("find", 1, "unknown"),
        row("measure", 1, "unknown"),
        {"step": "find", "label": 1},
        {"step": "measure", "label": 1},
        row("find", 3),
        row("find", 3),
    ]
    assert one_row_per_object(rows, LABELS) == rows


def test_a_named_step_measures_the_labels_of_an_earlier_one():
    def find(image, filemanager, metadata, backend="disk"):
        labels = np.zeros((1, 1, 1, 8, 8), int)
        labels[..., 2:5, 2:6] = 3
        return image, {"labels": {"nuclei": labels}, "objects": [{"label": 3}]}

    steps = [(step(find, "a"), find), (step(measure_objects, "b", labels=["a_nuclei"]), measure_objects)]
    done = run_steps(steps, np.ones((1, 1, 1, 8, 8)), None, {"channels": ["GFP"]}, {}, "disk")
    [found] = done.objects
    assert found["labels"] == "a_nuclei" and found["area"] == 12 and found["mean_intensity_GFP"] == 1
    assert done.results["b_a_nuclei_count"] == 1


def test_numbers_of_objects_that_a_program_wrote_as_fractions():
    def find(image, filemanager, metadata, backend="disk"):
        return image, {"labels": {"nuclei": np.ones((1, 1, 1, 8, 8), int)}, "objects": [{"label": 1.0}, {"label": nan}]}

    nan = float("nan")
    first, second = run_steps([(step(find), find)], np.ones((1, 1, 1, 8, 8)), None, {}, {}, "disk").objects
    assert repr(first["label"]) == "1" and second["label"] != second["label"]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"x": 1 + 2j}, "'x' of type complex; results are numbers or text"),
        ({"x": b"1"}, "'x' of type bytes"),
        ({"x": 10**30}, "'x' of 1000000"),
        ({"x": "a\0b"}, "not a text that can be written"),
        ({"x": "\ud800"}, "not a text that can be written"),
        ({"objects": [{"label": 1, "v": [1, 2]}]}, "objects with 'v' of type list"),
        ({"objects": [{"label": 1, "v": np.zeros(3)}]}, "objects with 'v' of type ndarray"),
        ({"objects": [{"label": "1"}]}, "objects with the label '1'; labels are whole numbers"),
        ({"objects": [{"label": 1.5}]}, "objects with the label 1.5"),
        ({"objects": [{"label": float("inf")}]}, "objects with the label inf"),
        ({"labels": {"nuclei": np.ma.masked_array(np.ones((1, 1, 1, 8, 8), int), True)}}, "of type masked array"),
    ],
)
def test_results_that_no_table_can_hold(changed, says):
    def find(image, filemanager, metadata, backend="disk"):
        return image, {"labels": {"nuclei": np.ones((1, 1, 1, 8, 8), int)}, **changed}

    with pytest.raises(StepFailed) as error:
        run_steps([(step(find), find)], np.ones((1, 1, 1, 8, 8)), None, {}, {}, "disk")
    assert says in str(error.value)


def test_masked_images_are_refused():
    def mask(image, filemanager, metadata, backend="disk"):
        return np.ma.masked_less(image, 5), {}

    with pytest.raises(StepFailed, match="returned a masked array"):
        run_steps([(step(mask), mask)], np.ones((1, 1, 1, 8, 8)), None, {}, {}, "disk")
