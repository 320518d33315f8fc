"""OMERO.web from the package index, on an embedded server with the demo's plates, tested in Chromium.

Run by `make test-web` with the environment of envs/web.txt. It works on a copy of the demo's data, so nothing it saves
stays. Screenshots are kept in the folder named by OPENHCS_OMERO_SCREENSHOTS, if it is set.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import re
import shutil
import sqlite3
from pathlib import Path

import pytest

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.web

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / ".demo"
CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
VIEW = {"width": 1280, "height": 800}
PICTURE = "#viewport-img, #weblitz-viewport-img"  # in the preview and in the full viewer


def _web():
    spec = importlib.util.spec_from_file_location("web", ROOT / "envs" / "web.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A copy of the demo's data, with a snapshot of the database because a server may be using it."""
    if not (DEMO / "plates.json").exists():
        pytest.fail("there are no demo data: make demo")
    home = tmp_path_factory.mktemp("demo")
    shutil.copytree(DEMO / "server", home / "server", ignore=shutil.ignore_patterns("omero.db*", "lock"))
    source, copy = (sqlite3.connect(folder / "server" / "omero.db") for folder in (DEMO, home))
    source.backup(copy)
    source.close(), copy.close()
    shutil.copy(DEMO / "root-password", home)
    (home / "web").mkdir()
    return home


@pytest.fixture(scope="module")
def address(home):
    """The address of OMERO.web; it and its server stop after the tests."""
    web = _web()
    with web.start_server(home) as server:
        port = web.free_port(0)
        process = web.start_web(home / "web", server.port, port)
        yield f"http://127.0.0.1:{port}"
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, address, home):
    """A logged-in page; at the end no request to OMERO.web may have failed."""
    page = browser.new_page(viewport=VIEW)
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("response", lambda answer: answer.status >= 400 and failures.append(f"{answer.status} {answer.url}"))
    page.goto(f"{address}/webclient/login/")
    page.fill("input[name=username]", "root")
    page.fill("input[name=password]", (home / "root-password").read_text().strip())
    page.click("input[type=submit]")
    page.wait_for_selector("#dataTree li .jstree-anchor >> text=Demo screen")
    yield page
    page.wait_for_load_state("networkidle")
    page.close()
    assert failures == []


@pytest.fixture(scope="module")
def plates() -> tuple[int, int]:
    """The ids of the demo's first source plate and of its derived plate."""
    source = json.loads((DEMO / "plates.json").read_text())["plates"][0]
    results = DEMO / "results" / f"plate_{source}_processed"
    return source, json.loads((results / "derived.json").read_text())["derived_plate"]


def keep(page, name: str) -> None:
    if folder := os.environ.get("OPENHCS_OMERO_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png")


def open_plate(page, name: str) -> None:
    page.click(f"#dataTree .jstree-anchor:text-is('{name}')")
    page.wait_for_selector("#spw td.well img")
    page.wait_for_function("document.querySelectorAll('#spw td.well img:not([src^=data])').length == 0")


def picture(page):
    """The picture in the image viewer, loaded from its address and opened by Pillow."""
    from PIL import Image

    source = page.get_attribute(PICTURE, "src")
    answer = page.request.get(page.url.split("/webclient")[0] + source)
    assert answer.ok and answer.headers["content-type"] == "image/jpeg"
    return Image.open(io.BytesIO(answer.body())).convert("RGB")


def bright(image) -> list[int]:
    """Number of bright pixels in red, green and blue; a JPEG's colors are not exact."""
    return [sum(band.histogram()[128:]) for band in image.split()]


def wait_for_picture(page, other_than: str = "") -> None:
    """Wait until the viewer shows a picture from an address other than the last one."""
    page.wait_for_function(
        "([where, old]) => { const i = document.querySelector(where); return i && i.complete"
        " && i.naturalWidth > 0 && i.getAttribute('src') != old; }",
        arg=[PICTURE, other_than],
    )


def test_tree_shows_source_and_derived_plate(page):
    names = page.locator("#dataTree .jstree-anchor").all_inner_texts()
    assert {f"Demo screen {n}{end}" for n in (1, 2) for end in ("", " [processed]")} <= {name.strip() for name in names}


@pytest.mark.parametrize("name", ["Demo screen 1", "Demo screen 2 [processed]"])
def test_grid_has_a_thumbnail_in_every_well(page, name):
    open_plate(page, name)
    wells = page.eval_on_selector_all("#spw td.well img", "all => all.map(i => [i.name, i.naturalWidth])")
    assert {well for well, _ in wells} == {f"{row}{column}" for row in "ABCDEFGHIJKLMNOP" for column in range(1, 25)}
    assert all(width == 96 for _, width in wells), wells
    keep(page, "grid")


