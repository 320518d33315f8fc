"""The workflow from Python: the seed's example, the results of a run, invalid input and failing wells."""

import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import tomllib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from snake import wait_for
from snakemake.logging import ColorizingTextHandler
from wire import block, make_plate

from openhcs_omero.core.orchestrator import head
from openhcs_omero.core.orchestrator import orchestrator as module
from openhcs_omero.core.orchestrator.orchestrator import FunctionStep, PipelineError, PipelineOrchestrator
from openhcs_omero.core.orchestrator.snakefile import find_profile, find_workflow
from openhcs_omero.core.orchestrator.snakemake_faults import interrupt
from openhcs_omero.core.steps.function_step import configured, import_folders
from openhcs_omero.errors import ConfigError, OpenHCSError, PlateError, StepError
from openhcs_omero.io.base import storage_registry
from openhcs_omero.io.omero_local import OMEROLocalBackend
from openhcs_omero.omero.annotations import list_texts
from openhcs_omero.omero.connection import close_all
from openhcs_omero.omero.pixels import read_site
from openhcs_omero.omero.plate import load_plate

ROOT = Path(__file__).parents[2]
SEED = ROOT.parent / "shared" / "seed" / "omero_backend_system.rst"
STEPS = """
import signal
import time
from pathlib import Path


def invert(image, filemanager, metadata, backend="disk", offset=0):
    return image.max() - image + offset, {"bright": int(image.max())}


def picky(image, filemanager, metadata, backend="disk", bad=()):
    if metadata["well"] in bad:
        raise ValueError(f"can't bear {metadata['well']}")
    return image, {"well_is": metadata["well"]}


def deaf(image, filemanager, metadata, backend="disk", gate="gate"):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return endless(image, filemanager, metadata, backend, gate)


def endless(image, filemanager, metadata, backend="disk", gate="gate"):
    Path(gate).touch()
    while Path(gate).exists():
        time.sleep(0.05)
    return image, {}
"""


@pytest.fixture
def work(omero_server, conn, tmp_path, monkeypatch):
    """A working directory with a module of steps, and environment variables for the server and one of its users."""
    for key in [key for key in os.environ if key.startswith("OMERO_")]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("OMERO_HOST", omero_server.host)
    monkeypatch.setenv("OMERO_PORT", str(omero_server.port))
    monkeypatch.setenv("OMERO_USER", conn.getUser().getName())
    monkeypatch.setenv("OMERO_PASSWORD", "pw")
    monkeypatch.setenv("OMERO_SESSIONDIR", str(tmp_path / "sessions"))
    folder = tmp_path / "work"
    (folder / "lib").mkdir(parents=True)
    (folder / "lib" / "inverting.py").write_text(STEPS)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder / "lib"))
    monkeypatch.delitem(sys.modules, "inverting", raising=False)
    yield folder
    close_all()
    sys.modules.pop("inverting", None)


def blocks(text, language):
    """The code blocks of a page."""
    if language == "rst":
        found = re.findall(r"\.\. code-block:: python\n\n((?:   .*\n|\s*\n)+)", text)
        return [textwrap.dedent(code).strip() for code in found]
    return [code.strip() for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL)]


PAGE = (ROOT / "docs" / "how-to" / "orchestrator.md").read_text()
EXAMPLE, CONFIGURED = blocks(PAGE, "md")[:2]


@pytest.mark.skipif(not SEED.exists(), reason="the seed is not here")
def test_the_page_has_the_seeds_example():
    assert EXAMPLE in [code.replace("from openhcs.", "from openhcs_omero.") for code in blocks(SEED.read_text(), "rst")]


