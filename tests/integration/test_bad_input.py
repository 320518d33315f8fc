"""Bad input gets one clear sentence and exit status 1, at once, and changes nothing in OMERO."""

import contextlib
import resource
import socket
import subprocess
import sys
import threading

import pytest
import yaml
from omero.model import PlateI
from omero.rtypes import rstring
from snake import SCHEMA, workflow
from wire import add_well, block, count, make_plate

from openhcs_omero.core.config_check import check_config
from openhcs_omero.core.inspection import look
from openhcs_omero.core.plate_tables import read_rows
from openhcs_omero.errors import OpenHCSError
from openhcs_omero.omero import queries
from openhcs_omero.omero.derived import find_derived
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.omero.writing import write_well_images
from openhcs_omero.plates.image import NewImage

__all__ = ["workflow"]

KINDS = ("Plate", "Well", "Image", "Annotation", "OriginalFile")
STEP = {"call": "my_steps:measure"}


@pytest.fixture(scope="session")
def start_up():
    """Processor time in seconds that Snakemake and omero-py need to start."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for words in (["-m", "snakemake", "--version"], ["-c", "import omero.gateway"]):
        subprocess.run([sys.executable, *words], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.fixture
def refusal(workflow, conn, start_up):
    """Run the workflow, which must refuse, and return its message."""

    def refuse(**environment):
        before = count(conn, *KINDS)
        run = workflow(**environment)
        said = [line for line in run.output.splitlines() if line.strip()]
        assert run.status == 1 and not run.jobs, run.output
        assert "Traceback" not in run.output
        assert run.cpu < start_up + 2, run.output
        assert count(conn, *KINDS) == before
        assert not any(workflow.folder.glob("results/*/*"))
        told = [line for line in said if line.startswith("Error: ")]
        assert len(told) == 1 and "WorkflowError" not in run.output and "File " not in run.output, run.output
        return told[0]

    return refuse


@pytest.fixture
def plate(conn):
    return make_plate(conn, {"A01": 1, "B02": 1})


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"wels": "all"}, "unknown key 'wels': did you mean 'wells'?"),
        ({"omero": {"password": "hush"}}, "unknown key 'password' in omero"),
        ({"wells": ["A01", "H12"]}, "well H12 is not in the plate: its wells lie between A01 and B02"),
        ({"wells": ["first"]}, "'first' is neither a well like A01 nor a range"),
        ({"plates": [987654]}, "there is no plate 987654, or this user may not see it"),
        ({"steps": [{"call": "no_such_module:f"}]}, "step 1 (no_such_module:f) can't be imported: ModuleNotFoundError"),
        ({"steps": [{"call": "my_steps:f"}]}, "has no function 'f'"),
        (
            {"steps": [{"call": "os.path:join"}]},
            "has the signature (a, p), but a step is f(image, filemanager, metadata",
        ),
        ({"steps": [{**STEP, "params": {"levle": 2}}]}, "does not take 'levle'; its parameters are: level"),
        ({"steps": [{**STEP, "channels": [0]}]}, "does not take 'channels'"),
        ({"results": "/omero/results"}, "results: /omero/results is a path in OMERO"),
        (
            {"steps": [{"call": "openhcs_omero.processing.spots:count_spots", "channels": [7]}]},
            "asks for channel 7, but plate",
        ),
    ],
)
def test_configurations(workflow, plate, monkeypatch, config, says):
    """These checks come first in every run; `test_one_sentence` runs Snakemake for two of them."""
    workflow.configure(plate, **config)
    whole = yaml.safe_load((workflow.folder / "config.yaml").read_text())
    for key, value in workflow.environment.items():
        monkeypatch.setenv(key, value)
    monkeypatch.chdir(workflow.folder)
    monkeypatch.syspath_prepend(workflow.folder)
    with pytest.raises(OpenHCSError) as error:
        check_config(whole, SCHEMA)
        look(whole)
    assert says in str(error.value) and "hush" not in str(error.value)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"omero": {"password": "hush"}}, "unknown key 'password' in omero"),
        ({"wells": ["A01", "H12"]}, "well H12 is not in the plate: its wells lie between A01 and B02"),
    ],
)
def test_one_sentence(workflow, plate, refusal, config, says):
    workflow.configure(plate, **config)
    said = refusal()
    assert says in said and "hush" not in said


def test_folders_that_cannot_be_written(workflow, plate, refusal):
    workflow.configure(plate)
    said = refusal(HOME="/proc/nowhere", OMERO_SESSIONDIR="")
    assert "no session can be stored in /proc/nowhere/omero/sessions" in said and "OMERO_SESSIONDIR" in said
    workflow.configure(plate, results="/proc/nowhere/results")
    assert "/proc/nowhere can't be written" in refusal()


def test_a_plate_of_another_user(workflow, make_user, refusal):
    workflow.configure(make_plate(make_user()))
    assert "or this user may not see it" in refusal()


def test_wrong_password(workflow, plate, refusal):
    workflow.configure(plate)
    said = refusal(OMERO_PASSWORD="wr0ng")
    assert "wrong user name or password" in said and "wr0ng" not in said


def test_no_way_to_log_in(workflow, plate, refusal):
    workflow.configure(plate)
    workflow.environment.pop("OMERO_PASSWORD")
    assert "omero login" in refusal()


def test_server_down(workflow, plate, refusal):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    workflow.configure(plate)
    assert f"nothing listens at 127.0.0.1:{port}" in refusal(OMERO_HOST="127.0.0.1", OMERO_PORT=str(port))


def test_an_unknown_host(workflow, plate, refusal):
    workflow.configure(plate, omero={"host": "no-such-host.invalid"})
    assert "no host 'no-such-host.invalid'" in refusal()


@pytest.mark.parametrize("answer", [None, b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["silent", "http"])
def test_another_program_listens_on_the_port(workflow, plate, refusal, answer):
    with socket.create_server(("127.0.0.1", 0)) as server:
        kept = []

        def serve():
            while True:
                try:
                    kept.append(server.accept()[0])
                except OSError:
                    return
                if answer:
                    with contextlib.suppress(OSError):
                        kept[-1].sendall(answer)
                        kept[-1].shutdown(socket.SHUT_WR)

        threading.Thread(target=serve, daemon=True).start()
        workflow.configure(plate)
        port = str(server.getsockname()[1])
        assert f"what listens at 127.0.0.1:{port} is not an OMERO server" in refusal(
            OMERO_HOST="127.0.0.1", OMERO_PORT=port
        )
        server.shutdown(socket.SHUT_RDWR)


def test_a_plate_without_wells(workflow, conn, refusal):
    made = PlateI()
    made.name = rstring("bare")
    made = queries.update(conn).saveAndReturnObject(made)
    workflow.configure(made.id.val)
    assert "(bare) has no wells" in refusal()


def test_wells_without_images(workflow, conn, refusal):
    workflow.configure(make_plate(conn, {"A01": 0, "A02": 0}))
    assert "has wells but no images in them" in refusal()
    mixed = make_plate(conn, {"A01": 1, "A02": 0, "A03": 1})
    workflow.configure(mixed, wells=["A01", "A02"])
    assert "wells without images (A02): choose wells with images in `wells`" in refusal()


def test_images_of_mixed_size(workflow, conn, plate, refusal):
    group = queries.current_group(conn)
    [image] = write_well_images(conn, [NewImage("other", block(1, (1, 2, 3, 5, 6)))], "test", group)
    add_well(conn, plate, "D04", image.image_id)
    (workflow.folder / "looking.py").write_text(
        "def look(image, filemanager, metadata, backend='disk', channels=()):\n"
        "    [light] = metadata['plate_estimate'].values()\n"
        "    assert light.shape == image.shape[3:]\n"
        "    return image, {'height': image.shape[3]}\n"
        "look.plate_estimate = lambda planes: sum(planes)\n"
    )
    workflow.configure(plate, steps=[{"call": "looking:look", "channels": [1]}])
    run = workflow.succeed()
    assert f"plate {plate}: images of 2 kinds go to the steps as they are: A01 site 1 is 6 x 4" in run.output
    heights = {row["well"]: row["height"] for row in read_rows(workflow.results(plate) / "features.csv")}
    assert heights.pop("D04") == "5" and set(heights.values()) == {"4"}
    derived = load_plate(conn, find_derived(conn, plate, "processed"))
    assert derived.image("D04", 1).shape == (1, 2, 3, 5, 6)