def test_key_values_of_the_derived_plate(page, plates):
    open_plate(page, "Demo screen 1 [processed]")
    page.click("h1[data-name=keyvaluepairs]")
    page.wait_for_selector("#mapAnnContainer table[data-annid]")
    cells = [row.inner_text().split("\t") for row in page.locator("#mapAnnContainer table[data-annid] tbody tr").all()]
    shown = {cell[0].strip(): cell[1].strip() for cell in cells if len(cell) == 2}
    assert shown["source_plate"] == str(plates[0]) and shown["output"] == "processed"
    keep(page, "plate")


def test_attachments_download_byte_for_byte(page, address, plates):
    open_plate(page, "Demo screen 1 [processed]")
    page.click("h1[data-name=attachments]")
    page.wait_for_selector("#fileanns_container li.file_ann_wrapper a.tooltip")
    links = {
        re.split(r"\s", link.inner_text().strip())[0]: link
        for link in page.locator("#fileanns_container li.file_ann_wrapper > a.tooltip").all()
        if " of plate " not in link.inner_text()  # an OMERO.table
    }
    tables = {"features.csv", "wells.csv", "objects.csv", "image_qc.csv", "columns.csv"}
    answers = {"quality.csv", "normalised.csv", "hits.csv", "dose_response.csv"}
    assert set(links) == {*tables, *answers, "run.yaml"}
    for name, link in links.items():
        with page.expect_download() as download:
            link.click()
        page.mouse.move(5, 5)  # otherwise the link's tooltip covers the next link
        page.wait_for_selector(".ui-tooltip", state="detached")
        there = DEMO / "results" / f"plate_{plates[0]}_processed" / name
        assert Path(download.value.path()).read_bytes() == there.read_bytes(), name
    keep(page, "attachments")


def test_viewer_renders_and_follows_its_settings(page, address):
    open_plate(page, "Demo screen 1 [processed]")
    image = page.get_attribute("#spw td.well img", "id").removeprefix("image-")
    page.goto(f"{address}/webclient/img_detail/{image}/")
    wait_for_picture(page)
    shown = picture(page)
    assert shown.size == (128, 128)
    red, green, blue = bright(shown)
    assert red == 0 and green > 0 and blue > 0  # GFP is green, DAPI blue
    keep(page, "viewer")

    before = page.get_attribute(PICTURE, "src")
    page.click("#wblitz-ch0")  # the first channel off
    wait_for_picture(page, before)
    without = bright(picture(page))
    assert without[0] == without[1] == 0 and without[2] > 0
    before = page.get_attribute(PICTURE, "src")
    page.dispatch_event("#wblitz-rmodel", "click")  # a click is not possible where long channel names cover the box
    wait_for_picture(page, before)
    red, green, blue = bright(picture(page))
    assert red == green == blue > 0
    keep(page, "viewer-grey")


def test_iviewer_draws_the_outlines_of_the_nuclei(page, address, plates):
    """OMERO.iviewer lists the regions of interest of a derived image, and draws them in their color."""
    from PIL import Image

    with (DEMO / "results" / f"plate_{plates[0]}_processed" / "objects.csv").open(newline="") as file:
        nuclei = [row["label"] for row in csv.DictReader(file) if row["well"] == "E17"]
    open_plate(page, "Demo screen 1 [processed]")
    image = page.get_attribute("#spw td.well img[name=E17]", "id").removeprefix("image-")
    iviewer = page.context.new_page()
    iviewer.goto(f"{address}/iviewer/?images={image}")
    iviewer.click(f"text=ROIs [{len(nuclei)}]")
    for label in nuclei:
        iviewer.wait_for_selector(f"text='nuclei {label}'")
    orange = 0
    for _ in range(20):  # the canvas says nothing when it is drawn
        shown = Image.open(io.BytesIO(iviewer.screenshot())).convert("RGB")
        orange = sum(count for count, color in shown.getcolors(2**24) if color == (230, 159, 0))
        if orange > 100:
            break
        iviewer.wait_for_timeout(500)
    assert orange > 100
    keep(iviewer, "iviewer")
    iviewer.close()


def test_preview_saves_channel_settings(page, address):
    open_plate(page, "Demo screen 1 [processed]")
    page.click("#spw td.well img >> nth=1")
    page.click("#annotation_tabs a:text('Preview')")
    wait_for_picture(page)
    assert page.input_value("#wblitz-ch0-cw-end") != "777"
    before, was = page.get_attribute(PICTURE, "src"), picture(page)
    page.fill("#wblitz-ch0-cw-end", "777")
    page.press("#wblitz-ch0-cw-end", "Tab")
    wait_for_picture(page, before)
    now = picture(page)
    assert bright(now)[1] > bright(was)[1]  # lowering the window's upper end makes green brighter
    keep(page, "preview")
    with page.expect_response(lambda answer: "saveImgRDef" in answer.url) as saved:
        page.click("#rdef-setdef-btn")
    assert saved.value.ok
    page.reload()
    open_plate(page, "Demo screen 1 [processed]")
    page.click("#spw td.well img >> nth=1")
    page.click("#annotation_tabs a:text('Preview')")
    wait_for_picture(page)
    assert page.input_value("#wblitz-ch0-cw-end") == "777"