@pytest.mark.parametrize("where", ["script", pytest.param("notebook", marks=pytest.mark.slow)])
def test_the_seeds_example_runs(work, conn, where):
    """It runs unchanged with the steps of the page; in a notebook, cells run on the main thread in an event loop."""
    plate = make_plate(conn, {"A01": 1, "B02": 1}, shape=(1, 2, 1, 40, 40))
    config = f'global_config |= {{"output": "{where}", "heatmaps": []}}'
    code = "\n".join(
        [
            CONFIGURED,
            config,
            EXAMPLE.replace("[123]", f"[{plate}]"),
            f"    print(len(storage_registry['omero_local'].plate_structure({plate}, '{where}').wells['A01'].images))",
        ]
    )
    if where == "notebook":
        code = f"import asyncio\nasync def cell():\n    exec({code!r}, globals())\nasyncio.run(cell())"
    (work / "example.py").write_text(code)
    done = subprocess.run([sys.executable, "example.py"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr + "".join(p.read_text() for p in work.rglob("*.log"))
    assert done.stdout == "1\n"
    assert f"{where}_features.csv" in {file.name for file in list_texts(conn, "Plate", plate)}


def test_a_run_and_its_results(work, omero_server, conn, monkeypatch):
    import inverting

    plates = [make_plate(conn, {"A01": 2, "B03": 1}), make_plate(conn, {"A01": 1})]
    backend = OMEROLocalBackend(omero_conn=omero_server.login(conn.getUser().getName(), "pw"))
    monkeypatch.setitem(storage_registry.data, "omero_local", backend)
    for key in ("OMERO_HOST", "OMERO_PORT", "OMERO_USER", "OMERO_PASSWORD"):  # the backend says where the server is
        monkeypatch.delenv(key)
    events = []
    steps = [FunctionStep(inverting.invert, offset=3), inverting.picky]
    config = {"cores": 2, "heatmaps": []}
    results = PipelineOrchestrator(plates, steps, config, progress=events.append).run()
    assert list(results) == plates
    first = results[plates[0]]
    source, derived = load_plate(conn, plates[0]), load_plate(conn, first.derived_plate)
    for well, site in (("A01", 1), ("A01", 2), ("B03", 1)):
        image = read_site(conn, source.image(well, site))
        np.testing.assert_array_equal(read_site(conn, derived.image(well, site)), image.max() - image + 3)
    assert list(first.tables["features"]["bright"]) == [block(s).max() for s in (1, 2, 11)]
    assert list(first.tables["wells"]["well"]) == ["A01", "B03"]
    assert first.tables["objects"].empty
    attached = ["features.csv", "wells.csv"]
    assert first.annotations == {
        plates[0]: [f"processed_{name}" for name in attached],
        first.derived_plate: sorted([*attached, "columns.csv", "run.yaml"]),
    }
    wells = [(e["plate"], e["well"], e["state"]) for e in events if e["event"] == "well"]
    assert sorted(wells) == sorted(
        (plate, well, state)
        for plate, well in [(plates[0], "A01"), (plates[0], "B03"), (plates[1], "A01")]
        for state in ("running", "done")
    )
    done = [e for e in events if e["event"] == "well" and e["state"] == "done"]
    assert done[-1]["counts"] == {"done": 3}
    assert {row["bright"] for e in done if e["plate"] == plates[0] for row in e["results"]} == {
        str(block(s).max()) for s in (1, 2, 11)
    }
    jobs = [(e["done"], e["total"]) for e in events if e["event"] == "jobs"]
    assert jobs[-1][0] == jobs[-1][1]

    events.clear()  # for the second run
    again = PipelineOrchestrator([str(plates[0]), f"/omero/plate_{plates[1]}"], steps, config, events.append).run()
    assert again[plates[0]].derived_plate == first.derived_plate
    assert not [e for e in events if e["event"] == "well"]
    assert any("Nothing to be done" in e.get("line", "") for e in events)


@pytest.mark.slow
def test_wells_that_fail_are_named(work, conn):
    import inverting

    plate = make_plate(conn, {"A01": 1, "B02": 1, "C03": 1})
    step = FunctionStep(inverting.picky, bad=["A01", "C03"])
    with pytest.raises(PipelineError) as caught:
        PipelineOrchestrator([plate], [step], {"cores": 2}).run()
    sentence = str(caught.value)
    assert sentence.startswith("2 wells failed: ") and "\n" not in sentence
    assert caught.value.wells == {(plate, well): f"ValueError: can't bear {well}" for well in ("A01", "C03")}
    assert all(f"{well} of plate {plate} (ValueError: can't bear {well})" in sentence for well in ("A01", "C03"))
    assert (work / "results" / f"plate_{plate}_processed" / "processed" / "B02.zip").exists()
    (work / "mine").mkdir()
    (work / "mine" / "config.yaml").write_text("executor: local\ncores: 1\n")
    results = PipelineOrchestrator([plate], [inverting.picky], {"profile": "mine", "heatmaps": []}).run()  # fixed
    assert "Provided cores: 1" in (work / "results" / "pipeline.log").read_text().rpartition("Building DAG")[2]
    assert list(results[plate].tables["features"]["well_is"]) == ["A01", "B02", "C03"]


def test_an_interrupt_that_comes_while_snakemake_prints_is_not_lost():
    class Interrupting(io.StringIO):
        def flush(self):
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            ColorizingTextHandler(stream=Interrupting()).emit(logging.makeLogRecord({"msg": "Execute 1 jobs..."}))
            threading.Event().wait(30)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_job_that_starts_during_a_cancellation_does_not_keep_the_run_going():
    script = """
        import signal
        import subprocess
        import threading

        from openhcs_omero.core.orchestrator import head
        from openhcs_omero.core.orchestrator.snakemake_faults import interrupt

        head.JOB_PATIENCE = 0.5
        signal.signal(signal.SIGINT, interrupt)
        ended = threading.Event()
        try:
            threading.Thread(target=head._cancel_at_end_of_input, args=(ended,), daemon=True).start()
            threading.Event().wait(60)
        except KeyboardInterrupt:
            threading.Thread(target=lambda: print(subprocess.run(["sleep", "600"]).returncode)).start()
        finally:
            ended.set()
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdin=subprocess.DEVNULL,
        timeout=120,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert (ended.returncode, ended.stdout) == (0, "-9\n")


@pytest.mark.slow
def test_a_cancelled_run_can_be_resumed(work, conn):
    import inverting

    plate = make_plate(conn, {"A01": 1})
    orchestrator = PipelineOrchestrator([plate], [inverting.deaf], {"cores": 1, "heatmaps": []})
    caught = []

    def run():
        try:
            orchestrator.run()
        except PipelineError as error:
            caught.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    wait_for((work / "gate").exists)
    with pytest.raises(PipelineError, match=r"another run is active in .*unlock\(\)"):
        PipelineOrchestrator([plate], [inverting.invert], {"cores": 1, "heatmaps": []}).run()
    orchestrator.cancel()
    thread.join(head.CANCEL_PATIENCE + 30)
    assert caught == ["the run was cancelled; finished work is kept, and a new run continues from there"]

    def interrupt(event):
        if event.get("state") == "running" and event["event"] == "well":
            raise KeyboardInterrupt

    (work / "gate").unlink()
    with pytest.raises(KeyboardInterrupt):  # Ctrl-C
        PipelineOrchestrator([plate], [inverting.endless], {"cores": 1, "heatmaps": []}, interrupt).run()
    assert not processes_in(work), "the run outlived its caller"
    steps = [{"call": "inverting:picky"}]  # as it is written in the configuration
    assert PipelineOrchestrator([plate], steps, {"cores": 1, "heatmaps": []}).run()[plate].derived_plate


def processes_in(folder, name="python"):
    """Ids of other processes with `name` in their command line that work in `folder` or below it."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and int(process.name) != os.getpid():
            try:
                words = (process / "cmdline").read_bytes().decode()
                inside = str(folder) in os.readlink(process / "cwd")
            except OSError:
                continue
            if inside and name in words:
                found.append(int(process.name))
    return found


def test_other_failures_are_one_sentence(work, conn):
    plate = make_plate(conn, {"A01": 1})
    with pytest.raises(PipelineError, match="has no function 'nothing'") as caught:
        PipelineOrchestrator([plate], ["inverting:nothing"], {"cores": 1}).run()
    assert "\n" not in str(caught.value) and "Traceback" not in str(caught.value)
    with pytest.raises(PipelineError, match="there is no plate 999999"):
        PipelineOrchestrator([999999], ["inverting:invert"], {"cores": 1}).run()


def test_steps_that_jobs_can_not_import(work):
    import inverting

    def local(image, filemanager, metadata, backend="disk"):
        return image, {}

    for step, reason in [
        (lambda image: image, r"step 1 is a lambda \(.*test_orchestrator.py, line \d+\)"),
        (local, "step 1 .* is defined inside another function"),
        (FunctionStep(local), "step 1 .* is defined inside another function"),
        (partial(inverting.invert, offset=1), r"not a function: pass a function, or FunctionStep\(func, \*\*params\)"),
        (7, "step 1 is 7 which is not a function"),
    ]:
        with pytest.raises(StepError, match=reason):
            PipelineOrchestrator([1], [step])
    program = (
        "from openhcs_omero.core.orchestrator.orchestrator import PipelineOrchestrator\n"
        "def own(image, filemanager, metadata, backend='disk'):\n    return image, {}\n"
        "try:\n    PipelineOrchestrator([1], [own])\nexcept Exception as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "step 1 (own) is defined in the script or notebook itself" in done.stdout


def test_names_of_steps(work):
    import inverting

    entries = configured([inverting.invert, FunctionStep(inverting.picky, name="second", channels=[0], bad=["A01"])])
    assert entries == [
        {"call": "inverting:invert"},
        {"call": "inverting:picky", "name": "second", "channels": [0], "params": {"bad": ["A01"]}},
    ]
    assert import_folders(entries) == [str(work / "lib")]
    assert import_folders([{"call": "json:dumps"}, {"call": "numpy.linalg:norm"}]) == []


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"wels": ["A01"]}, "unknown key 'wels': did you mean 'wells'"),
        ({"plates": [1]}, "'plates', which is a separate argument"),
        ({"cores": 0}, "cores 0, but it must be"),
        ({"profile": "nowhere"}, "there is no profile 'nowhere'"),
        ({"output": "a/b"}, "consist of letters, digits"),
    ],
)
def test_invalid_configurations(work, config, sentence):
    with pytest.raises(ConfigError, match=sentence):
        PipelineOrchestrator([1], ["inverting:invert"], config)
    assert not (work / "results").exists()


