"""The page of a run, from the files of its plates and from events."""

import os
import re
import time
from html import unescape

import yaml
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry
from snakemake_interface_logger_plugins.tests import TestLogHandlerBase

import snakemake_logger_plugin_openhcs_omero as plugin
from openhcs_omero.core.config import read_config
from openhcs_omero.core.failures import FailedWell, Failure
from openhcs_omero.core.orchestrator.campaign_page import CampaignPage
from openhcs_omero.core.orchestrator.jobs import Job
from openhcs_omero.core.orchestrator.live import LivePage
from openhcs_omero.core.outputs.omero import OMEROWell
from openhcs_omero.core.plan import Plan
from openhcs_omero.core.progress import RunProgress, status_of_results
from openhcs_omero.core.records import DerivedPlate, parse_record, read_record, to_json
from openhcs_omero.core.run_page import about_html, page_html, report_html
from openhcs_omero.core.state import NAME, PlateState, WellState
from openhcs_omero.core.status import SILENCE, PlateStatus, RunStatus, duration
from openhcs_omero.core.well_file import well_file, write_well_file
from openhcs_omero.io.atomic import write

RUN = {
    "steps": [
        {"call": "m:f", "channels": [0], "params": {"level": "<b>"}, "distributions": {"scikit-image": "0.26.0"}}
    ],
    "versions": {"snakemake": "9.27.1"},
    "configuration": {"plates": [7, 8]},
}
WEB = "https://omero.example.org/"
GOOD = to_json(OMEROWell(9, ((1, "ab"),)))


def failed(reason):
    return to_json(FailedWell(Failure("7", "A02", 1, "step 1", reason, "x.log")))


def make_plan(folder, wells=("A01", "A02", "A03")):
    """A plate of which some wells are chosen, and one that is gone."""
    config = {"plates": [7, 8], "steps": [{"call": "m:f"}], "results": str(folder), "analysis": {"web": WEB}}
    settings = read_config(config)
    state = PlateState("/omero/plate_7", "screen <1>", 1, 600, {well: WellState("", 0, 0, 1) for well in wells}, 0, 0)
    write(settings.folder("7") / NAME, to_json(state))
    return Plan(settings, {"7": state}, {"8": "plate 8 is gone"}), settings.folder("7")


def cells(page):
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr class.*?</tr>", page)]


def test_the_page_lists_plates_steps_and_versions(tmp_path):
    plan, folder = make_plan(tmp_path)
    write(folder / "derived.json", to_json(DerivedPlate(9, "/omero/plate_7_processed", 7)))
    write(folder / "run.yaml", yaml.safe_dump(RUN))
    write(folder / "figures" / "montage.png", "")
    write(folder / "quality.csv", "plate,feature,z_prime\n7,cells_c1,0.617\n7,<i>,\n7,spots_c0,-1.5\n")
    write_well_file(well_file(folder, "A01"), GOOD)
    write_well_file(well_file(folder, "A02"), failed("dark"))
    status = status_of_results(plan)
    page = page_html(status, WEB, about_html(plan))
    assert "http://" not in page.replace("https://omero", "") and 'http-equiv="refresh"' not in page
    assert "2 plates: 1 of 3 wells are processed, 1 failed" in page
    first, second, step, *versions = cells(page)
    link = '<a href="https://omero.example.org/webclient/?show=plate-{0}">{0}</a>'
    picture = "plate_7_processed/figures/montage.png"
    montage = f'<a href="{picture}"><img src="{picture}" loading="lazy" alt="montage"></a>'
    quality = "0.62 cells_c1<br>-1.50 spots_c0"
    counts = ["3", "1", "0", "1", "1"]
    begun = [link.format(7), "screen &lt;1&gt;", "partly done", *counts, "", quality, montage, link.format(9)]
    assert first == [*begun, "", "", ""]
    assert second == [link.format(8), "", "error", *5 * ["0"], *6 * [""], "plate 8 is gone"]
    assert step == ["1", "m:f", "[0]", "level=&#x27;&lt;b&gt;&#x27;"]
    assert versions == [["snakemake", "9.27.1"], ["scikit-image", "0.26.0"]] and "plates:" in page
    report = report_html(status, WEB, "")
    assert "montage.png" not in report and link.format(9) in report
    assert parse_record(to_json(status).encode(), RunStatus) == status


