"""Profiles as AnnData, which needs pandas 2: an analysis in an environment of its own, with packages from the index."""

import re
import subprocess
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    *("numpy", "scipy", "pandas", "pyarrow", "pandera", "openpyxl", "statsmodels", "altair", "vl-convert-python"),
    *("jsonschema", "pyyaml", "typer", "tifffile", "imagecodecs", "zarr", "ome-zarr-models", "pycytominer", "anndata"),
}
PROGRAM = """
import sys
from pathlib import Path
import anndata, numpy, pandas
from openhcs_omero.analysis.from_files import analyze_files

assert pandas.__version__.startswith("2.")
folder = Path(sys.argv[1])
values = numpy.random.default_rng(0).normal(size=(24, 2))
wells = pandas.DataFrame(values, columns=["a", "b"])
wells.insert(0, "plate", "7")
wells.insert(1, "well", [f"{letter}{column:02}" for letter in "AB" for column in range(1, 13)])
wells.insert(2, "compound", ["=1"] + ["C1"] * 22 + [None])
wells.to_csv(folder / "wells.csv", index=False)
(folder / "analysis.yaml").write_text("analysis: {normalise: [z_score], profiles: z_score, anndata: true}")
print(analyze_files([folder / "wells.csv"], folder / "analysis.yaml")[-1])
made, expected = anndata.read_h5ad(folder / "profiles.h5ad"), pandas.read_parquet(folder / "profiles.parquet")
assert list(made.var_names) == ["a", "b"] and list(made.obs_names[:2]) == ["7/A01", "7/A02"]
assert list(made.obs["compound"][[0, 1, 23]]) == ["=1", "C1", ""]
numpy.testing.assert_allclose(made.X, expected[["a", "b"]], rtol=1e-6)
"""


@pytest.mark.slow
def test_profiles_as_anndata(tmp_path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ranges = [*project["dependencies"], *project["optional-dependencies"]["profiles"]]
    ranges += project["optional-dependencies"]["anndata"]
    wanted = [text for text in ranges if re.match(r"[\w-]+", text)[0].lower() in PACKAGES]
    assert len(wanted) == len(PACKAGES)
    venv.create(tmp_path / "venv", with_pip=True, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
    done = subprocess.run(
        [python, "-c", PROGRAM, tmp_path], env={"PYTHONPATH": str(ROOT)}, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert "profiles.parquet, profiles.h5ad, report.html" in done.stdout
