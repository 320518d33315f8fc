"""Estimates for a whole plate, of the planes that the earlier steps return."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from openhcs_omero.core.config import read_config
from openhcs_omero.core.estimate_job import estimate
from openhcs_omero.core.estimates import load_estimates
from openhcs_omero.core.plan import Plan
from openhcs_omero.core.plates import open_plates
from openhcs_omero.errors import StepError


def shift_by_well(image, filemanager, metadata, backend="disk", fail=()):
    """Add 100 per column; save a file; fail in some wells."""
    if metadata["well"] in fail:
        raise ValueError("dark")
    filemanager.save({"a": 1}, f"{metadata['plate']}/{metadata['well']}/{metadata['well']}_s001_x.json", backend)
    return image + 100 * int(metadata["well"][1:]), {}


def scale(image, filemanager, metadata, backend="disk"):
    """Multiply by the plate's estimate."""
    return image * metadata["plate_estimate"][0], {}


def look(image, filemanager, metadata, backend="disk"):
    """Need the largest and smallest value."""
    return image, {}


scale.plate_estimate = lambda planes: np.array(2.0)
look.plate_estimate = lambda planes: np.array([f(p) for p in planes for f in (np.min, np.max)])


@pytest.fixture
def estimated(tmp_path):
    """Estimates for the last of some steps, for channel 0 of three wells of 2 x 2 px with the values 1 to 4."""
    folder = tmp_path / "plate"
    folder.mkdir()
    for well in ("A01", "A02", "A03"):
        for c in (0, 1):
            tifffile.imwrite(folder / f"{well}_s001_z000_c{c:03d}.tif", np.array([[1, 2], [3, 4 + c]], np.uint16))

    def make(*steps, earlier=()):
        calls = [{"call": f"{__name__}:{step}", "params": params} for step, params in steps]
        settings = read_config({"plates": [str(folder)], "steps": calls, "results": str(tmp_path / "results")})
        [plate] = open_plates(settings, ["plate"], None)
        output = tmp_path / f"{len(steps)}_{steps[-1][0]}_c0.npz"
        estimate(settings, plate, len(steps), 0, earlier, output)
        [values] = load_estimates([output])[len(steps)][0].values()
        assert sorted(path.name for path in folder.iterdir() if path.suffix != ".tif") == []
        return output, values.tolist()

    return make


def test_estimates_of_raw_planes(estimated):
    assert estimated(("look", {}))[1] == [1, 4] * 3


def test_estimates_of_what_the_steps_before_return(estimated):
    first, _ = estimated(("scale", {}))
    _, values = estimated(("scale", {}), ("shift_by_well", {}), ("look", {}), earlier=[first])
    assert values == [102, 108, 202, 208, 302, 308]


def test_sites_on_which_a_step_fails_are_left_out_and_said(estimated, capsys):
    _, values = estimated(("shift_by_well", {"fail": ["A02"]}), ("look", {}))
    assert values == [101, 104, 301, 304]
    assert "A02, site 1 is left out of the estimate: step 1" in capsys.readouterr().out
    with pytest.raises(StepError, match=r"step 2 .*gets no estimate: the steps before it fail on all sites"):
        estimated(("shift_by_well", {"fail": ["A01", "A02", "A03"]}), ("look", {}))


def test_sites_that_can_not_be_read_are_left_out_and_said(estimated, tmp_path, capsys):
    for well, left in (("A02", [1, 4, 1, 4]), ("A01", None)):
        (tmp_path / "plate" / f"{well}_s001_z000_c000.tif").write_bytes(b"II*\0")
        for steps in ((("look", {}),), (("shift_by_well", {}), ("look", {}))):
            if left is None:
                with pytest.raises(StepError, match=r"gets no estimate: 2 of 3 sites can't be read: .*A01_s001_z000"):
                    estimated(*steps)
            else:
                assert [value % 100 for value in estimated(*steps)[1]] == left
                assert "A02, site 1 is left out of the estimate: " in capsys.readouterr().out


def test_an_estimate_depends_on_the_steps_before_it_and_no_others():
    """What the rule depends on, and which estimates are made first."""

    def planned(*params):
        calls = ["shift_by_well", "look", "shift_by_well"]
        steps = [{"call": f"{__name__}:{call}", "params": about} for call, about in zip(calls, params)]
        state = SimpleNamespace(groups=["2x2 uint16"], channel_names=(), channels=2)
        return Plan(read_config({"plates": [7], "steps": steps}), {"7": state})

    record = planned({}, {}, {}).estimate_record("7", 2)
    assert record == planned({}, {}, {"fail": ["A01"]}).estimate_record("7", 2)
    assert record != planned({"fail": ["A01"]}, {}, {}).estimate_record("7", 2)
    assert json.loads(record)["distributions"]["numpy"] == np.__version__
    plan = planned({}, {}, {})
    assert plan.estimates("7") == ["2_look_c0", "2_look_c1"] == plan.estimates("7", before=3)
    assert plan.estimates("7", before=2) == []
