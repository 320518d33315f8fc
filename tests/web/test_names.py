"""Names of plates, compounds, features and so on are shown as they are: no page runs what is written in them.

The browser's environment has no pandas and no Snakemake: the Python of `make setup` writes the pages.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.web

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(os.environ.get("OPENHCS_OMERO_PYTHON", ROOT / ".venv" / "bin" / "python"))
CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
IMAGE = '<img src=x onerror="window.hacked=1">'
SCRIPT = "</script><script>window.hacked=1</script>"
ATTACKS = [
    IMAGE,
    SCRIPT,
    "/*PAGE*/;window.hacked=1;//",
    "/*DATA*/</script>" + IMAGE,
    "-1+1 & <b>",
    "'`\"",
    "javascript:window.hacked=1",
    "${window.hacked=1}{{window.hacked=1}}",
    "\\u003cimg src=x onerror=window.hacked=1>",
    "$\\frac{$",
]
FEATURES = [*ATTACKS, "a]['b\"c.d"]

WRITE = """
import json, random, sys
import pandas as pd
from pathlib import Path
from openhcs_omero.analysis.report import write_report
from openhcs_omero.analysis.screen import analyze
from openhcs_omero.analysis.settings import read_settings
folder = Path(sys.argv[1])
names, features = json.loads(sys.argv[2])
rng = random.Random(3)
rows = []
for number, name in enumerate(names):
    for row, letter in enumerate("ABCDEFGH"):
        for column in range(1, 13):
            control = {1: "negative", 12: "positive"}.get(column)
            compound, dose, level = names[row] + " " * column, 10.0, 200.0 if control == "positive" else 50.0
            if column == 6:
                compound, dose = names[number], 10.0 ** (row - 4)
                level += 100 * dose / (dose + 1)
            if column == 3:
                compound, level = names[row], 150.0
            rows.append({"plate": name, "well": f"{letter}{column:02}", "control": control,
                         "compound": compound, "concentration (uM)": dose,
                         **{feature: level + rng.gauss(0, 5) for feature in features}})
settings = read_settings({"analysis": {
    "features": features, "normalise": ["percent_of_control", "robust_z_score"],
    "hits": {"feature": features[0], "by": "robust_z_score", "above": 4},
    "dose_response": {"feature": features[0], "by": "percent_of_control"}}})
write_report(analyze(pd.DataFrame(rows), settings), settings, folder / "report.html")
"""

STEPS = '''
import json
from pathlib import Path


def name_everything(image, filemanager, metadata, backend="disk", note=""):
    """Return a result for each name; fail in one well with a name as the reason."""
    names = json.loads(Path("names.json").read_text())
    if metadata["well"] == "B01":
        raise ValueError(names[0])
    return image, {name: 1.5 for name in names if "/" not in name}
'''
PLATE = """
import sys
sys.path.insert(0, "tests")
from pathlib import Path
from plate_folders import images_of, write_openhcs
import json
folder = write_openhcs(Path(sys.argv[1]), images_of(["A01", "B01"], sites=1, shape=(1, 2, 1, 6, 5)), "disk")
document = json.loads((folder / "openhcs_metadata.json").read_text())
for entry in document["subdirectories"].values():
    entry["channels"] = {str(n + 1): name for n, name in enumerate(json.loads(sys.argv[2])[:2])}
(folder / "openhcs_metadata.json").write_text(json.dumps(document))
"""


def python(*arguments, status=0, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([PYTHON, *arguments], env=environment, capture_output=True, text=True, **options)
    assert done.returncode == status, done.stdout + done.stderr
    return done


@pytest.fixture
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Open a page without a network. At the end, nothing in it ran, and it asked for nothing."""
    errors, asked, pages = [], [], []

    def opened(path):
        page = browser.new_context(viewport={"width": 1340, "height": 900}, offline=True).new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: errors.append(dialog.message))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        pages.append(page)
        return page

    yield opened
    assert errors == []
    assert [url for url in asked if not url.startswith((pages[0].url, "data:", "blob:"))] == []
    for page in pages:
        assert page.evaluate("window.hacked") is None
        assert page.locator("[onerror]").count() == 0


def test_the_report_of_a_screen(tmp_path, open_page):
    python("-c", WRITE, tmp_path, json.dumps([ATTACKS, FEATURES]), cwd=ROOT)
    page = open_page(tmp_path / "report.html")
    page.wait_for_function(
        "window.report && ['heat', 'controls', 'trend', 'spread', 'replicates', 'curves']"
        ".every(name => window.report.views[name])"
    )
    assert page.locator("#feature option").all_text_contents() == FEATURES
    for feature in FEATURES:
        page.select_option("#feature", feature)
        page.wait_for_function(
            "window.report.views.heat.data('data').length === 960 && window.report.views.heat.data('data')"
            ".every(row => Number.isFinite(row.value))"
        )
    for view in ("heat", "controls", "trend", "spread", "replicates", "curves"):
        page.hover(f"#{view} canvas", position={"x": 90, "y": 90})
    cells = page.locator("#hits tbody td").all_text_contents()
    assert set(ATTACKS) <= set(cells)


def test_the_report_of_snakemake(tmp_path, open_page):
    """Also a failed well's reason, parameters of a step, and names of channels."""
    (tmp_path / "names.json").write_text(json.dumps(FEATURES))
    (tmp_path / "naming.py").write_text(STEPS)
    python("-c", PLATE, tmp_path / "plate", json.dumps(ATTACKS), cwd=ROOT)
    raw = "\n\n.. raw:: html\n\n   <script>window.hacked=1</script>\n"
    link = "`x <javascript:window.hacked=1>`_"
    steps = [{"call": "naming:name_everything", "name": "n", "params": {"note": raw + link + IMAGE}}]
    config = {"plates": ["plate"], "steps": steps}
    (tmp_path / "config.json").write_text(json.dumps(config))
    snakemake = ["-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--cores", "2", "--configfile", "config.json"]
    python(*snakemake, cwd=tmp_path, status=1)  # a well failed
    python(*snakemake, "--report", "report.html", cwd=tmp_path)
    page = open_page(tmp_path / "report.html")
    page.get_by_role("cell", name="naming:name_everything").wait_for()
    assert page.get_by_text(f"{link}{IMAGE}").count() == 2  # in the summary and in the description of the workflow
    page.evaluate("app.showCategory('Plate plate')")
    page.locator("td", has_text="montage").wait_for()
    assert page.locator("td", has_text=f"n_{FEATURES[-1]}").count() == 1
    paths = page.evaluate("Object.keys(results)")
    assert len([path for path in paths if "/heatmaps/" in path]) == 8
    for path in paths:
        page.evaluate("path => app.showResultInfo(path)", path)
        page.get_by_text(Path(path).name).first.wait_for()
    assert page.locator("a[href^='javascript:window']").count() == 0
