"""Which wells go to a cluster together, and how much memory their job requests."""

from __future__ import annotations

import pytest

from openhcs_omero.core.config import read_config
from openhcs_omero.core.state import LIBRARIES_MB, memory_of
from openhcs_omero.plates.structure import ImageStructure, PlateStructure, WellStructure


@pytest.mark.parametrize(
    ("wells", "per_job", "batches"),
    [(0, 8, []), (1, 8, ["8_1"]), (8, 8, ["8_1"]), (9, 8, ["8_1", "8_2"]), (3, 1, ["1_1", "1_2", "1_3"])],
)
def test_every_well_has_a_batch(wells, per_job, batches):
    settings = read_config({"plates": [1], "steps": [], "wells_per_job": per_job})
    assert settings.batches(wells) == batches


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
