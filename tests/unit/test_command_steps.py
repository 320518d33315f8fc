"""Programs as steps: what a command may contain, how it is run and ended, and how its files become results."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile
import yaml
from hypothesis import given
from hypothesis import strategies as st

from openhcs_omero.core.command import PLACEHOLDERS, SHELL, check_shell, environment, open_quote, read_command
from openhcs_omero.core.command_versions import recall_commands, record_commands, resolve_commands
from openhcs_omero.core.config import read_config
from openhcs_omero.core.config_check import check_config
from openhcs_omero.core.failures import FailedWell, Failure
from openhcs_omero.core.needs import Needs
from openhcs_omero.core.orchestrator.orchestrator import PipelineOrchestrator
from openhcs_omero.core.provenance import describe_run
from openhcs_omero.core.records import to_json
from openhcs_omero.core.steps.command_step import CommandStep, Place
from openhcs_omero.core.steps.loading import load_step
from openhcs_omero.core.steps.processes import Scratch
from openhcs_omero.core.steps.running import SiteResult, StepFailed
from openhcs_omero.core.steps.source import step_record
from openhcs_omero.core.steps.written import read_written
from openhcs_omero.errors import ConfigError, StepError
from openhcs_omero.io.base import BadData
from openhcs_omero.io.formats import decode_planes
from openhcs_omero.io.ome_zarr import read_image
from openhcs_omero.plates.image import ImageMetadata

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "workflow" / "schemas" / "config.schema.yaml"
STEP = {"command": "tool {images} {out}", "read": {"image": "*.tif"}}
FUNCTION = {"call": "openhcs_omero.processing.spots:count_spots"}


def command(folder=".", **entry):
    return read_command({**STEP, **entry}, Path(folder))


# ---- what a command may contain

values = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=0, max_size=40)


@given(st.lists(st.tuples(st.sampled_from(["images", "out", "config_dir"]), values), min_size=1, max_size=4))
def test_placeholders_reach_the_program_as_they_are(given_values):
    names = dict(given_values)
    text = "printf '%s\\0' " + " ".join(f"{{{name}}}/x y" for name in names) + " 'a b' {{c}}"
    done = subprocess.run([*SHELL, "-c", command(command=text).expanded(names)], stdout=subprocess.PIPE, check=True)
    expected = [word for value in names.values() for word in (f"{value}/x", "y")]
    assert done.stdout.decode().split("\0")[:-1] == [*expected, "a b", "{c}"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", ""),
        ("a 'b' \"c\" d\\'", ""),
        ("a '", "inside '...'"),
        ('a "b\\"', 'inside "..."'),
        ("a 'b\\'", ""),
        ("a \\", "after a backslash"),
        ("a # don't", "in a comment"),
        ("a # don't\nb ", ""),
        ("a#'b", "inside '...'"),
    ],
)
def test_open_quotes(text, says):
    assert open_quote(text) == says


KNOWN = "known are {images}, {out}, {config_dir}, {well}, {plate}, {site}, {threads}; write braces"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"command": "tool {imges}"}, "steps[0].command has the unknown placeholder {imges}: " + KNOWN),
        ({"command": "tool {}"}, "the unknown placeholder {}"),
        ({"command": "tool {images!r}"}, "the unknown placeholder {images!r}"),
        ({"command": "awk '{print $1}'"}, "the unknown placeholder {print $1}"),
        ({"command": "tool } {images}"}, "has braces that don't match"),
        ({"command": "tool '{images}'"}, "has {images} inside '...'': remove the quotes".replace("''", "'")),
        ({"command": "tool {site}", "per": "well"}, "the unknown placeholder {site}"),
        ({"command": "  "}, "steps[0].command is empty"),
        ({"per": "plate"}, "steps[0].per is 'plate', but it must be well or site"),
        ({"images": "png"}, "steps[0].images is 'png', but it must be ome-tiff or ome-zarr"),
        ({"read": {"image": "/tmp/*.tif"}}, "steps[0].read.image is '/tmp/*.tif', but it must name files below {out}"),
        ({"read": {"labels": {"a": "../*.tif"}}}, "read.labels.a is '../*.tif', but it must name files below {out}"),
        ({"read": {"tables": ["a.csv", "x/../../b.csv"]}}, "read.tables[1] is 'x/../../b.csv', but it must"),
        ({"read": {"labels": {"a/b": "*"}}}, "read.labels is 'a/b', but it must consist of letters, digits, - and _"),
        ({"read": {}}, "steps[0].read names no image, labels or tables"),
        ({"read": {"key": "a"}}, "steps[0].read names no image, labels or tables"),
        ({"read": {"imagee": "a"}}, "unknown key 'imagee' in steps[0].read: did you mean 'image'?"),
        ({"resources": {"mem_mb": "8G"}}, "steps[0].resources.mem_mb is '8G', but it must be a whole number"),
        ({"resources": {"runtime": 0}}, "steps[0].resources.runtime is 0, but it must be at least 1"),
        ({"resources": {"gpu": 10**20}}, "resources.gpu is 100000000000000000000, but it must be at most 1000"),
        ({"resources": {"gpus": 1}}, "unknown key 'gpus' in steps[0].resources: did you mean 'gpu'?"),
        ({"version": 1.2}, "steps[0].version is 1.2, but it must be text, or {command: ...} for the command"),
        ({"files": "a"}, "steps[0].files is 'a', but it must be a list of paths, or a mapping"),
        ({"call": "a:b"}, "steps[0] has both call and command: keep one of them"),
        ({"params": {}}, "steps[0] has 'params', which is only for steps with 'call'"),
    ],
)
def test_bad_commands(changed, says):
    with pytest.raises(ConfigError) as error:
        check_config({"plates": [1], "steps": [{**STEP, **changed}]}, SCHEMA)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ({**FUNCTION, "per": "well"}, "steps[0] has 'per', which is only for steps with 'command'"),
        ({"command": "tool"}, "steps[0] has 'command', which is only for steps with 'read'"),
    ],
)
def test_keys_of_the_other_kind_of_step(step, says):
    with pytest.raises(ConfigError) as error:
        check_config({"plates": [1], "steps": [step]}, SCHEMA)
    assert says in str(error.value)


def test_the_shell_checks_the_syntax():
    assert check_shell(command(command="for f in {images}/*; do cat $f; done | sort > {out}/a")) == ""
    assert "syntax error" in check_shell(command(command="for f in {images}/*; do cat $f"))


def test_from_python_the_folder_is_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = PipelineOrchestrator([str(tmp_path / "day_1")], [STEP, FUNCTION["call"]]).settings
    assert settings.steps[0].command.folder == tmp_path


def test_all_placeholders_are_explained():
    readme = (ROOT / "config" / "README.md").read_text()
    assert [name for name in PLACEHOLDERS if f"`{{{name}}}`" not in readme] == []


# ---- what a well depends on


def resolved(folder, **entry):
    config = {"plates": [1], "steps": [FUNCTION, {**STEP, **entry}], "results": str(folder / "results")}
    check_config(config, SCHEMA)
    resolve_commands(config, str(folder))
    check_config(config, SCHEMA)  # it is still valid: the next run reads it
    return config


def test_a_well_depends_on_the_version_and_the_files(tmp_path):
    (tmp_path / "model").write_bytes(b"abc")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "x.R").write_text("1")
    entry = {"version": {"command": "cat model"}, "files": ["model", "lib"]}
    config = resolved(tmp_path, **entry)
    sha = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of "abc", from FIPS 180-2
    assert config["steps"][1]["version"] == "abc" and config["steps"][1]["files"]["model"] == sha
    assert config["config_dir"] == str(tmp_path)
    settings = read_config(config)
    [label] = settings.plates
    assert describe_run(config, settings, label, None, [], [])["steps"][1]["distributions"] == {"tool": "abc"}

    record_commands(config)
    of_job = {"plates": [1], "steps": [dict(FUNCTION), {**STEP, **entry}], "results": str(tmp_path / "results")}
    (tmp_path / "model").write_bytes(b"changed while the run runs")
    recall_commands(of_job)
    assert of_job == config

    def record(config):
        step = read_config(config).steps[1]
        return json.dumps(step_record(step, load_step(step)), sort_keys=True)

    before = record(config)
    assert record(resolved(tmp_path, **entry, resources={"mem_mb": 9})) != before  # the model has changed
    (tmp_path / "model").write_bytes(b"abc")
    assert record(resolved(tmp_path, **entry)) == before == record(resolved(tmp_path, **entry, resources={"gpu": 1}))
    (tmp_path / "lib" / "x.R").write_text("2")
    assert record(resolved(tmp_path, **entry)) != before
    (tmp_path / "lib" / os.fsdecode(b"\xff")).touch()  # a name that is no text
    assert record(resolved(tmp_path, **entry)) != before

    assert resolved(tmp_path, files={"model": sha.upper()})["steps"][1]["files"] == {"model": sha}
    with pytest.raises(ConfigError, match=f"step 2 .tool. expects the SHA-256 00 of .*model, which has {sha}: it is"):
        resolved(tmp_path, files={"model": "00"})


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"version": {"command": "echo no such tool >&2; exit 3"}}, "failed with exit code 3: no such tool"),
        ({"version": {"command": "true"}}, "'true' failed: it printed nothing"),
        ({"version": {"command": "yes"}}, "'yes' failed: it printed more than 10000 characters"),
        ({"files": ["absent.R"]}, "absent.R, which can't be read (No such file or directory)"),
    ],
)
def test_versions_and_files_that_can_not_be_had(tmp_path, changed, says):
    with pytest.raises(ConfigError) as error:
        resolved(tmp_path, **changed)
    assert says in str(error.value)


def test_a_command_for_a_version_that_does_not_end(tmp_path, monkeypatch):
    monkeypatch.setattr("openhcs_omero.core.command.VERSION_SECONDS", 0.5)
    with pytest.raises(ConfigError, match=r"failed: it took longer than 0.5 seconds"):
        command(tmp_path, version={"command": "sleep 1000 & echo $! > child; echo 1"}).resolved()
    wait_until(lambda: is_gone(int((tmp_path / "child").read_text())))


def test_resources_of_several_steps():
    each = [Needs.of({"resources": {"mem_mb": 5, "runtime": 2, "gpu": 1}}), Needs.of({"resources": {"runtime": 3}})]
    assert Needs.together([*each, Needs(threads=4)]) == Needs(5, 5, 1, 4) and Needs.together([]) == Needs()


# ---- how it is run and ended


def test_the_environment_has_no_omero(monkeypatch):
    for name in ("OMERO_PASSWORD", "OMERO_SESSIONDIR", "OMERO_HOST", "PYTHONPATH"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("MINE", "1")
    assert "secret" not in environment().values() and environment()["MINE"] == "1"


def is_gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(what, seconds=30):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_exit_codes(tmp_path):
    with Scratch(tmp_path) as scratch:
        scratch.run("exit 0")
        for text, says in {
            "exit 3": "ended with exit code 3; the log has its output",
            "false | true": "ended with exit code 1",
            "false; true": "ended with exit code 1",
            "echo $NOT_SET": "ended with exit code",
            "kill -TERM $$": "was ended by signal 15",
            "kill -KILL $$": "was killed, perhaps for lack of memory",
        }.items():
            with pytest.raises(StepError, match=says):
                scratch.run(text)


def test_what_a_command_prints(tmp_path, capfd):
    """Nobody waits for a daemon that prints on."""
    with Scratch(tmp_path) as scratch:
        scratch.run(r"echo one >&2; echo two | tee /dev/stderr; printf '\377\0\n'")
        scratch.run("head -c 200000 /dev/zero | tr '\\0' x; setsid sh -c 'while :; do echo daemon; done' & echo three")
    said = capfd.readouterr().out
    assert "\none\ntwo\ntwo\n" in said and "x" * 200_000 in said and "three" in said


def test_what_a_command_started_ends_with_it(tmp_path):
    with Scratch(tmp_path) as scratch:
        scratch.run("sleep 1000 & echo $! > child")
        wait_until(lambda: is_gone(int((scratch.folder / "child").read_text())))
        with pytest.raises(StepError, match=r"took longer than the 0.01 minutes of `runtime` in its resources"):
            scratch.run("trap '' TERM; sleep 1000 & echo $! > child; wait", seconds=0.6)
        wait_until(lambda: is_gone(int((scratch.folder / "child").read_text())))
        scratch.run("setsid sh -c 'echo $$ > daemon; exec sleep 1000' & until [ -s daemon ]; do :; done")
        daemon = int((scratch.folder / "daemon").read_text())
    assert is_gone(daemon)


OWNER = """
import sys
from pathlib import Path
from openhcs_omero.core.steps.processes import Scratch

