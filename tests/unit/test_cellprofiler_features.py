"""Families of CellProfiler's features, by cp_measure, in an environment of their own: cp_measure needs pillow < 12."""

import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import numpy as np
import pytest

from openhcs_omero.core.config import Step
from openhcs_omero.core.features import Features
from openhcs_omero.errors import StepError
from openhcs_omero.processing.objects import measure_objects

ROOT = Path(__file__).parents[2]
PACKAGES = {"numpy", "scipy", "scikit-image", "annotated-types", "cp-measure"}
PROGRAM = """
import warnings
import numpy as np
from openhcs_omero.errors import StepError
from openhcs_omero.processing.objects import measure_objects

warnings.simplefilter("ignore")
families = ["sizeshape", "feret", "zernike", "intensity", "texture", "granularity", "radial_distribution",
            "radial_zernikes"]
y, x = np.mgrid[0:96, 0:96]
labels = np.zeros((1, 1, 1, 96, 96), np.uint16)
labels[0, 0, 0][(y - 25) ** 2 + (x - 25) ** 2 <= 144] = 4
labels[0, 0, 0, 50:90, 60:66] = 9
rng = np.random.default_rng(0)
image = np.full((1, 2, 1, 96, 96), 500, np.uint16)
image[0, 0, 0, 40:] = rng.integers(0, 1000, (56, 96))
image[0, 1, 0] = 100 + 200 * (labels[0, 0, 0] == 4)
told = {"channels": ["GFP", None], "labels": {"nuclei": labels}}
_, results = measure_objects(image, None, told, families=families)
disk, bar = results["objects"]
assert (disk["label"], bar["label"]) == (4, 9) and disk["Area"] == disk["area"] and bar["Area"] == 240
assert disk["FormFactor"] > 0.85 > 0.5 > bar["FormFactor"] and abs(bar["MaxFeretDiameter"] - 39) < 2
assert disk["Intensity_MeanIntensity_c1"] == 300 == disk["mean_intensity_c1"]
assert bar["Intensity_MeanIntensity_c1"] == 100
assert disk["Contrast_3_00_256_c1"] == 0 < bar["Contrast_3_00_256_GFP"]
assert {"Granularity_1_GFP", "RadialDistribution_FracAtD_1of4_c1", "Zernike_2_2"} <= set(disk)
assert results["nuclei_Area"] == (disk["Area"] + 240) / 2 and results["nuclei_Intensity_MeanIntensity_c1"] == 200

declared = measure_objects.features(families=families)
columns = {name.replace("{channel}", str(c)) for name in declared for c in (0, 1)}
assert columns == {name for name in results if not name.endswith("_sd") and name != "objects"}
_, nothing = measure_objects(image, None, {**told, "labels": {"nuclei": 0 * labels}}, families=families)
assert nothing["nuclei_count"] == 0 and nothing["nuclei_FormFactor"] is None and set(nothing) == set(results)
for wrong, labeled in ((image.astype(float), labels), (image.repeat(2, 2), labels.repeat(2, 2))):
    try:
        measure_objects(wrong, None, {"labels": {"nuclei": labeled}}, families=families)
    except StepError as error:
        assert str(error).startswith("families of cp_measure"), error
    else:
        raise AssertionError
print("done")
"""


@pytest.mark.slow
def test_families_of_features(tmp_path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ranges = [*project["dependencies"], *project["optional-dependencies"]["cellprofiler"]]
    wanted = [text for text in ranges if re.match(r"[\w-]+", text)[0].lower() in PACKAGES]
    assert len(wanted) == len(PACKAGES)
    venv.create(tmp_path / "venv", with_pip=True, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
    done = subprocess.run([python, "-c", PROGRAM], env={"PYTHONPATH": str(ROOT)}, text=True, capture_output=True)
    assert done.returncode == 0 and done.stdout == "done\n", done.stderr


def test_without_the_extra_a_run_does_not_begin(monkeypatch):
    monkeypatch.setitem(sys.modules, "cp_measure", None)
    step = Step(1, "openhcs_omero.processing.objects:measure_objects", params={"families": ["texture"]})
    with pytest.raises(StepError, match=r"cp_measure, which is not installed: pip install 'openhcs-omero\[cell"):
        Features.of([(step, measure_objects)])
    image = np.ones((1, 1, 1, 8, 8), np.uint16)
    with pytest.raises(StepError, match="which is not installed"):
        measure_objects(image, None, {"labels": {"nuclei": image}}, families=["texture"])
