"""Kept images: a change behind a step with `keep: true` starts there, and the results are those of a whole run."""

import math
import multiprocessing
import os
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from plate_folders import images_of, write_imagexpress

from openhcs_omero.core import rules
from openhcs_omero.core.config import Step, read_config
from openhcs_omero.core.config_check import check_config
from openhcs_omero.core.inspection import look, prepare
from openhcs_omero.core.kept import KeptWell, keys_of
from openhcs_omero.core.kept_file import NotKept, read_kept, write_kept
from openhcs_omero.core.steps.running import SiteResult
from openhcs_omero.core.well_file import open_part, well_file
from openhcs_omero.errors import ConfigError, StepError
from openhcs_omero.io.disk import DiskBackend
from openhcs_omero.io.staged import StagedFiles
from openhcs_omero.plates.image import WellFile

SCHEMA = Path(__file__).parents[2] / "workflow" / "schemas" / "config.schema.yaml"

# ---- files

NUMBERS = [np.float32(0.1), np.float64(0.1), np.int16(-3), np.uint64(2**64 - 1), np.bool_(True), np.float16(2)]
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from(NUMBERS))
values = st.one_of(scalars, st.lists(scalars, max_size=3), st.tuples(scalars, scalars))
rows = st.dictionaries(st.text(min_size=1, max_size=6), values, max_size=4)
DTYPES = ["u1", "u2", "i4", "f2", "f4", "f8", "?", "u8"]


def noise(dtype, shape, black):
    pixels = np.random.default_rng(len(dtype)).integers(0, 256, shape, np.uint8)
    return (pixels * (not black)).astype(dtype)


images = st.builds(noise, st.sampled_from(DTYPES), st.tuples(*[st.integers(1, 3)] * 5), st.booleans())
results = st.builds(
    SiteResult,
    images,
    rows,
    st.lists(rows, max_size=2),
    st.dictionaries(st.text("ab-", min_size=1, max_size=3), images, max_size=2),
    st.just(1),
)