with Scratch(Path(sys.argv[1])) as scratch:
    scratch.run("sleep 1000 & echo $! > child.part; mv child.part child; wait")
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_job_leaves_no_process_and_no_folder(tmp_path, number):
    scratch = tmp_path / "scratch"
    owner = subprocess.Popen([sys.executable, "-c", OWNER, scratch], start_new_session=True)
    wait_until(lambda: list(scratch.glob("*/child")))
    child = int(next(scratch.glob("*/child")).read_text())
    os.killpg(owner.pid, number)
    owner.wait()
    wait_until(lambda: is_gone(child) and not list(scratch.iterdir()))


def test_a_command_takes_no_longer_than_its_runtime(tmp_path, monkeypatch):
    monkeypatch.setattr("openhcs_omero.core.steps.command_step.MINUTE", 0.5)
    with pytest.raises(StepFailed, match=r"took longer than the .* of `runtime`") as error:
        run(tmp_path, command="sleep 30", resources={"runtime": 1})
    assert error.value.site == 3
    run(tmp_path, command=COPY, read={"image": "*.tif"}, resources={"runtime": 9})


def test_folders_that_killed_jobs_left(tmp_path):
    """Where nothing survived that could have removed them, the next command does."""
    with Scratch(tmp_path) as running:
        left = tmp_path / "openhcs_omero_left"
        left.mkdir()
        (left / ".lock").touch()
        (tmp_path / "openhcs_omero_new").mkdir()
        for folder in (left, running.folder):
            os.utime(folder, (1, 1))
        with Scratch(tmp_path):
            assert not left.exists() and running.folder.exists() and (tmp_path / "openhcs_omero_new").exists()


