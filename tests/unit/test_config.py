"""What the configuration accepts, the messages for everything else, and how steps are found and run."""

import datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import yaml

from openhcs_omero.core.config import Step, read_config
from openhcs_omero.core.config_check import check_config, name_keys, typed
from openhcs_omero.core.steps.loading import load_step
from openhcs_omero.core.steps.running import StepFailed, rows_of, run_steps
from openhcs_omero.core.steps.source import distributions, source_hash, step_record
from openhcs_omero.errors import ConfigError, ConnectError, StepError
from openhcs_omero.plates.labels import RoiOptions

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "workflow" / "schemas" / "config.schema.yaml"
STEP = {"call": "openhcs_omero.processing.spots:count_spots"}
LEAST = {"plates": [1], "steps": [STEP]}


def check(**changes):
    check_config({**LEAST, **changes}, SCHEMA)


def test_the_example_is_valid_and_complete():
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    check_config(config, SCHEMA)
    settings = read_config(config)
    assert settings.plates == {"1": "/omero/plate_1"} and settings.folder("1") == Path("results/plate_1_processed")
    for step in settings.steps:
        load_step(step)


def test_every_key_is_explained():
    schema = yaml.safe_load(SCHEMA.read_text())
    readme = (ROOT / "config" / "README.md").read_text()
    keys = [
        *schema["properties"],
        *schema["properties"]["omero"]["properties"],
        *schema["properties"]["steps"]["items"]["properties"],
    ]
    assert [key for key in keys if f"`{key}`" not in readme] == []


def test_defaults():
    check()
    settings = read_config(LEAST)
    assert (settings.wells, settings.output) == ("all", "processed")
    assert (settings.results, settings.heatmaps) == (Path("results"), None)
    assert settings.steps[0] == Step(1, STEP["call"])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"plats": [1]}, "unknown key 'plats': did you mean 'plates'?"),
        (
            {"zzz": 1},
            "unknown key 'zzz': known are analysis, config_dir, heatmaps, incomplete, job_minutes",
        ),
        ({"omero": {"pasword": "x"}}, "unknown key 'pasword' in omero: known are ca, data_dir, host"),
        ({"omero": {"port": "4064"}}, "omero.port is '4064', but it must be a whole number"),
        ({"omero": {"port": 70000}}, "omero.port is 70000, but it must be at most 65535"),
        ({"plates": 7}, "plates is 7, but it must be a list like"),
        ({"plates": []}, "plates is [], but it must not be empty"),
        ({"plates": [7.5]}, "plates[0] is 7.5, but it must be an id, a path in OMERO or a folder"),
        ({"plates": [""]}, "plates[0] is '', but it must not be empty"),
        ({"materialization_backend": "tape"}, "materialization_backend is 'tape', but it must be disk or zarr"),
        (
            {"steps": [{**STEP, "params": {"sigma": {0: 1.5}}}]},
            "the key 0 in {0: 1.5}, but keys must be text: write '0'",
        ),
        (
            {"steps": [{**STEP, "params": {"day": datetime.date(2026, 1, 1)}}]},
            "numbers, text, lists and dicts: Object of ",
        ),
        ({"plates": [0]}, "plates[0] is 0, but it must be at least 1"),
        ({"plates": [3, 3]}, "plates is [3, 3], but it must not contain duplicates"),
        ({"wells": "A01"}, "wells is 'A01', but it must be all, or a list of wells"),
        ({"output": "a/b"}, "output is 'a/b', but it must consist of letters, digits, - and _"),
        ({"steps": [{}]}, "lacks 'call' in steps[0]"),
        (
            {"steps": [{"call": "spots.count"}]},
            "steps[0].call is 'spots.count', but it must be a function like module:function",
        ),
        ({"steps": [{**STEP, "parms": {}}]}, "unknown key 'parms' in steps[0]: did you mean 'params'?"),
        ({"steps": [{**STEP, "params": None}]}, "steps[0].params is None, but it must be a mapping"),
        ({"steps": None}, "steps is None, but it must be a list"),
    ],
)
def test_wrong_configurations_get_one_sentence(changes, says):
    with pytest.raises(ConfigError) as error:
        check(**changes)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_password_in_the_configuration_is_not_shown():
    with pytest.raises(ConfigError) as error:
        check(omero={"password": "s3cret"})
    assert "s3cret" not in str(error.value)


def test_missing_keys_are_named():
    with pytest.raises(ConfigError, match="lacks 'plates'"):
        check_config({"steps": [STEP]}, SCHEMA)


