"""Snakemake's other commands, on plates in folders and without OMERO: their output, and that they change nothing."""

import re
from base64 import urlsafe_b64decode

import pytest
import yaml
from plate_folders import images_of, write_imagexpress
from snake import Workflow

from openhcs_omero.core.plate_tables import read_rows
from openhcs_omero.core.well_file import well_file

STEP = """
def measure(image, filemanager, metadata, backend="disk", factor=1):
    return image, {"bright": factor * int(image.max())}
"""
WELLS = ["A01", "A02", "B03"]


@pytest.fixture
def project(tmp_path):
    """Two plates in folders, and a step."""
    workflow = Workflow(None, None, tmp_path / "work")
    for name in ("day_1", "day_2"):
        write_imagexpress(workflow.folder / name, images_of(WELLS, sites=1, shape=(1, 1, 1, 6, 5)))
    (workflow.folder / "own.py").write_text(STEP)
    workflow.configure("day_1", steps=[{"call": "own:measure"}])
    return workflow


def tree(project):
    """All files with their modification times, except Snakemake's own."""
    files = (path for path in project.folder.rglob("*") if not {".snakemake", "__pycache__"} & set(path.parts))
    return {path: path.stat().st_mtime_ns for path in files}


def planned(said):
    """The wells that a dry run lists, each with its reason."""
    found = re.findall(r"Process well (\w+) of plate \w+\n +Reason: (.*)", said)
    return dict(sorted(found))


def files_of_wells(project):
    """The files that are left of each well, besides its images: the workflow's and Snakemake's."""
    kept = [path.relative_to(project.folder).as_posix() for path in project.results("day_1").rglob("*")]
    metadata = [path.name for path in (project.folder / ".snakemake" / "metadata").iterdir()]
    names = [name for name in kept if "/images/" not in name] + [urlsafe_b64decode(name).decode() for name in metadata]
    files = {well: [name for name in names if well in name] for well in WELLS}
    assert all(files.values()) and "results/plate_day_1_processed/processed/A01.zip" in files["A01"]
    return files


def test_a_dry_run_names_each_well_and_why_and_changes_nothing(project):
    before = tree(project)
    assert list(planned(project.succeed("-n").output)) == WELLS and tree(project) == before
    run = project.succeed()
    assert run.wells == WELLS and project.succeed("-n").nothing_done
    assert all(len(files) <= 3 for files in files_of_wells(project).values())

    derived = project.results("day_1") / "derived.json"
    derived.unlink()  # a run restores it before its first job
    well_file(project.results("day_1"), "A02").unlink()
    [(well, reason)] = planned(project.succeed("-n").output).items()
    assert well == "A02" and "the file of its results is gone" in reason and not derived.exists()
    assert project.succeed().wells == ["A02"] and derived.exists()


@pytest.mark.slow
def test_a_dry_run_names_wells_whose_images_or_steps_changed(project):
    project.succeed()
    (project.results("day_1") / "images" / "A02" / "A02_s001_z000_c000.tif").unlink()
    before = tree(project)
    [(well, reason)] = planned(project.succeed("-n").output).items()
    assert well == "A02" and "its derived images are gone or changed" in reason and tree(project) == before
    for command in ("--summary", "--list-params-changes", "--rulegraph", "--dag", "--touch"):
        project.succeed(command)
        assert set(tree(project)) == set(before), command
    assert project.succeed().wells == ["A02"]

    project.configure("day_1", steps=[{"call": "own:measure", "params": {"factor": 2}}])
    assert list(planned(project.succeed("-n").output)) == WELLS
    (project.results("day_1") / "wells.json").unlink()  # losing it costs nothing, and no well keeps its old values
    assert project.succeed().wells == WELLS
    assert project.succeed().nothing_done
    rows = read_rows(project.results("day_1") / "features.csv")
    assert [int(row["bright"]) % 2 for row in rows] == [0, 0, 0]