# ---- what it wrote

STEMS = {1: "A01_s001", 3: "A01_s003"}
SHAPES = {1: (1, 2, 1, 4, 5), 3: (1, 2, 1, 4, 5)}
PLANES = np.arange(40, dtype=np.uint16).reshape(1, 2, 1, 4, 5)


def written(folder, stems=STEMS, **read):
    return read_written(command(read=read), folder, stems, {site: SHAPES[site] for site in stems})


def test_images_and_labels(tmp_path):
    for site, stem in STEMS.items():
        tifffile.imwrite(tmp_path / f"{stem}_out.tif", PLANES[0, :, 0] + site, photometric="minisblack", metadata=None)
        (tmp_path / stem).mkdir()
        tifffile.imwrite(tmp_path / stem / "mask.tif", np.full((4, 5), site, np.uint8))
    found = written(tmp_path, image="*_out.tif", labels={"cells": "*/mask.tif"})
    np.testing.assert_array_equal(found[3].image, PLANES + 3)
    assert found[1].labels["cells"].shape == (1, 1, 1, 4, 5) and found[3].labels["cells"].max() == 3


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"ome": True, "metadata": {"axes": "ZCYX"}}, (1, 3, 2)),
        ({"imagej": True, "metadata": {"axes": "ZCYX"}}, (1, 3, 2)),
        ({"imagej": True, "metadata": {"axes": "ZYX"}}, (1, 2, 3)),  # as ImageJ saves what it takes for a stack
        ({"metadata": None, "photometric": "minisblack"}, (1, 2, 3)),
        ({"photometric": "minisblack"}, (1, 2, 3)),
    ],
)
def test_the_order_of_planes(tmp_path, options, expected):
    """If the file does not name its planes, they are in the order of the input."""
    pages = np.arange(6 * 20, dtype=np.uint16).reshape(6, 4, 5)
    shaped = pages.reshape(2, 3, 4, 5) if "ZCYX" in str(options) else pages
    tifffile.imwrite(tmp_path / "a.tif", shaped, **options)
    image = decode_planes((tmp_path / "a.tif").read_bytes(), "a.tif", [(1, 2, 3)])
    assert image.shape == (*expected, 4, 5)
    in_order = image if expected == (1, 2, 3) else image.swapaxes(1, 2)
    np.testing.assert_array_equal(in_order.reshape(6, 4, 5), pages)