# steps


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module into the working directory; each has a new name, because imports are cached."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(source, name=f"steps_{tmp_path.name}"):
        (tmp_path / f"{name}.py").write_text(source)
        return name

    return write


GOOD = """
def f(image, filemanager, metadata, backend='disk', channels=None, gain=1):
    return image * gain, {'gain': gain}
"""


def test_a_step_defined_by_the_user(module):
    function = load_step(Step(1, f"{module(GOOD)}:f", params={"gain": 2}, channels=(0,)))
    assert function(np.ones(1), None, {}, gain=3)[1] == {"gain": 3}


@pytest.mark.parametrize(
    ("source", "changes", "says"),
    [
        ("", {}, "has no function 'f'"),
        ("f = 3", {}, "has no function 'f'"),
        ("def f(:\n", {}, "can't be imported: SyntaxError"),
        ("import no_such_thing_at_all", {}, "No module named 'no_such_thing_at_all'"),
        ("1 / 0", {}, "ZeroDivisionError: division by zero ("),
        ("def f(image): pass", {}, "has the signature (image), but a step is f(image, filemanager, metadata"),
        ("def f(image, filemanager, metadata): pass", {}, "has the signature"),
        (GOOD, {"params": {"gian": 1}}, "does not take 'gian'; its parameters are: channels, gain"),
        (GOOD, {"params": {"channels": [0]}}, "write it next to params"),
        (GOOD, {"params": {"metadata": 1}}, "but the workflow passes this itself"),
        (GOOD.replace("gain=1", "*, gain"), {}, "needs the parameter 'gain'"),
        (GOOD.replace("channels=None, ", ""), {"channels": (0,)}, "does not take 'channels'"),
    ],
)
def test_wrong_steps_get_one_sentence(module, source, changes, says):
    with pytest.raises(StepError) as error:
        load_step(Step(2, f"{module(source)}:f", **changes))
    assert says in str(error.value) and str(error.value).startswith("step 2 (") and "\n" not in str(error.value)


def test_a_missing_module():
    with pytest.raises(StepError, match=r"No module named 'nowhere' \(looked for in the installed packages and in /"):
        load_step(Step(1, "nowhere:f"))


def test_the_source_hash_covers_the_module_and_its_neighbors(module, tmp_path):
    module("LEVEL = 1\ndef helper(): pass\n", name="neighbour_of_step")
    name = module(f"import numpy as np\nfrom neighbour_of_step import helper\n{GOOD}")
    function = load_step(Step(1, f"{name}:f"))
    hashes = [source_hash(function), source_hash(function)]
    (tmp_path / "neighbour_of_step.py").write_text("LEVEL = 2\ndef helper(): pass\n")
    hashes.append(source_hash(function))
    (tmp_path / f"{function.__module__}.py").write_text("# changed\n" + GOOD)
    hashes.append(source_hash(function))
    assert hashes[0] == hashes[1] and len(set(hashes)) == 3


@pytest.mark.parametrize(
    ("step", "changed"),
    [
        ("{name}_lab.steps.spots", "{name}_lab/tools.py"),  # elsewhere in the package
        ("{name}_lab.steps.spots", "{name}_constants.py"),  # beside the package
        ("{name}_top", "{name}_plain/level.py"),  # a package without __init__.py
    ],
)
def test_the_source_hash_covers_what_a_step_is_made_of(tmp_path, monkeypatch, step, changed):
    name = f"made_{tmp_path.name}"
    files = {
        "{name}_lab/__init__.py": "",
        "{name}_lab/tools.py": "LEVEL = 1",
        "{name}_lab/steps/__init__.py": "",
        "{name}_lab/steps/spots.py": f"import {{name}}_constants\nfrom ..tools import LEVEL\n{GOOD}",
        "{name}_constants.py": "A = 1",
        "{name}_plain/level.py": "B = 1",
        "{name}_top.py": f"from {{name}}_plain.level import B\n{GOOD}",
    }
    for path, text in files.items():
        file = tmp_path / path.format(name=name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace("{name}", name))
    monkeypatch.syspath_prepend(tmp_path)
    function = load_step(Step(1, f"{step.format(name=name)}:f"))
    before = source_hash(function)
    (tmp_path / changed.format(name=name)).write_text("LEVEL = A = B = 2")
    assert source_hash(function) != before
    assert distributions(function) == {}