def test_invalid_plates_and_params(work):
    for plate in ("/omero/plate_7/A01", "/omero/plate_x", "/omero/"):
        with pytest.raises(PlateError, match="expected"):
            PipelineOrchestrator([plate], ["inverting:invert"])
    with pytest.raises(ConfigError, match="numbers, text, lists and dicts"):
        PipelineOrchestrator([1], [{"call": "inverting:invert", "params": {"offset": {1, 2}}}])
    with pytest.raises(ConfigError, match="keys must be text"):
        configured([FunctionStep(print, offset=[{1: 2}])])
    with pytest.raises(OpenHCSError, match="it must not be empty"):
        PipelineOrchestrator([1], [])


def test_an_installation_includes_the_workflow(monkeypatch, tmp_path):
    """The package installs every file of the workflow, and finds it there."""
    installed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["data-files"]
    there = set()
    for folder, patterns in installed.items():
        for pattern in patterns:
            for file in ROOT.glob(pattern):
                assert Path(folder).relative_to("share/openhcs_omero") == file.parent.relative_to(ROOT)
                there.add(file)
    folders = [ROOT / folder for folder in ("workflow", "profiles", "cluster")]
    needed = [ROOT / "Snakefile", *(path for folder in folders for path in folder.rglob("*") if path.is_file())]
    assert there >= {path for path in needed if "__pycache__" not in path.parts}
    share = tmp_path / "share" / "openhcs_omero"
    (share / "cluster").mkdir(parents=True)
    (share / "Snakefile").touch()
    (share / "cluster" / "config.yaml").touch()
    from openhcs_omero.core.orchestrator import snakefile

    assert find_workflow() == ROOT
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(snakefile, "CLONE", tmp_path)
    monkeypatch.setattr(snakefile.sysconfig, "get_path", lambda name: str(tmp_path))
    assert find_workflow() == share
    assert find_profile("cluster") == share / "cluster"


def test_the_table_of_the_page_is_complete():
    """It has the keys that global_config takes in addition to those of the configuration."""
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE) == ["cores", "profile"]
    for name in ("FunctionStep", "PipelineError", "PipelineOrchestrator", "PlateResult"):
        assert name in PAGE and hasattr(module, name)
    json.dumps(CONFIGURED)