def test_search_finds_images_by_words(page):
    page.fill("input[name=search_query]", "site AND B02")
    page.press("input[name=search_query]", "Enter")
    page.wait_for_selector("#dataTable tbody tr")
    names = [name.strip() for name in page.locator("#dataTable tbody tr td.desc").all_inner_texts()]
    assert len(names) == 4 and set(names) == {"B02 site 1"}  # of two source and two derived plates
    keep(page, "search")
    page.goto(page.url.split("?")[0] + "?search_query=nowhere")
    page.wait_for_selector("#content_details >> text=No results found")


def test_shares_history_and_tags_are_shown(page, address):
    for name in ("public", "history", "usertags"):
        page.goto(f"{address}/webclient/{name}/")
        page.wait_for_load_state("networkidle")
    page.goto(f"{address}/webclient/public/")
    page.wait_for_selector("#dataTree .jstree-anchor >> text=root root")
    assert page.locator("#dataTree li li").count() == 0  # no shares


def test_statistics_show_the_disk_usage(page, address):
    page.goto(f"{address}/webadmin/stats/")
    page.wait_for_function("/[\\d.]+ MB/.test(document.body.innerText)")
    used, unit = re.search(r"Total usage: ([\d.]+) (\w+)", page.inner_text("body")).groups()
    assert float(used) > 1 and unit == "MB"
    keep(page, "statistics")


def test_account_settings_can_be_changed(page, address):
    page.goto(f"{address}/webadmin/myaccount/")
    assert page.input_value("#id_omename") == "root"
    page.fill("#id_institution", "An institute")
    with page.expect_navigation():
        page.click("input[type=submit][value=Save]")
    page.goto(f"{address}/webadmin/myaccount/")
    assert page.input_value("#id_institution") == "An institute"
    keep(page, "account")


def test_a_new_user_can_log_in(page, browser, address):
    page.goto(f"{address}/webadmin/group/new/")
    page.fill("#id_name", "biologists")
    with page.expect_navigation():
        page.click("input[type=submit][value=Save]")
    page.goto(f"{address}/webadmin/experimenter/new/")
    for field, value in {
        "omename": "ada",
        "first_name": "Ada",
        "last_name": "Lovelace",
        "password": "notes 1842",
        "confirmation": "notes 1842",
    }.items():
        page.fill(f"#id_{field}", value)
    page.click("#id_other_groups_chosen input")
    page.click("#id_other_groups_chosen li.active-result >> text=biologists")  # and thereby her default group
    with page.expect_navigation():
        page.click("input[type=submit][value=Save]")
    page.wait_for_selector("text=Lovelace")
    keep(page, "users")
    context = browser.new_context()  # with separate cookies
    other = context.new_page()
    failures: list[str] = []
    other.on("response", lambda answer: answer.status >= 400 and failures.append(f"{answer.status} {answer.url}"))
    other.goto(f"{address}/webclient/login/")
    other.fill("input[name=username]", "ada")
    other.fill("input[name=password]", "notes 1842")
    other.click("input[type=submit]")
    other.wait_for_selector("#dataTree li .jstree-anchor >> text=Ada Lovelace")
    assert other.locator("text=Demo screen").count() == 0  # it belongs to root
    for path in (
        "webclient/search/?search_query=site",
        "webclient/public/",
        "webclient/history/",
        "webadmin/stats/",
        "webadmin/myaccount/",
    ):
        other.goto(f"{address}/{path}")
        other.wait_for_load_state("networkidle")
    assert other.input_value("#id_last_name") == "Lovelace"
    context.close()
    assert failures == []


def test_an_image_can_be_exported_as_ome_tiff(page, address):
    from PIL import Image

    open_plate(page, "Demo screen 1")
    image = page.get_attribute("#spw td.well img", "id").removeprefix("image-")
    answer = page.request.get(f"{address}/webgateway/render_ome_tiff/i/{image}/")
    assert answer.ok and answer.headers["content-type"] == "image/tiff"
    tiff = Image.open(io.BytesIO(answer.body()))
    assert (tiff.size, tiff.n_frames) == ((128, 128), 2)
    assert "http://www.openmicroscopy.org/Schemas/OME/" in tiff.tag_v2[270]  # the description
