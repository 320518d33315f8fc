"""What `openhcs-omero steps` and the page about steps say, compared with the steps themselves."""

import importlib
import inspect
import json
import pkgutil
import re
from pathlib import Path
from typing import Annotated, Literal

import jsonschema
import pytest
from annotated_types import Ge, Le, Unit
from typer.testing import CliRunner

import openhcs_omero.processing
from openhcs_omero.cli import app
from openhcs_omero.core.steps.catalog import describe, describe_steps, find_step
from openhcs_omero.core.steps.loading import LEADING
from openhcs_omero.core.steps.showing import markdown
from openhcs_omero.errors import StepError
from openhcs_omero.processing import STEPS

ROOT = Path(__file__).parents[2]


def shown(*arguments):
    done = CliRunner().invoke(app, ["steps", *arguments], env={"COLUMNS": "160"})
    assert done.exit_code == 0, done.output
    return done.output


def test_every_step_of_the_package_is_listed():
    modules = [module.name for module in pkgutil.iter_modules(openhcs_omero.processing.__path__)]
    found = set()
    for name in modules:
        module = importlib.import_module(f"openhcs_omero.processing.{name}")
        for function in vars(module).values():
            if inspect.isfunction(function) and tuple(inspect.signature(function).parameters)[:4] == LEADING:
                found.add(f"{function.__module__}:{function.__name__}")
    assert found == set(STEPS) and len(STEPS) == len(found)
    assert all(f"`{call}`" in (ROOT / "config" / "README.md").read_text() for call in STEPS)


@pytest.mark.parametrize("step", describe_steps(), ids=lambda step: step.name)
def test_descriptions_are_complete(step):
    assert step.summary.endswith(".") and len(step.returns) > 50
    for param in step.params:
        assert param.description.endswith(".") and param.schema, param.name
    picture = ROOT / "docs" / "images" / "steps" / f"{step.name}.png"
    assert picture.stat().st_size < 40_000
    page = markdown([step])
    assert f"steps/{picture.name}" in page and all(
        f"| `{param.name}` | `{param.default_text}` |" in page for param in step.params
    )
    schema = step.as_json()["params"]
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate({name: about["default"] for name, about in schema["properties"].items()}, schema)


def test_the_list_shows_params_units_and_defaults():
    lines = shown().splitlines()
    [row] = [line for line in lines if line.startswith("segment_cells ")]
    assert re.search(r"diameter +20 +px", row)
    assert any(re.search(r"labels +\[nuclei\]", line) for line in lines)
    assert [step["name"] for step in json.loads(shown("--json"))] == [call.partition(":")[2] for call in STEPS]


def test_one_step():
    text = shown("segment_cells")
    assert "openhcs_omero.processing.cells:segment_cells" in text and "cell_area_c{channel}" in text
    assert re.search(r"diameter +20 +float +px +above 0 +Typical diameter", text)
    about = json.loads(shown("segment_cells", "--json"))
    assert about["params"]["properties"]["diameter"] == {
        "type": "number",
        "exclusiveMinimum": 0,
        "unit": "px",
        "default": 20.0,
        "description": "Typical diameter of a nucleus. Objects with less than a quarter of the corresponding area are "
        "left out.",
    }


def own(
    image,
    filemanager,
    metadata,
    backend="disk",
    *,
    model: str,
    share: Annotated[float, Ge(0), Le(1), Unit("of the area")] = 0.5,
    kind: Literal["a", "b"] = "a",
    flag: bool = False,
    anything=None,
):
    """Look at things.

    In two
    lines.

    Parameters
    ----------
    model : str
        Path of
        the model.
    share, kind
        Both.

    Returns
    -------
    image, results
        What was seen.
    """


def test_a_step_of_ones_own():
    step = describe(f"{__name__}:own")
    assert (step.summary, step.details, step.returns) == ("Look at things.", "In two lines.", "What was seen.")
    found = {param.name: (param.default_text, param.unit, param.limits, param.description) for param in step.params}
    assert found == {
        "model": ("required", "", "", "Path of the model."),
        "share": ("0.5", "of the area", "0 to 1", "Both."),
        "kind": ("a", "", "", "Both."),
        "flag": ("false", "", "", ""),
        "anything": ("null", "", "", ""),
    }
    assert step.as_json()["params"]["required"] == ["model"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("segment", "there is no step 'segment': known are project_z"),
        ("no_such_module:step", "can't be imported: ModuleNotFoundError"),
        ("os:getcwd", "os:getcwd is no step: a step is f(image, filemanager, metadata, backend='disk', **params)"),
    ],
)
def test_steps_that_are_not_there(name, sentence):
    with pytest.raises(StepError) as error:
        find_step(name)
    assert sentence in str(error.value)
