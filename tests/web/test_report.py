"""The report of a screen, tested in Chromium without a network.

The browser's environment has no pandas: the Python of `make setup` writes the report.
"""

from __future__ import annotations

import csv
import os
import random
import subprocess
from pathlib import Path

import pytest

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.web

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(os.environ.get("OPENHCS_OMERO_PYTHON", ROOT / ".venv" / "bin" / "python"))
CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
PLATES = 14
CONFIG = """
analysis:
  features: [spots, cells]
  normalise: [percent_of_control, robust_z_score]
  hits: {feature: spots, by: robust_z_score, above: 4}
  dose_response: {feature: spots, by: percent_of_control}
qc: {exclude: "cells < 100", stop_below: {z_prime: 0.3}}
"""
WRITE = """
import sys
import imagecodecs
import numpy as np
from pathlib import Path
from openhcs_omero.analysis.from_files import read_config
from openhcs_omero.analysis.report import Links, write_report
from openhcs_omero.analysis.screen import analyze
from openhcs_omero.analysis.settings import read_settings
from openhcs_omero.analysis.well_tables import read_tables
folder = Path(sys.argv[1])
table, settings = read_tables([folder / "wells.csv"]), read_settings(read_config(folder / "analysis.yaml"))
images = {key: 1000 + n for n, key in enumerate(zip(table["plate"], table["well"]))}
write_report(analyze(table, settings), settings, folder / "report.html", Links("http://omero.example.org", images),
             {("P14", "C03"): imagecodecs.png_encode(np.full((8, 8), 200, "uint8"))},
             {"P14": imagecodecs.jpeg_encode(np.full((8, 16), 200, "uint8"))})
"""