def test_planes_of_which_the_place_is_not_known(tmp_path):
    """A program that projects a stack may leave out z, and only an image of one channel and timepoint may have any."""
    file = tmp_path / "a.tif"
    for count, size, expected in [(2, (1, 2, 3), (1, 2, 1)), (5, (1, 1, 3), (1, 1, 5)), (4, (1, 2, 3), None)]:
        tifffile.imwrite(file, np.zeros((count, 4, 5), np.uint16), photometric="minisblack")
        t, c, z = size
        if expected:
            assert decode_planes(file.read_bytes(), "a.tif", [(t, c, z), (t, c, 1)]).shape[:3] == expected
        else:
            with pytest.raises(BadData, match=r"has 4 planes and does not say which they are, where 6 or 2 would"):
                decode_planes(file.read_bytes(), "a.tif", [(t, c, z), (t, c, 1)])


def test_pipes_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "A01_s001.tif")
    with pytest.raises(StepError, match=r"wrote A01_s001.tif, which is neither a file nor a folder"):
        written(tmp_path, {1: "A01_s001"}, image="*.tif")
    with pytest.raises(ConfigError, match=r"A01_s001.tif, which is neither a file nor a folder"):
        command(tmp_path, files=["A01_s001.tif"]).resolved()


def tables(folder, files, **read):
    for name, text in files.items():
        (folder / name).write_text(text)
    return written(folder, tables=list(read.pop("names", files)), **read)


