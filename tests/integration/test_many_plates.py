"""A screen of twelve plates in one run: OMERO goes away and comes back, a second run begins, and plates change."""

import json
import os
import signal

import pytest
from omero.model import PlateI, ScreenI
from omero.rtypes import rstring
from omero_embedded import process
from snake import Workflow, kill, wait_for
from wire import make_plate

from openhcs_omero.core.plate_tables import read_rows
from openhcs_omero.core.well_file import well_files
from openhcs_omero.omero import queries
from openhcs_omero.omero.connection import close_all, connect
from openhcs_omero.omero.derived import derived_state, find_derived
from openhcs_omero.omero.server import Server

STEP = """
import os
import re
import time


def measure(image, filemanager, metadata, backend="disk", gates=""):
    name = re.search(r"plate_(\\d+)", metadata["plate"])[1] + metadata["well"]
    open(f"{gates}/begun_{name}", "a").close()
    while os.path.exists(f"{gates}/wait_{name}"):
        time.sleep(0.05)
    return image + 1, {"bright": int(image.max())}
"""
PLATES, WELLS = 12, {"A01": 1, "A02": 1, "B03": 1}


class Screen:
    """Twelve plates in a screen, on a server that can be killed and comes back with the same data."""

    def __init__(self, folder):
        self.data, self.port = folder / "data", 0
        self.start()
        self.conn = self.login()
        self.workflow = Workflow(self.server, self.conn, folder / "work")
        self.workflow.environment["OMERO_PASSWORD"] = self.server.password
        self.gates = folder / "gates"
        self.gates.mkdir()
        (self.workflow.folder / "own.py").write_text(STEP)
        self.plates = [make_plate(self.conn, WELLS, f"plate {n}", (1, 1, 1, 4, 6)) for n in range(PLATES)]
        screen = ScreenI()
        screen.name = rstring("Assay A")
        for plate in self.plates:
            screen.linkPlate(PlateI(plate, False))
        queries.update(self.conn).saveObject(screen)
        steps = [{"call": "own:measure", "params": {"gates": str(self.gates)}}]
        self.workflow.configure({"screen": "Assay A"}, steps=steps, heatmaps=[])

    def start(self):
        self.server = process.start(self.data, self.port)
        self.port = self.server.port

    def login(self):
        return connect(Server(self.server.host, self.port, "root"), given=self.server.password)

    def kill(self):
        close_all()
        os.kill(self.server.process.pid, signal.SIGKILL)
        self.server.process.wait()

    def wait_at(self, plate, well):
        (self.gates / f"wait_{plate}{well}").touch()

    def begun(self, plate, well):
        return (self.gates / f"begun_{plate}{well}").exists()

    def go_on(self):
        for path in self.gates.glob("wait_*"):
            path.unlink()

    def done(self):
        """When each well was finished."""
        return {
            (plate, well): path.stat().st_mtime_ns
            for plate in self.plates
            for well, path in well_files(self.workflow.results(plate)).items()
        }

    def status(self):
        return json.loads((self.workflow.folder / "results" / "status.json").read_text())


@pytest.fixture
def screen(tmp_path, monkeypatch):
    monkeypatch.setenv("OMERO_SESSIONDIR", str(tmp_path / "sessions"))
    made = Screen(tmp_path)
    yield made
    close_all()
    made.server.stop()


def check(screen, plates):
    """Every well of the plates is processed, and its image in the derived plate is what the step returned."""
    for plate in plates:
        state = derived_state(screen.conn, find_derived(screen.conn, plate, "processed"))
        assert {well: len(images) for well, images in state.items()} == WELLS
        assert len({sha1 for images in state.values() for _, sha1 in images}) == len(WELLS)


@pytest.mark.slow
def test_what_is_done_stays_done(screen):
    """OMERO goes away, another run begins, and the head process is killed: nothing is processed twice."""
    workflow, middle = screen.workflow, screen.plates[5]
    screen.wait_at(middle, "A02")
    head = workflow.start("--cores", "1")
    wait_for(lambda: screen.begun(middle, "A02") or head.poll() is not None)
    before = screen.done()
    assert len(before) >= 5 * len(WELLS), "the plates before it are finished"
    another = workflow()
    assert another.status == 1 and "Error: another run is active in" in another.output and another.jobs == {}
    assert screen.done() == before

    screen.kill()
    screen.go_on()

    def waiting():
        return any("waiting up to" in log.read_text() for log in workflow.folder.glob("results/*/logs/*.log"))

    wait_for(lambda: waiting() or head.poll() is not None)
    screen.start()
    screen.conn = screen.login()
    last = screen.plates[8]
    wait_for(lambda: screen.begun(last, "A01") or head.poll() is not None)
    kill(head)
    before = screen.done()
    assert len(before) >= 7 * len(WELLS)

    workflow.succeed("--unlock")
    run = workflow()
    assert run.status == 0, run.output + workflow.logs()
    assert "36 of 36 wells of 12 plates are processed." in run.output
    assert len(run.wells) == PLATES * len(WELLS) - len(before)
    after = screen.done()
    assert {well: after[well] for well in before} == before
    check(screen, screen.plates)
    numbers = [(plate["done"], plate["running"], plate["failed"]) for plate in screen.status()["plates"]]
    assert numbers == PLATES * [(len(WELLS), 0, 0)] and screen.status()["ended"]


@pytest.mark.slow
def test_plates_change_during_a_run(screen):
    """A plate that is deleted is missing in the results of all plates, which say why; one that is renamed is there."""
    workflow, gone, renamed = screen.workflow, screen.plates[-1], screen.plates[-2]
    screen.wait_at(screen.plates[0], "A01")
    head = workflow.start()
    wait_for(lambda: screen.begun(screen.plates[0], "A01") or head.poll() is not None)
    screen.conn.deleteObjects("Plate", [gone], deleteAnns=True, wait=True)
    plate = queries.query(screen.conn).get("Plate", renamed)
    plate.name = rstring("another name")
    queries.update(screen.conn).saveObject(plate)
    screen.go_on()
    output = head.communicate()[0]
    assert head.returncode == 1 and "Traceback" not in output, output
    assert "33 of 36 wells of 12 plates are processed." in output
    check(screen, screen.plates[:-1])
    folder = workflow.folder / "results" / "screen_processed"
    plates = [str(plate) for plate in screen.plates]
    assert sorted({row["plate"] for row in read_rows(folder / "screen_wells.csv")}) == sorted(plates[:-1])
    [left_out] = read_rows(folder / "left_out.csv")
    assert left_out["plate"] == str(gone) and f"are without plate {gone} ({left_out['reason']})" in output
    again = workflow()
    assert again.status == 0 and "33 of 33 wells of 11 plates are processed." in again.output and again.wells == []
    assert set(again.jobs) == {"gather_wells", "annotate_screen", "all"} and not read_rows(folder / "left_out.csv")