def write_screen(folder: Path) -> None:
    """Plates of 96 wells, with one hit each, an excluded well and a dose series; the controls of plate P03 are bad.

    The second batch is brighter.
    """
    rng = random.Random(3)
    rows = []
    for number in range(1, PLATES + 1):
        for row, letter in enumerate("ABCDEFGH"):
            for column in range(1, 13):
                control = {1: "negative", 12: "positive"}.get(column, "")
                compound, dose, level = f"C{row}-{column}", 10.0, 50.0
                if column == 6:
                    compound, dose = "dosed", 10.0 ** (row - 4)
                    level += 100 * dose / (dose + 1)
                if control == "positive" and number != 3:
                    level = 200.0
                if (letter, column) == ("C", 3):
                    level = 150.0
                cells = 10 if (letter, column) == ("D", 4) else 1000 + rng.gauss(0, 20)
                batch, gain = ("one", 1.0) if number <= PLATES / 2 else ("two", 1.4)
                spots = gain * (level + rng.gauss(0, 5))
                rows.append([f"P{number:02}", f"{letter}{column:02}", control, compound, dose, batch, spots, cells])
    with (folder / "wells.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["plate", "well", "control", "compound", "concentration (uM)", "batch", "spots", "cells"], *rows]
        )
    (folder / "analysis.yaml").write_text(CONFIG)


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_screen(folder)
    subprocess.run([PYTHON, "-c", WRITE, folder], check=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    return folder / "report.html"


@pytest.fixture
def page(report):
    """The report in a browser without a network; at the end it has no error, and requested only thumbnails."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = browser.new_context(viewport={"width": 1340, "height": 900}, offline=True)
        page = context.new_page()
        errors, asked = [], []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(report.as_uri())
        page.wait_for_function(
            "window.report && ['heat', 'controls', 'trend', 'spread', 'replicates', 'curves']"
            ".every(name => window.report.views[name])"
        )
        yield page
        browser.close()
        assert errors == []
        assert [
            url
            for url in asked
            if not url.startswith("file:") and "/render_thumbnail/" not in url and not url.startswith("data:")
        ] == []


def rows_of(page, chart: str) -> list[dict]:
    """The rows from which a chart is drawn."""
    return page.evaluate("name => window.report.views[name].data('data').map(row => ({...row}))", chart)


def drawn(page, chart: str, condition: str) -> None:
    """Wait until a chart is drawn from rows that fulfill a JavaScript condition."""
    page.wait_for_function(f"((rows) => {condition})(window.report.views.{chart}.data('data'))")


def keep(page, name: str) -> None:
    if folder := os.environ.get("OPENHCS_OMERO_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def test_plates_stand_side_by_side_and_pages_can_be_turned(page):
    assert page.text_content("#summary").startswith("14 plates, 1344 wells")
    assert page.text_content("#plates-page") == "plates 1 to 12 of 14"
    wells = rows_of(page, "heat")
    assert len(wells) == 12 * 96 and {row["plate"] for row in wells} == {f"P{n:02}" for n in range(1, 13)}
    assert any("stopped" in row["title"] and row["plate"] == "P03" for row in wells)
    assert {row["well"] for row in wells if row["role"] == "excluded"} == {"D04"}
    assert page.evaluate("document.querySelector('#heat canvas').width") > 500
    assert page.text_content("#no-controls") and page.is_hidden("#no-controls") and page.text_content("#lost") == ""
    keep(page, "report")
    page.click("#plates-next")
    drawn(page, "heat", f"rows.length === {2 * 96}")
    assert page.is_disabled("#plates-next") and page.text_content("#plates-page") == "plates 13 to 14 of 14"
    page.click("#plates-back")
    drawn(page, "heat", f"rows.length === {12 * 96}")


def test_features_and_normalized_values_can_be_selected(page):
    raw = rows_of(page, "heat")[0]["value"]
    page.select_option("#kind", "percent_of_control")
    drawn(page, "heat", f"rows[0].value !== {raw}")
    negative = [row["value"] for row in rows_of(page, "controls") if (row["role"], row["plate"]) == ("negative", "P01")]
    assert sum(negative) / len(negative) == pytest.approx(100, abs=0.01)
    page.select_option("#feature", "cells")
    page.select_option("#kind", "raw")
    drawn(page, "heat", "rows.every(row => row.value === null || row.value > 800 || row.well === 'D04')")


def test_quality_is_plotted_over_the_plates(page):
    rows = {row["plate"]: row for row in rows_of(page, "trend")}
    assert len(rows) == PLATES and rows["P03"]["gate"] == "stopped" and rows["P01"]["gate"] == "passed"
    assert rows["P01"]["least"] == 0.3
    page.select_option("#metric", "ssmd")
    drawn(page, "trend", f"rows[0].value !== {rows['P01']['value']}")


def test_batches_are_compared(page):
    def medians(kind):
        page.select_option("#kind", kind)
        drawn(page, "spread", "rows.every(row => row.median " + ("< 80" if kind == "raw" else "> 80") + ")")
        rows = rows_of(page, "spread")
        assert {row["batch"]: row["wells"] for row in rows if row["plate"] == "P01"} == {"one": 79}
        assert all(row["low"] < row["q1"] < row["median"] < row["q3"] < row["high"] for row in rows)
        return {batch: [row["median"] for row in rows if row["batch"] == batch] for batch in ("one", "two")}

    raw = medians("raw")
    assert len(raw["one"]) == len(raw["two"]) == PLATES / 2 and max(raw["one"]) * 1.3 < min(raw["two"])
    corrected = medians("percent_of_control")
    assert min(corrected["one"]) < max(corrected["two"]) and min(corrected["two"]) < max(corrected["one"])
    keep(page, "batches")


def test_replicates_are_compared(page):
    assert "treatments" in page.text_content("#agreement") and len(rows_of(page, "replicates")) > 50
    hit = next(row for row in rows_of(page, "replicates") if row["treatment"] == "C2-3 10")
    assert hit["x"] > 4 and hit["y"] > 4
    page.select_option("#pair", "1")
    page.wait_for_function("document.querySelector('#agreement').textContent.includes('Spearman')")


def test_dose_responses_can_be_searched(page):
    kinds = {row["kind"] for row in rows_of(page, "curves")}
    assert kinds == {"well", "curve", "ec50", "interval"}
    assert "dosed" in rows_of(page, "curves")[0]["title"]
    page.fill("#curves-search", "nothing")
    page.wait_for_function("document.querySelector('#curves-page').textContent === 'no compound'")


def test_hits_can_be_searched_and_sorted_and_are_linked(page):
    count = page.locator("#hits tbody tr").count()
    assert count > PLATES and page.text_content("#hits-count") == f"{count} of {count} hits"
    page.fill("#hits-search", "c2-3")
    assert page.locator("#hits tbody tr").count() == PLATES - 1  # plate P03 was stopped
    page.click("#hits th:text-is('plate')")
    assert page.locator("#hits tbody tr td:nth-child(2)").all_text_contents() == [
        f"P{n:02}" for n in range(1, PLATES + 1) if n != 3
    ]
    page.click("#hits th:text-is('plate')")
    assert page.locator("#hits tbody tr td:nth-child(2)").first.text_content() == "P14"
    link = page.locator("#hits tbody tr:last-child a")
    image = 1000 + 2 * 12 + 2  # well C03 of the first plate
    assert link.get_attribute("href") == f"http://omero.example.org/webclient/?show=image-{image}"
    own = page.locator("#hits tbody tr:first-child img")  # plate P14: a picture that the report holds
    page.locator("#hits tbody tr:first-child a").hover()
    assert own.is_visible() and own.evaluate("image => image.complete && image.naturalWidth") == 8
    thumbnail = page.locator("#hits tbody tr:last-child img")
    assert thumbnail.is_hidden()
    link.hover()
    assert thumbnail.is_visible() and thumbnail.get_attribute("src").endswith(f"/render_thumbnail/{image}/")


def test_outlines_of_objects_are_in_the_page(page):
    picture = page.locator("#outlines img")
    picture.scroll_into_view_if_needed()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 16


def test_a_well_links_to_its_image(page):
    well = next(row for row in rows_of(page, "heat") if (row["plate"], row["well"]) == ("P02", "A01"))
    assert well["url"] == "http://omero.example.org/webclient/?show=image-1096"
    assert well["image"] == "http://omero.example.org/webclient/render_thumbnail/1096/"
    assert page.is_visible("#linked")


def test_a_plate_without_a_figure_says_why(page):
    assert page.text_content("#curves-rest li").endswith("compounds not shown: no fit: 1 dose, 4 are needed")
    said = page.evaluate("lostOn(['P05', 'P06'], [{plate: 'P06', value: 1}, {plate: 'P05', value: null}], 'x')")
    assert said == ["P05 has no x: no well has a value"]
    page.evaluate("listReasons([{plate: 'P05', reason: 'no negative controls'}], 'z_prime')")
    assert page.text_content("#reasons li") == "P05 has no z_prime: no negative controls"