def same(one, other):
    """Whether two values are the same, with their types."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    return one == other or (one != one and other != other)


@settings(max_examples=25, phases=[Phase.generate])  # to shrink an example takes minutes
@given(st.dictionaries(st.integers(1, 99), results, min_size=1, max_size=2), st.binary(max_size=9))
def test_everything_is_restored_with_its_type(tmp_path_factory, sites, data):
    path = tmp_path_factory.mktemp("kept") / "a.zip"
    files = {"/p/A01/x.bin": WellFile(None, "x.bin", data)}
    write_kept(path, list(sites.items()), files)
    read, again = read_kept(path)
    assert again == files and [site for site, _ in read] == list(sites)
    for done, before in zip((done for _, done in read), sites.values()):
        assert same(vars(done), vars(before)) and done.image.flags.c_contiguous


def site(seed=0):
    image = np.random.default_rng(seed).integers(0, 99, (1, 2, 1, 8, 9)).astype(np.uint16)
    return 1, SiteResult(image, {"x": 1.5}, [{"label": 1}], {"cells": image[:, :1] // 50}, 1)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("kept") / "a.zip"
    write_kept(path, [site()], {"a": WellFile(1, "a", b"abc")})
    return path


@settings(max_examples=60)
@given(st.data())
def test_damage_is_noticed(written, data):
    whole = written.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    cut = data.draw(st.booleans())
    damaged = written.with_name("damaged.zip")
    damaged.write_bytes(whole[:place] if cut else whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
    try:
        [(number, done)], files = read_kept(damaged)
    except (NotKept, OSError):
        return
    assert not cut and number == 1 and same(vars(done), vars(site()[1])) and files == {"a": WellFile(1, "a", b"abc")}


def test_what_can_not_be_restored_is_not_kept(tmp_path):
    with pytest.raises(NotKept, match="a value of type complex can't be kept"):
        write_kept(tmp_path / "a.zip", [(1, SiteResult(np.ones((1,) * 5), {"x": 1j}, [], {}, 1))], {})


# ---- which files there are

STEP = Step(1, "openhcs_omero.processing.spots:count_spots", keep=True)


def kept_well(scratch, plate="plate_7_processed", well="A01", key="abc", limit=math.inf):
    files = StagedFiles(DiskBackend(), "/p", well, [1])
    return KeptWell(scratch, limit, plate, well, {1: key}, files)


def keep(scratch, *args, **kwargs):
    list(kept_well(scratch, *args, **kwargs).after(STEP, [site()]))


def test_the_last_of_several_steps(tmp_path):
    files = StagedFiles(DiskBackend(), "/p", "A01", [1])
    kept = KeptWell(tmp_path, math.inf, "plate_7", "A01", {1: "abc", 3: "def", 12: "ghi"}, files)
    for position in (1, 3):
        list(kept.after(replace(STEP, position=position), [site(position)]))
    [(_, done)] = kept.latest()[1]
    assert kept.latest()[0] == 3 and same(vars(done), vars(site(3)[1]))
    next(tmp_path.rglob("A01_3_*")).unlink()
    assert kept.latest()[0] == 1


def names(scratch):
    return sorted(path.relative_to(scratch / "kept").as_posix() for path in (scratch / "kept").rglob("*.zip"))


def test_the_plate_that_was_unused_for_longest_is_deleted_first(tmp_path, capsys):
    for age, plate in ((10, "old"), (30, "oldest"), (20, "older")):
        for well in ("A01", "A02"):
            keep(tmp_path, plate, well)
            file = next((tmp_path / "kept" / plate).glob(f"{well}*"))
            os.utime(file, (time.time() - age * 1000,) * 2)
    size = file.stat().st_size
    assert kept_well(tmp_path, "oldest").latest()[0] == 1  # it is used again, and the youngest now
    keep(tmp_path, "new", limit=5.5 * size)
    assert names(tmp_path) == ["new/A01_1_abc.zip", "old/A01_1_abc.zip", "old/A02_1_abc.zip"] + [
        f"oldest/{well}_1_abc.zip" for well in ("A01", "A02")
    ]
    keep(tmp_path, "new", "A02", limit=2.5 * size)
    assert names(tmp_path) == ["new/A01_1_abc.zip", "new/A02_1_abc.zip"]
    capsys.readouterr()
    keep(tmp_path, "new", "A03", limit=2.5 * size)  # a plate does not drive out its own wells
    assert names(tmp_path) == ["new/A01_1_abc.zip", "new/A02_1_abc.zip"]
    assert "of `scratch_gb`" in capsys.readouterr().out
    keep(tmp_path, "other", limit=0.5 * size)  # too large by itself, so no other plate has to go for it
    assert names(tmp_path) == ["new/A01_1_abc.zip", "new/A02_1_abc.zip"]
    keep(tmp_path, "new", "A02", key="def", limit=2.5 * size)  # replaces what the well had
    assert names(tmp_path) == ["new/A01_1_abc.zip", "new/A02_1_def.zip"]


def test_what_a_well_had_kept_after_other_steps_goes(tmp_path):
    """A step was put before the one with `keep: true`."""
    keep(tmp_path)
    files = StagedFiles(DiskBackend(), "/p", "A01", [1])
    moved = KeptWell(tmp_path, math.inf, "plate_7_processed", "A01", {2: "def"}, files)
    list(moved.after(replace(STEP, position=2), [site()]))
    assert names(tmp_path) == ["plate_7_processed/A01_2_def.zip"]


def test_what_killed_processes_left(tmp_path):
    keep(tmp_path)
    folder = tmp_path / "kept" / "plate_7_processed"
    [file] = folder.glob("*.zip")
    file.rename(folder / f".{file.name}.0.part")
    os.utime(folder / f".{file.name}.0.part", (1, 1))
    (folder / f".{file.name}.1.part").write_bytes(b"of a process that is still writing")
    (tmp_path / "kept" / ".0.old").mkdir()
    assert kept_well(tmp_path).latest() == (0, [])
    keep(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == [f".{file.name}.1.part", file.name]
    assert kept_well(tmp_path).latest()[0] == 1


def _use(scratch, number):
    for _ in range(6):
        kept = kept_well(scratch, limit=20_000)
        position, sites = kept.latest()
        if position:
            assert same(vars(sites[0][1]), vars(site()[1]))
        list(kept.after(STEP, [site()]))
        shutil.rmtree(scratch / "kept", ignore_errors=bool(number))


def test_several_processes_at_once(tmp_path):
    """They write, read and delete the same files."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_use, args=(tmp_path, number + 1)) for number in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]


# ---- wells

STEPS = """
import numpy as np

calls = []


def blur(image, filemanager, metadata, backend="disk", by=0.25, note="note.json"):
    calls.append("blur")
    path = f"{metadata['plate']}/{metadata['well']}/{metadata['well']}_s{metadata['site']:03d}_{note}"
    filemanager.save({"by": by, "site": metadata["site"]} if note.endswith("json") else image, path, backend=backend)
    return np.asfortranarray(image * by), {"sharp": np.float32(image.std())}


def label(image, filemanager, metadata, backend="disk"):
    calls.append("label")
    cells = (image[:, :1] > 30).astype(int)
    objects = [{"label": 1, "size": np.int32(cells.sum())}]
    return image, {"cells": cells.sum(), "objects": objects, "labels": {"cells": cells}}


def mean(image, filemanager, metadata, backend="disk", name="mean"):
    calls.append("mean")
    return image.astype("float32"), {name: image.mean(axis=(0, 2, 3, 4))[0], "seen": ", ".join(metadata["labels"])}
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """`run(**params of the last step)`: process the wells; returns the calls of functions, and all results as bytes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENHCS_OMERO_RUN", "test")
    Path("steps_of_kept.py").write_text(STEPS)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("steps_of_kept", None)
    write_imagexpress(Path("day_1"), images_of(["A01", "B03"], shape=(1, 2, 1, 16, 15)), guids=False)

    def process(blur=None, **params):
        config = {
            "plates": ["day_1"],
            "scratch": "scratch",
            "steps": [
                {"call": "steps_of_kept:blur", "params": blur or {}},
                {"call": "steps_of_kept:label", "keep": True},
                {"call": "steps_of_kept:mean", "params": params},
            ],
        }
        check_config(config, SCHEMA)
        look(config, then=prepare)
        conf, folder = read_config(config), Path("results/plate_day_1_processed")
        shutil.rmtree(folder / "images", ignore_errors=True)
        rules.derive(conf, "day_1", folder / "derived.json")
        made = {}
        for well in ("A01", "B03"):
            file = well_file(folder, well)
            failed = rules.process_well(conf, "day_1", well, folder / "derived.json", [], file, Path("log"))
            if failed is not None:
                raise StepError(failed.reason)
            for part in ("features.csv", "objects.csv", "thumbnail.npz"):
                with open_part(file, part) as stream:
                    made[well, part] = stream.read()
        for path in (folder / "images").rglob("*.*"):
            pixels = tifffile.imread(path) if path.suffix == ".tif" else None  # each TIFF has an id of its own
            made[path.name] = path.read_bytes() if pixels is None else (str(pixels.dtype), pixels.tobytes())
        calls = sys.modules["steps_of_kept"].calls
        called, calls[:] = list(calls), []
        return called, made

    return process


