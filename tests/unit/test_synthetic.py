"""The synthetic screen: the same seed gives the same plate, and the truth matches the images."""

import numpy as np
import tifffile

from openhcs_omero.processing.synthetic import Screen, illumination, sites, write_plate

SMALL = Screen(rows=1, columns=3, sites=1, size=128)


def test_a_seed_makes_one_plate():
    first, again = list(sites(SMALL)), list(sites(SMALL))
    other = list(sites(Screen(rows=1, columns=3, sites=1, size=128, seed=2)))
    assert [truth for truth, _ in first] == [truth for truth, _ in again]
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(first, again))
    assert not np.array_equal(first[0][1], other[0][1])


def test_the_default_screen_is_suitable_for_the_demo():
    screen = Screen()
    assert screen.rows * screen.columns >= 24 and screen.sites >= 2
    doses = [screen.dose(column) for column in range(screen.columns)]
    expected = [screen.expected_spots_per_cell(column) for column in range(screen.columns)]
    assert doses == sorted(doses) and doses[0] == 0 and doses[-1] == 10
    assert expected == sorted(expected) and expected[-1] > 10 * expected[0]


def test_images_are_16_bit_with_two_channels():
    truth, image = next(sites(SMALL))
    assert (truth.well, truth.site, truth.dose) == ("A01", 1, 0.0)
    assert image.shape == (2, 128, 128) and image.dtype == np.uint16
    assert image.min() > 90 and image.max() < 65535


def test_the_light_is_uneven_and_differs_by_channel():
    green, blue = illumination(256, 0), illumination(256, 1)
    assert np.isclose(green.mean(), 1) and green.max() / green.min() > 2
    assert np.abs(green / blue - 1).max() > 0.2


def test_write_plate_names_the_files_for_the_import(tmp_path):
    truths = write_plate(tmp_path, SMALL)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[:2] == ["A01_s001_z000_c000.tif", "A01_s001_z000_c001.tif"] and len(names) == 6
    assert [truth.well for truth in truths] == ["A01", "A02", "A03"]
    assert np.array_equal(tifffile.imread(tmp_path / names[1]), next(sites(SMALL))[1][1])
