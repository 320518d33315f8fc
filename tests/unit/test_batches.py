"""Which wells go to a cluster together, and how much memory their job requests."""

from __future__ import annotations

import pytest

from openhcs_omero.core.batches import Pacing
from openhcs_omero.core.config import read_config
from openhcs_omero.core.pace import FIRST, MOST, Pace, batches, measure, took
from openhcs_omero.core.plan import Plan
from openhcs_omero.core.state import LIBRARIES_MB, PlateState, WellState, memory_of
from openhcs_omero.core.well_file import well_file, write_well_file
from openhcs_omero.plates.structure import ImageStructure, PlateStructure, WellStructure


@pytest.mark.parametrize(
    ("wells", "per_job", "expected"),
    [(0, 8, []), (1, 8, ["8_1"]), (8, 8, ["8_1"]), (9, 8, ["8_1", "8_2"]), (3, 1, ["1_1", "1_2", "1_3"])],
)
def test_every_well_has_a_batch(wells, per_job, expected):
    settings = read_config({"plates": [1], "steps": [], "wells_per_job": per_job})
    assert batches(settings, wells, None) == expected


@pytest.mark.parametrize(
    ("wells", "pace", "jobs"),
    [
        (384, None, 48),  # 8 wells per job where nothing was measured
        (1536, None, 77),
        (384, Pace(None), 48),
        (384, Pace(2.0), 2),  # 300 wells in ten minutes
        (384, Pace(60.0), 39),
        (384, Pace(3000.0), 77),
        (1536, Pace(3000.0), 77),  # a limited number of jobs, which take longer
        (3, Pace(0.01), 1),
    ],
)
def test_wells_per_job_follow_from_the_pace(wells, pace, jobs):
    names = batches(read_config({"plates": [1], "steps": []}), wells, pace)
    assert len(names) == jobs <= MOST
    size = int(names[0].split("_")[0])
    assert size * jobs >= wells > size * (jobs - 1)


def test_the_first_wells_are_measured(tmp_path):
    """The times of the wells are in their logs; a job with several CPUs needs less for each well."""
    config = {"plates": [1], "steps": [], "results": str(tmp_path)}
    settings = read_config(config)
    wells = {f"A{n:02}": WellState("", 0, n, 1) for n in range(1, 101)}
    pacing = Pacing(Plan(settings, {"1": PlateState("/omero/plate_1", "", 1, 1, wells, 0, 0)}))
    assert pacing.measures and pacing.first == "1" and pacing.well_minutes() == 15 and pacing.batch_minutes(4) == 1
    logs = settings.folder("1") / "logs"
    logs.mkdir(parents=True)
    for well, seconds in zip(wells, (9, 2, 4, 2.2, 100)):
        (logs / f"process_well_{well}.log").write_text(f"loading\n{took(seconds)}\n")
    assert FIRST == 4
    pacing.write(2, tmp_path / "pace.log")
    assert pacing.batches("1") == ["100_1"] and (settings.folder("1") / "batches" / "100_1").exists()
    assert pacing.well_minutes() == 0 and pacing.batch_minutes(100) == 5 + 8  # three times 155 s
    later = Pacing(pacing._plan)
    later.look()
    assert later.batches("1") == pacing.batches("1")
    (logs / "failed.log").write_text("Traceback")
    assert measure([logs / "failed.log", logs / "gone.log"], 1) == Pace(None)
    assert not Pacing(pacing._plan).measures, "the first wells were tried in vain"
    for well in wells:
        write_well_file(well_file(settings.folder("1"), well), "{}")
    assert Pacing(pacing._plan).measures
    per_job = read_config({**config, "wells_per_job": 50})
    assert not Pacing(Plan(per_job, {"1": PlateState("/omero/plate_1", "", 1, 1, wells, 0, 0)})).measures


def plate(sites: dict[str, int], dtype: str = "uint16", side: int = 1000) -> PlateStructure:
    """A plate with the given number of sites in each well, one channel, and arbitrary ids."""
    known = {name: list(range(1, n + 1)) for name, n in sites.items()}
    wells = {
        name: WellStructure(name, 0, i, {site: image(site, dtype, side) for site in numbers}, i)
        for i, (name, numbers) in enumerate(known.items())
    }
    return make(PlateStructure, wells=wells)


def image(site: int, dtype: str, side: int) -> ImageStructure:
    return make(ImageStructure, site=site, pixel_type=dtype, size_x=side, size_y=side, size_z=1, size_c=1, size_t=1)


def make(kind, **values):
    """An object with only the fields that a test needs."""
    made = object.__new__(kind)
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made


def test_memory_is_for_the_largest_well():
    """2 MB per site each for reading and writing, and 24 MB for a step's three copies of a megapixel."""
    assert memory_of(plate({"A01": 1, "A02": 9})) == LIBRARIES_MB + 9 * 2 * 2 + 24
    assert memory_of(plate({"A01": 1}, "uint8", 2000)) == LIBRARIES_MB + 2 * 4 + 96