def test_a_file_of_a_step_with_the_name_of_the_file_of_labels(run):
    """One would replace the other."""
    with pytest.raises(
        StepError, match=r"a step saved 'Cells_labels.tif', which is the name of the file with the labels"
    ):
        run(blur={"note": "Cells_labels.tif"})


def test_a_change_starts_from_the_kept_images(run, capsys):
    whole = ["blur", "label", "mean"]
    called, first = run()
    assert sorted(called) == sorted(whole * 4)
    called, changed = run(name="average")
    assert called == ["mean"] * 4 and changed != first
    said = capsys.readouterr().out
    assert "starts from the images that step 2 left in scratch/kept/plate_day_1_processed/A01_2_" in said
    shutil.rmtree("scratch")
    called, again = run(name="average")
    assert sorted(called) == sorted(whole * 4) and again == changed  # byte for byte
    assert {name for name in again if "note" in name} == {
        f"{well}_s{site:03d}_note.json" for well in ("A01", "B03") for site in (1, 2)
    }

    [file] = Path("scratch").rglob("A01_2_*.zip")
    file.write_bytes(file.read_bytes()[:-30])
    called, again = run(name="average")
    assert sorted(called) == sorted(whole * 2 + ["mean"] * 2) and again == changed
    assert f"{file} is ignored, because it can't be read" in capsys.readouterr().out
    assert run(name="average")[0] == ["mean"] * 4  # it was written again

    called, other = run(blur={"by": 0.5})
    assert sorted(called) == sorted(whole * 4) and other != first


def test_a_scratch_that_can_not_be_written(run, capsys):
    """Nothing but time is lost."""
    Path("scratch").write_text("a file")
    called, _ = run()
    assert len(called) == 12 and "the images of step 2 (steps_of_kept:label) are not kept: " in capsys.readouterr().out


def test_what_the_hash_is_of(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "steps_of_keys.py").write_text("def f(image, filemanager, metadata, backend='disk', a=1):\n    pass\n")
    import steps_of_keys

    def keys(given="images", estimates="", last=1, **changed):
        steps = [
            Step(1, "steps_of_keys:f", **{"params": {"a": 2}, "keep": True, **changed}),
            Step(2, "steps_of_keys:f", keep=True),
            Step(3, "steps_of_keys:f", params={"a": last}),
        ]
        return keys_of([(step, steps_of_keys.f) for step in steps], given, {2: estimates})

    before = keys()
    assert list(before) == [1, 2] and keys(last=5) == before
    assert keys(keep=False) == {2: before[2]}  # it changes no image
    assert all(one != other for one, other in zip(keys("others").values(), before.values()))
    assert all(one != other for one, other in zip(keys(params={"a": 3}).values(), before.values()))
    assert keys(estimates="x")[1] == before[1] and keys(estimates="x")[2] != before[2]
    monkeypatch.setattr("openhcs_omero.core.kept.__version__", "99")
    assert keys()[1] != before[1]


def test_keep_needs_scratch():
    step = {"call": "openhcs_omero.processing.spots:count_spots", "keep": True}
    with pytest.raises(ConfigError, match=r"steps\[0\] has `keep: true`, but there is no `scratch`: name the"):
        check_config({"plates": [1], "steps": [step]}, SCHEMA)
    check_config({"plates": [1], "steps": [step], "scratch": "/tmp/x", "scratch_gb": 0.5}, SCHEMA)
    for changed in ({"scratch_gb": "5"}, {"scratch_gb": -1}, {"scratch": 5}, {"steps": [{**step, "keep": "yes"}]}):
        with pytest.raises(ConfigError):
            check_config({"plates": [1], "steps": [step], "scratch": "x", **changed}, SCHEMA)