def test_tables_of_sites_and_of_objects(tmp_path):
    files = {
        "Image.csv": '"","ImageNumber","mean","note"\n"1",2,2.5,NA\n"2",1,,x\n',
        "Cells.csv": "ImageNumber,ObjectNumber,size\n1,7,30\n1,8,\n",
        "Spots.tsv": "ImageNumber\tlabel\n2\t1\n",
    }
    for site, stem in STEMS.items():
        for name in ("cells", "nuclei"):
            tifffile.imwrite(tmp_path / f"{stem}_{name}.tif", np.full((4, 5), site, np.uint8))
    labels = {"cells": "*_cells.tif", "nuclei": "*_nuclei.tif"}
    found = tables(tmp_path, files, key="ImageNumber", labels=labels)
    assert found[1].results == {"mean": None, "note": "x"} and found[3].results == {"mean": 2.5, "note": None}
    assert found[1].objects == [
        {"label": 7, "size": 30, "labels": "cells"},
        {"label": 8, "size": None, "labels": "cells"},
    ]
    assert found[3].objects == [{"label": 1, "labels": None}]

    by_name = {"a.csv": "image,x\n/tmp/A01_s003.ome.tif,3\nA01_s001,1\n"}
    assert tables(tmp_path, by_name, key="image")[3].results == {"x": 3}
    per_site = {"A01_s001_b.csv": "x\n1\n", "A01_s003_b.csv": "x\n3\n"}
    assert tables(tmp_path, per_site, names=["*_b.csv"])[3].results == {"x": 3}


KEYED = "k,x\n1,1\n2,2\n"