def test_files_of_an_earlier_run_do_not_count_as_done(tmp_path):
    """A well that is processed again is not done before its file is written again, and may then have failed."""
    plan, folder = make_plan(tmp_path)
    for well in ("A01", "A02"):
        write_well_file(well_file(folder, well), GOOD)
    page = LivePage(plan)
    page.begin([("7", "A02")])
    page._ending.set()  # this test writes the page itself
    page._thread.join()

    def numbers():
        page._run.count(page._active())
        plate = page._run.status(False).plates[0]
        return plate.done, plate.running, plate.failed, plate.waiting, plate.problem

    def note(well, state, log=("missing.log",)):
        page.note(Job(state, "process_well", "7", well, log, []))

    assert numbers() == (1, 0, 0, 2, "")
    note("A02", "running")
    note("A03", "running")
    assert numbers() == (1, 2, 0, 0, "")
    well_file(folder, "A02").unlink()
    write_well_file(well_file(folder, "A02"), failed("<b>"))
    assert numbers() == (1, 1, 1, 0, "")  # the job that has other wells too is still running
    note("A03", "failed")
    assert numbers() == (1, 0, 1, 1, "A03: it left no log: it was killed, or never started")
    note("A03", "running")
    write_well_file(well_file(folder, "A03"), GOOD)
    note("A03", "done")
    note("A02", "done")
    assert numbers() == (2, 0, 1, 0, "")
    write(folder / "annotations.json", "{}")  # of an earlier run until now
    os.utime(folder / "annotations.json", (9, 9))
    page._run.plates["7"]._outdated = 9
    page._run.plates["7"].look()
    assert page._run.status(False).plates[0].state == "tables"
    write(folder / "annotations.json", "{}")
    page._run.plates["7"].look()
    assert page._run.status(False).plates[0].state == "done, with failed wells"
    page.note(Job("running", "count", "no plate of this run", "A01", [], []))
    assert numbers() == (2, 0, 1, 0, "")


def test_time_left(tmp_path):
    """It goes by the wells of this run; a plate waits for those before it."""
    plan, folder = make_plan(tmp_path, [f"A{number:02}" for number in range(1, 13)])
    write_well_file(well_file(folder, "A01"), GOOD)
    run = RunProgress(plan, trusting=True)
    assert run.status(False).plates[0].seconds is None
    run._recent.extend([100, 110, 130])
    status = run.status(False)
    assert (status.pace, status.plates[0].seconds, status.plates[1].seconds) == (15, 165, 0)
    assert status.headline == "2 plates: 1 of 12 wells are processed, 3 min left" and "active" in status.state
    assert "killed" in RunStatus(status.plates, 0, status.updated - 2 * SILENCE, False).state
    assert [duration(seconds) for seconds in (None, 0, 42.4, 600, 12000)] == ["", "", "42 s", "10 min", "3 h 20 min"]


def test_the_page_of_a_campaign_does_not_count_earlier_runs(tmp_path):
    """A plate that will run is not done because it was done before; one that is up to date is."""

    def ran(label, begun):
        now = PlateStatus(label, f"plate {label}", 2, 2, files={"wells": f"plate_{label}_processed/wells.csv"})
        write(tmp_path / label / "results" / "status.json", to_json(RunStatus((now,), begun, begun, True)))

    ran("due", 10)
    ran("done", 10)
    page = CampaignPage(tmp_path, ["due", "done", "new"], None)
    page.begin({"due", "new"})
    wait = time.monotonic() + 30
    while not (tmp_path / "status.json").exists():
        assert time.monotonic() < wait
        time.sleep(0.01)
    shown = [(plate.done, plate.waiting) for plate in read_record(tmp_path / "status.json", RunStatus).plates]
    assert shown == [(0, 2), (2, 0), (0, 0)]
    ran("due", time.time())
    page.end()
    assert "3 plates: 4 of 4 wells are processed" in (tmp_path / "index.html").read_text()
    assert 'href="due/results/plate_due_processed/wells.csv"' in (tmp_path / "index.html").read_text()


def test_text_is_escaped(tmp_path):
    plan, folder = make_plan(tmp_path)
    write(folder / "quality.csv", "plate,feature,z_prime\n7,<script>,1\n")
    evil = RunProgress(plan, trusting=True)
    evil.plates["7"].problems["A01"] = 'A01: <img src="x">'
    page = page_html(evil.status(False), 'https://x/"><script>', "")
    assert "<script" not in page and '<img src="x"' not in page
    assert 'A01: <img src="x">' in unescape(page) and 'http-equiv="refresh"' in page


class TestThePlugin(TestLogHandlerBase):
    """What Snakemake asks of every logger plugin; without a page, the handler does nothing."""

    __test__ = True

    def get_log_handler_cls(self):
        return plugin.LogHandler

    def get_log_handler_settings(self):
        return None

    def test_snakemake_finds_it(self):
        assert LoggerPluginRegistry().get_plugin("openhcs-omero").log_handler is plugin.LogHandler