def test_a_step_depends_on_the_distributions_it_imports(module, tmp_path_factory, monkeypatch):
    """Only those that its own code imports count, even under other names; the standard library doesn't."""
    installed = tmp_path_factory.mktemp("site")
    info = installed / "cell_segmenter-1.5.dist-info"
    info.mkdir()
    (installed / "segmenter_of_test.py").write_text("import scipy\n")
    (info / "RECORD").write_text("segmenter_of_test.py,sha256=x,20\ncell_segmenter-1.5.dist-info/RECORD,,\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cell-segmenter\nVersion: 1.5\n")
    monkeypatch.syspath_prepend(str(installed))
    imports = "import json\nimport numpy.linalg\nimport segmenter_of_test\ndef g():\n    from skimage import io\n"
    step = Step(1, f"{module(imports + GOOD)}:f", params={"gain": 2})
    function = load_step(step)
    assert distributions(function) == {
        "cell-segmenter": "1.5",
        "numpy": version("numpy"),
        "scikit-image": version("scikit-image"),
    }
    assert step_record(step, function)["distributions"] == distributions(function)


@pytest.mark.parametrize("how", ["from {} import LEVEL", "import {}", "def g():\n    from {} import LEVEL"])
def test_the_source_hash_covers_constants(module, tmp_path, how):
    constants = module("LEVEL = 1", name=f"constants_{tmp_path.name}")
    function = load_step(Step(1, f"{module(how.format(constants) + chr(10) + GOOD)}:f"))
    before = source_hash(function)
    (tmp_path / f"{constants}.py").write_text("LEVEL = 2")
    assert source_hash(function) != before


def run(*functions, names=(), estimates=None, timepoints=1):
    steps = [(Step(i, f"m:{f.__name__}", name=dict(names).get(i)), f) for i, f in enumerate(functions, 1)]
    image = np.ones((timepoints, 1, 1, 2, 2), np.uint16)
    done = run_steps(steps, image, None, {"well": "A01"}, estimates or {}, "zarr")
    return done.image, done.results, done.objects


def double(image, filemanager, metadata, backend="disk"):
    return image * 2, {"sum": int(image.sum()), "objects": [{"x": 1}]}


def told(image, filemanager, metadata, backend="disk"):
    return image, {"backend": backend, "estimate": "plate_estimate" in metadata}


def test_the_image_of_one_step_is_passed_to_the_next():
    image, results, objects = run(double, double, names=[(2, "second")])
    assert (image == 4).all() and results == {"sum": 4, "second_sum": 8}
    assert objects == [{"step": "double", "x": 1}, {"step": "second", "x": 1}]


def test_steps_get_the_backend_and_their_own_estimate():
    _, results, _ = run(told, told, names=[(2, "b")], estimates={2: {0: np.ones((2, 2))}})
    assert results == {"backend": "zarr", "estimate": False, "b_backend": "zarr", "b_estimate": True}


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        (None, "returned NoneType; a step returns"),
        ((np.ones((2, 2)), {}), "returned an image (2, 2)"),
        ((np.ones((1, 1, 1, 2, 2)), [1]), "results of type list"),
        ((np.ones((1, 1, 1, 2, 2)), {"a": [1]}), "returned 'a' of type list"),
        ((np.ones((1, 1, 1, 2, 2)), {"well": 1}), "returned the key 'well'"),
        ((np.ones((1, 1, 1, 2, 2)), {"a/b": 1}), "returned the key 'a/b'"),
        ((np.ones((1, 1, 1, 2, 2)), {3: 1}), "returned the key 3"),
        ((np.ones((1, 1, 1, 2, 2)), {"objects": [1]}), "'objects' that are not a list of dicts"),
        ((np.ones((1, 1, 1, 2, 2)), {"objects": [{"site": 1}]}), "returned the key 'site'"),
    ],
)
def test_a_step_with_an_invalid_result(returned, says):
    def odd(image, filemanager, metadata, backend="disk"):
        return returned

    with pytest.raises(StepError) as error:
        run(odd)
    assert says in str(error.value)


def outline(image, filemanager, metadata, backend="disk"):
    labels = np.array([[0, 1], [1, 7]])[None, None, None]
    return image, {"objects": [{"label": 7}, {"x": 1}], "labels": {"cells": labels}}


def run_all(*functions, names=()):
    steps = [(Step(i, f"m:{f.__name__}", name=dict(names).get(i)), f) for i, f in enumerate(functions, 1)]
    return run_steps(steps, np.ones((1, 1, 1, 2, 2), np.uint16), None, {"well": "A01"}, {}, "zarr")