@pytest.mark.parametrize(
    ("files", "read", "says"),
    [
        ({}, {"image": "*_out.tif"}, "wrote no '*_out.tif' to {out}, but nothing"),
        ({"a.txt": "x"}, {"image": "*_out.tif"}, "wrote no '*_out.tif' to {out}, but only a.txt"),
        ({"A01_s001.tif": ""}, {"image": "*.tif"}, "wrote no file like '*.tif' for site 3; it must write one per site"),
        (
            {"A01_s001.tif": "", "A01_s003.tif": ""},
            {"image": "*.tif"},
            "wrote an image that can't be used: A01_s001.tif",
        ),
        (
            {"A01_s001.tif": "", "A01_s001_b.tif": ""},
            {"labels": {"a": "*.tif"}},
            "wrote 2 files (A01_s001.tif, A01_s001_b.tif) like '*.tif' for site 1",
        ),
        (
            {"a.csv": "k;x\n1;2\n"},
            {"tables": ["a.csv"]},
            "a.csv that is separated by ';': write .csv files with commas",
        ),
        ({"a.csv": KEYED}, {"tables": ["a.csv"]}, "wrote a.csv, which can't be joined to the sites: name its column"),
        ({"a.csv": KEYED}, {"tables": ["a.csv"], "key": "K"}, "without the column 'K', which `key` names; it has k, x"),
        ({"a.csv": "k,x\n1,1\n"}, {"tables": ["a.csv"], "key": "k"}, "the table a with 0 rows for site 3"),
        ({"a.csv": KEYED + "2,3\n"}, {"tables": ["a.csv"], "key": "k"}, "with 2 rows for site 3; it must have one, or"),
        ({"a.csv": KEYED + "3,3\n"}, {"tables": ["a.csv"], "key": "k"}, "a.csv: k is 3, but the images are A01_s001"),
        ({"a.csv": KEYED + ",3\n"}, {"tables": ["a.csv"], "key": "k"}, "a.csv: k is None, but"),
        ({"a.csv": "k,x\nA01_s0011,1\n"}, {"tables": ["a.csv"], "key": "k"}, "a.csv: k is 'A01_s0011', but"),
        ({"a.csv": KEYED + "1\n"}, {"tables": ["a.csv"], "key": "k"}, "row 4 has 1 values, but there are 2 columns"),
        ({"a.csv": ""}, {"tables": ["a.csv"], "key": "k"}, "an empty table a.csv"),
        ({"a.csv": "k,k\n1,1\n"}, {"tables": ["a.csv"], "key": "k"}, "two columns 'k'"),
        (
            {"a.csv": KEYED, "b.csv": KEYED},
            {"tables": ["a.csv", "b.csv"], "key": "k"},
            "two tables with the column 'x'",
        ),
        (
            {"a.csv": KEYED, "b.csv": KEYED},
            {"tables": ["*.csv"], "key": "k"},
            "2 tables like '*.csv', whose names don't",
        ),
    ],
)
def test_outputs_that_are_missing_or_misshapen(tmp_path, files, read, says):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(StepError) as error:
        written(tmp_path, **read)
    assert says in str(error.value)


def test_what_is_too_large_or_not_where_it_was_is_not_read(tmp_path):
    """Memory is enough for it, and other wells of the plate go on."""
    for name, read in {"a.tif": {"image": "*"}, "b.csv": {"tables": ["*"]}}.items():
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, 2**40)
        with pytest.raises(StepError, match=f"wrote {name} with {2**40} bytes, but at most"):
            written(tmp_path, stems={1: "A01_s001"}, **read)
        (tmp_path / name).unlink()
    (tmp_path / "c").mkdir()
    with pytest.raises(StepError, match="c is a folder, but not of OME-Zarr"):
        written(tmp_path, stems={1: "A01_s001"}, image="c")
    with pytest.raises(StepError, match=r"removed .out."):
        written(tmp_path / "absent", image="c")


def test_names_of_files_that_are_no_text_can_be_reported(tmp_path):
    with pytest.raises(StepFailed) as error:
        run(tmp_path, command=r"""touch {out}/"$(printf 'a\377.tif')" """)
    assert "a\\udcff.tif can't be read as TIFF" in error.value.reason
    to_json(FailedWell(Failure("7", "A01", 3, "step", error.value.reason, "a.log")))


