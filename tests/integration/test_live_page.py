"""The page of a run and `openhcs-omero status` while the workflow runs, on plates in folders and without OMERO."""

import json
import shutil
import subprocess
import sys

import pytest
from loopback import Hook, serve
from plate_folders import images_of, write_imagexpress
from snake import Workflow, wait_for

from openhcs_omero.core.status import show_status

__all__ = ["serve"]
STEP = """
import os
import time

assert not any(name.startswith("OPENHCS_OMERO_NOTIFY") for name in os.environ), "a job has the address of a channel"


def wait(image, filemanager, metadata, backend="disk"):
    if metadata["well"] == "A02":
        raise ValueError("no <b>cells</b> here")
    while metadata["well"] == "B03" and not os.path.exists("gate"):
        time.sleep(0.05)
    return image, {"bright": int(image.max())}
"""
NUMBERS = ("wells", "done", "running", "failed", "state")


@pytest.fixture
def project(tmp_path):
    """A plate with three wells: one fails, and one waits for the file `gate`."""
    workflow = Workflow(None, None, tmp_path / "work")
    write_imagexpress(workflow.folder / "day_1", images_of(["A01", "A02", "B03"], sites=1, shape=(1, 1, 1, 6, 5)))
    (workflow.folder / "own.py").write_text(STEP)
    workflow.configure("day_1", steps=[{"call": "own:wait"}])
    return workflow


def numbers(project):
    """What status.json says about the plate."""
    path = project.folder / "results" / "status.json"
    return [json.loads(path.read_text())["plates"][0][name] for name in NUMBERS[:-1]] if path.exists() else []


def test_the_page_follows_the_run(project, capsys, serve):
    """Another run of the same plates meanwhile is refused, and changes nothing. At the end there is one message."""
    page, hook = project.folder / "results" / "index.html", serve(Hook)
    project.configure("day_1", steps=[{"call": "own:wait"}], notify=["team"])
    assert "Error: notify names the channel team, but OPENHCS_OMERO_NOTIFY_TEAM is not set" in project().output
    assert not page.parent.exists()
    address = {"OPENHCS_OMERO_NOTIFY_TEAM": f"json://user:s3cret@127.0.0.1:{hook.server_address[1]}"}
    head = project.start("--quiet", "progress", **address)
    wait_for(lambda: numbers(project) == [3, 1, 1, 1])
    assert "1 plate: 1 of 3 wells are processed, 1 running, 1 failed" in page.read_text()
    assert 'http-equiv="refresh"' in page.read_text()
    show_status(project.folder)
    said = capsys.readouterr().out
    assert "1 of 3 wells are processed, 1 running, 1 failed" in said and "The run is active since" in said
    another = project(**address)
    assert another.status == 1 and "Error: another run is active in" in another.output, another.output
    assert "--unlock" in another.output and "Traceback" not in another.output
    assert numbers(project) == [3, 1, 1, 1] and 'http-equiv="refresh"' in page.read_text()

    (project.folder / "gate").touch()
    output = head.communicate()[0]
    assert head.returncode == 1, output
    text = page.read_text()
    assert numbers(project) == [3, 2, 0, 1] and 'http-equiv="refresh"' not in text
    assert "done, with failed wells" in text and "<b>cells" not in text
    assert (
        'href="plate_day_1_processed/wells.csv"' in text and 'src="plate_day_1_processed/figures/montage.png"' in text
    )
    assert 'href="plate_day_1_processed/failed.csv"' in text and "own:wait" in text
    assert [message["title"] for message in hook.got] == ["openhcs_omero failed for 1 plate"]
    assert f"2 of 3 wells are processed, 1 failed.\nPage: {page} on " in hook.got[0]["message"]
    kept = [path for path in project.folder.rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()]
    assert kept == [] and "s3cret" not in output
    show_status(project.folder)
    assert "The run ended at" in capsys.readouterr().out
    assert not (project.folder / "results" / "summary.html").exists()


@pytest.mark.slow
def test_another_logger_beside_it(project, tmp_path):
    """snakemake-logger-plugin-snkmt has its database, and the page is written all the same."""
    packages = tmp_path / "packages"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(packages)]
    if subprocess.run([*install, "snakemake-logger-plugin-snkmt>=0.1.9,<0.2"], capture_output=True).returncode:
        pytest.skip("snakemake-logger-plugin-snkmt could not be installed")
    for package in packages.glob("snakemake*"):  # this environment's own Snakemake is tested
        if "snkmt" not in package.name:
            shutil.rmtree(package)
    (project.folder / "gate").touch()
    paths = f"{project.environment.get('PYTHONPATH', '')}:{packages}"
    database = tmp_path / "snkmt.db"
    run = project("--logger", "snkmt", "openhcs-omero", "--logger-snkmt-db", str(database), PYTHONPATH=paths)
    assert numbers(project) == [3, 2, 0, 1], run.output
    assert database.stat().st_size > 0