def test_labels_of_steps():
    """They get the prefix of their step, their objects name them, and later steps see them."""

    def look(image, filemanager, metadata, backend="disk"):
        return image, {"seen": ", ".join(metadata["labels"]), "most": int(metadata["labels"]["cells"].max())}

    done = run_all(outline, outline, look, names=[(2, "b")])
    assert list(done.labels) == ["cells", "b_cells"] and done.labels["cells"].dtype == np.uint16
    assert [row.get("labels") for row in done.objects] == ["cells", None, "b_cells", None]
    assert done.results == {"seen": "cells, b_cells", "most": 7}


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([1], "returned 'labels' of type list; they must be a dict of arrays"),
        ({"a/b": np.ones((1, 1, 1, 2, 2), int)}, "returned labels named 'a/b'"),
        ({"cells": np.ones((1, 1, 1, 2, 2))}, "returned labels 'cells' of type float64"),
        ({"cells": np.ones((2, 2), int)}, "returned labels 'cells' of shape (2, 2)"),
        ({"cells": np.full((1, 1, 1, 2, 2), -5)}, "numbers from -5 to -5"),
    ],
)
def test_invalid_labels(labels, says):
    def odd(image, filemanager, metadata, backend="disk"):
        return image, {"labels": labels}

    with pytest.raises(StepError) as error:
        run(odd)
    assert says in str(error.value)


def test_labels_that_clash_or_no_longer_fit():
    def crop(image, filemanager, metadata, backend="disk"):
        return image[..., :1], {}

    with pytest.raises(StepError, match="returns 'cells', as another step does"):
        run(outline, outline)
    with pytest.raises(StepError, match=r"the labels 'cells' \(1, 1, 1, 2, 2\) of an earlier step do not fit"):
        run(outline, crop)


def test_a_key_that_yaml_takes_for_true():
    config = yaml.safe_load("{plates: [1], rois: {on: both, as: polygons}}") | {"steps": [STEP]}
    name_keys(config)
    check_config(config, SCHEMA)
    assert read_config(config).rois == RoiOptions("both", "polygons")


def test_one_value_per_timepoint():
    def measure(image, filemanager, metadata, backend="disk"):
        return image[:1], {"one": 7, "each": [1, None, "x"], "array": np.arange(3.0)}

    _, results, _ = run(measure, told, timepoints=3)
    assert rows_of({key: results[key] for key in ("one", "each", "array")}, [0.0, 30.0, None]) == [
        {"t": 0, "time_s": 0.0, "one": 7, "each": 1, "array": 0.0},
        {"t": 1, "time_s": 30.0, "one": 7, "each": None, "array": 1.0},
        {"t": 2, "one": 7, "each": "x", "array": 2.0},
    ]
    assert rows_of({"one": 7}, [None]) == [{"one": 7}]
    with pytest.raises(
        StepError, match=r"'each' as a list; a list must have one number or text per timepoint, 2 in this case"
    ):
        run(measure, timepoints=2)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyError("x"), "KeyError: 'x'"),
        (ZeroDivisionError(), "ZeroDivisionError"),
        (ValueError("a\nb"), "ValueError: a"),
        (SystemExit(3), "it called sys.exit(3)"),
        (ConfigError("no such dye"), "no such dye"),
    ],
)
def test_a_step_that_fails(error, reason):
    def broken(image, filemanager, metadata, backend="disk"):
        raise error

    with pytest.raises(StepFailed) as failed:
        run(double, broken)
    assert failed.value.reason == reason and str(failed.value) == f"step 2 (m:broken) failed: {reason}"
    assert failed.value.__cause__ is error


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt(), ConnectError("no server answers")])
def test_errors_that_a_step_did_not_cause(error):
    """Lack of memory, an interrupt or a lost server fails the job, and Snakemake tries it again."""

    def unlucky(image, filemanager, metadata, backend="disk"):
        try:
            raise error
        except ConnectError as lost:
            raise ValueError("the file can't be read") from lost

    with pytest.raises((type(error), ValueError)) as failed:
        run(unlucky)
    assert not isinstance(failed.value, StepFailed)


def test_two_steps_with_the_same_key():
    with pytest.raises(StepError, match="returns 'sum', as another step does: give one of them a `name:`"):
        run(double, double)


def test_values_on_the_command_line_are_read_as_yaml():
    given = {"plates": ["7", 8], "wells": "all", "omero": {"port": "4064", "secure": "false"}, "x": "a: b", "y": "[1"}
    assert typed(given) == {**given, "plates": [7, 8], "omero": {"port": 4064, "secure": False}}