def test_values_per_timepoint(tmp_path):
    (tmp_path / "a.csv").write_text("t,x\n1,5\n0,\n")
    read = command(read={"tables": ["a.csv"]})
    assert read_written(read, tmp_path, {1: "A01_s001"}, {1: (2, 1, 1, 4, 5)})[1].results == {"x": [None, 5]}
    with pytest.raises(StepError, match="without one row for each t from 0 to 2, site 1"):
        read_written(read, tmp_path, {1: "A01_s001"}, {1: (3, 1, 1, 4, 5)})


# ---- all of it

COPY = "cp -r {images}/. {out}; echo {site} of {well} in {plate} with {threads} > {out}/a.txt"
ABOUT = ImageMetadata(("DAPI", "GFP"), ((0, 0, 255), (0, 255, 0)), (None, 0.5, 0.65))


def run(tmp_path, site=3, **entry):
    config = {"plates": [1], "steps": [{**STEP, **entry}], "config_dir": str(tmp_path)}
    check_config(config, SCHEMA)
    place = Place("day_1", "A01", tmp_path / "scratch", 2)
    function = load_step(read_config(config).steps[0])
    assert isinstance(function, CommandStep)
    return dict(function.run([(site, SiteResult.of(PLANES), ABOUT)], place))[site]


@pytest.mark.parametrize(("images", "ending"), [("ome-tiff", "tif"), ("ome-zarr", "zarr")])
def test_an_image_goes_out_and_comes_back(tmp_path, images, ending):
    keep = f"; cp -r {{out}}/A01_s003.ome.{ending} {tmp_path}/seen.{ending}"
    done = run(tmp_path, command=COPY + keep, images=images, read={"image": f"*.{ending}"})
    np.testing.assert_array_equal(done.image, PLANES)
    assert done.image.dtype == np.uint16 and list((tmp_path / "scratch").iterdir()) == []
    if images == "ome-tiff":
        with tifffile.TiffFile(tmp_path / "seen.tif") as tiff:
            assert [name in tiff.ome_metadata for name in ("DAPI", 'PhysicalSizeX="0.65"')] == [True, True]
    else:
        seen = read_image(str(tmp_path / "seen.zarr"))
        assert seen.channels() == [("DAPI", (0, 0, 255)), ("GFP", (0, 255, 0))]
        assert seen.pixel_size[1:] == (0.5, 0.65)


def test_some_channels(tmp_path):
    """The command gets these, and what it returns takes their places."""
    tool = tmp_path / "tool.py"
    tool.write_text("import sys, tifffile\ntifffile.imwrite(sys.argv[2], tifffile.imread(sys.argv[1]) * 2)\n")
    entry = {"command": f"{sys.executable} {{config_dir}}/tool.py {{images}}/*.tif {{out}}/a.tif", "channels": [1]}
    done = run(tmp_path, **entry)
    np.testing.assert_array_equal(done.image[:, 0], PLANES[:, 0])
    np.testing.assert_array_equal(done.image[:, 1], PLANES[:, 1] * 2)
    tool.write_text("import sys, tifffile\ntifffile.imwrite(sys.argv[2], tifffile.imread(sys.argv[1])[:2])\n")
    with pytest.raises(StepFailed, match="with `channels`, it must have the shape"):
        run(tmp_path, **entry)


def test_a_failing_command_names_the_site(tmp_path):
    with pytest.raises(StepFailed) as error:
        run(tmp_path, command="exit 4")
    assert (error.value.site, error.value.reason) == (3, "ended with exit code 4; the log has its output")
    with pytest.raises(StepFailed) as error:
        run(tmp_path, command="exit 4", per="well")
    assert error.value.site is None and str(error.value) == f"step 1 (exit) {error.value.reason}"
    assert list((tmp_path / "scratch").iterdir()) == []


def test_scratch_folders_are_removed(tmp_path):
    with pytest.raises(KeyError), Scratch(tmp_path / "a" / "b") as scratch:
        (scratch.folder / "x").touch()
        raise KeyError
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_the_readme_shows_a_valid_command():
    text = (ROOT / "config" / "README.md").read_text()
    blocks = [yaml.safe_load(block.partition("```")[0]) for block in text.split("```yaml\n")[1:]]
    [shown] = [block for block in blocks if "command" in str(block.get("steps"))]
    check_config({"plates": [1], **shown}, SCHEMA)