@pytest.mark.slow
def test_parts_of_a_run(project):
    jobs = project.succeed("--until", "process_well").jobs
    assert jobs == {"derive_plate": 1, "process_well": 3}
    jobs = project.succeed("--omit-from", "annotate").jobs
    assert jobs == {"wells": 1, "aggregate": 1, "heatmaps": 1, "montage": 1}
    assert project.succeed("--until", "aggregate").jobs == {}
    assert project.succeed().jobs == {"annotate": 1, "all": 1}
    project.configure("day_1", "day_2", steps=[{"call": "own:measure"}])
    table = str(project.results("day_2").relative_to(project.folder) / "wells.csv")
    assert project.succeed("--batch", "aggregate=1/3", table).wells == ["A01", "A02"]
    halves = [project.succeed("--batch", f"all={half}/2").wells for half in (1, 2)]
    assert [well for wells in halves for well in wells] == ["B03"]
    assert project.succeed().nothing_done


@pytest.mark.slow
def test_an_unreadable_plate_stops_only_itself(project):
    project.configure("nowhere", "day_1", "day_2", steps=[{"call": "own:measure"}])
    dry = project.succeed("-n")
    assert dry.output.count("Process well") == 6
    run = project()
    assert run.status == 1 and run.wells == sorted(2 * WELLS)
    assert "there is no folder nowhere" in run.output and "Traceback" not in run.output
    assert all((project.results(name) / "annotations.json").exists() for name in ("day_1", "day_2"))
    write_imagexpress(project.folder / "nowhere", images_of(WELLS, sites=1, shape=(1, 1, 1, 6, 5)))
    assert project.succeed().wells == WELLS


def test_commands_that_need_no_plate(project):
    """They work although the plates and the server don't exist."""
    project.configure(7, omero={"host": "no-such-host.invalid"})
    assert {"wells", "process_well", "all"} <= set(project.succeed("--list-rules").output.splitlines())
    for command in ("--containerize", "--unlock"):
        assert "Error" not in project.succeed(command).output
    found = set(re.findall(r"^ +\* (.*):$", project("--lint").output, re.MULTILINE))
    assert found == {"Specify a conda environment or container for each rule."}, "workflow/Snakefile says why"


@pytest.mark.slow
def test_later_commands_use_the_configuration_of_the_run(project):
    """README's recipe: the configuration file names another plate and changes after the run."""
    steps = [{"call": "own:measure", "params": {"factor": 2}}]
    project.configure(7, steps=steps, omero={"host": "no-such-host.invalid"})
    project.succeed("--config", "plates=[day_1]")
    project.configure(7, steps=[{"call": "own:measure", "params": {"factor": 99}}])
    project.succeed("--report", "report.html")
    report = (project.folder / "report.html").read_text()
    assert "factor 2" in report and "factor 99" not in report and "day_1" in report
    assert "process_well" in project.succeed("--rulegraph").output
    assert "day_1" in project.succeed("--dag").output
    kept = yaml.safe_load((project.folder / ".snakemake" / "openhcs_omero.json").read_text())
    assert kept["plates"] == ["day_1"] and kept["steps"] == steps


@pytest.mark.parametrize(
    ("steps", "heatmaps", "says"),
    [
        ([{"call": "own:measure", "params": {"factor": "2"}}], None, "has factor: '2' in its params"),
        (
            [{"call": "own:measure"}, {"call": "own:measure"}],
            None,
            "both return the column 'bright': give one of them a",
        ),
        ([{"call": "own:measure"}], ["brigth"], "heatmaps: the steps measure bright, but no 'brigth'"),
        ([{"call": "beside:measure"}], None, "but not by worker processes: move the module to the working directory"),
    ],
)
def test_errors_that_can_be_known_are_reported_before_anything_runs(project, steps, heatmaps, says):
    declared = STEP.replace("factor=1", "factor: int = 1") + '\n\nmeasure.features = {"bright": {}}\n'
    (project.folder / "own.py").write_text(declared)
    (project.folder / "there").mkdir()
    (project.folder / "there" / "beside.py").write_text(declared)
    (project.folder / "there" / "Snakefile").write_text(f'include: "{project.snakefile}"\n')
    project.configure("day_1", steps=steps, heatmaps=heatmaps or [])
    project.snakefile = project.folder / "there" / "Snakefile"
    run = project()
    [said] = [line for line in run.output.splitlines() if line.startswith("Error: ")]
    assert run.status == 1 and says in said and "File" not in run.output
    assert not (project.folder / "results").exists()
