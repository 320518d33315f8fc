"""Channels named in the configuration: their numbers in a plate, and what is refused."""

import pytest

from openhcs_omero.core.channels import in_columns, numbered_steps, uses_names
from openhcs_omero.core.config import Step
from openhcs_omero.core.steps.columns import check_columns, known_columns, with_names
from openhcs_omero.errors import ConfigError, StepError
from openhcs_omero.processing.spots import count_spots

NAMES = ("DAPI", "GFP", None, "Cy5", "Cy5")


def measure(
    image,
    filemanager,
    metadata,
    backend="disk",
    channels: list[int] | None = None,
    channel: int = 0,
    actin_channel=1,
    other_channels: "list[int] | None" = None,
    label_channel: str = "",
    stain: int = 0,
):
    return image, {}


def one(step, function=measure, names=NAMES):
    [(found, _)] = numbered_steps([(step, function)], "7", names)
    return found


def test_names_become_numbers():
    assert one(Step(1, "m:f", channels=("GFP", 0))).channels == (1, 0)
    found = one(Step(1, "m:f", params={"channel": "GFP", "actin_channel": "DAPI", "other_channels": ["GFP", 2]}))
    assert found.params == {"channel": 1, "actin_channel": 0, "other_channels": [1, 2]}
    same = Step(1, "m:f", channels=(3, 1), params={"channel": 3, "label_channel": "GFP", "stain": 1})
    assert one(same) == same and not uses_names([(same, measure)])
    assert uses_names([(Step(1, "m:f", channels=("GFP",)), measure)])
    assert uses_names([(Step(1, "m:f", params={"channel": "GFP"}), measure)])
    assert in_columns(["spots_cGFP"]) and not in_columns(["spots_c0", "area"])


@pytest.mark.parametrize(
    ("channels", "says"),
    [
        (("gfp",), "step 2 (m:f) names channel 'gfp', but plate 7 has no channel of that name"),
        (("Cy5",), "plate 7 has several channels of that name"),
        (("GFP", 1), "one of them twice"),
    ],
)
def test_refusals_list_the_channels(channels, says):
    with pytest.raises(ConfigError) as caught:
        one(Step(2, "m:f", channels=channels))
    assert "0 DAPI, 1 GFP, 2 (no name), 3 Cy5, 4 Cy5" in str(caught.value)
    assert says in str(caught.value)


def test_columns_by_the_names_of_channels():
    columns = ["spots_c0", "spots_c1", "spots_c1_sum", "spots_c2", "spots_c3", "spots_c4", "spots_c9", "count"]
    assert with_names(columns, NAMES) == {
        "spots_cDAPI": "spots_c0",
        "spots_cGFP": "spots_c1",
        "spots_cGFP_sum": "spots_c1_sum",
        "spots_c2": "spots_c2",
        "spots_c9": "spots_c9",
        "count": "count",
    }


def literal(image, filemanager, metadata, backend="disk"):
    def inner():
        return image, {"not": "this"}

    if image is None:
        return image, {"area": 1}
    return image, {"area": 2, "length": 3, "objects": []}


def variable(image, filemanager, metadata, backend="disk"):
    results = {"area": 1}
    return image, results


def test_known_columns():
    assert known_columns(Step(1, "m:f", channels=(1,)), count_spots, 3)[:2] == ["spots_c1", "spot_height_c1"]
    assert known_columns(Step(1, "m:f", name="a"), literal, 3) == ["a_area", "a_length"]
    assert known_columns(Step(1, "m:f"), measure, 3) == []
    assert known_columns(Step(1, "m:f"), variable, 3) is None


def test_the_same_column_twice():
    first, second = Step(1, "m:f"), Step(2, "m:f")
    for function, says in (
        (literal, "column 'area'"),
        (variable, "columns of m:f"),
        (count_spots, "column 'spots_c0'"),
    ):
        with pytest.raises(StepError, match=says):
            check_columns([(first, function), (second, function)], 2, None)
        check_columns([(first, function), (Step(2, "m:f", name="b"), function)], 2, None)
    check_columns([(first, measure), (second, measure)], 2, None)


def test_heat_maps_of_columns():
    steps = [(Step(1, "m:f", channels=(1,)), count_spots), (Step(2, "m:g"), literal)]
    check_columns(steps, 3, ["spots_c1", "spots_c1_sum", "area", "spots_cGFP"], NAMES)
    for wrong in ("spots_c0", "spots_cDAPI", "volume"):
        with pytest.raises(ConfigError, match=f"but no '{wrong}'"):
            check_columns(steps, 3, [wrong], NAMES)
    check_columns([*steps, (Step(3, "m:h"), variable)], 3, ["volume"])  # it may come from step 3
