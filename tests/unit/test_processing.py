"""The steps against known truth: a synthetic plate, hand-made planes, and real images if they are available."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from openhcs_omero.errors import StepError
from openhcs_omero.processing.cells import cell_counting_cpu, label_cells, measure_cells
from openhcs_omero.processing.illumination import correct_illumination, estimate_illumination
from openhcs_omero.processing.metadata import construct_path
from openhcs_omero.processing.spots import count_spots, find_spots
from openhcs_omero.processing.synthetic import Screen, illumination, sites

TRANSFLUOR = Path(__file__).parents[3] / "shared" / "data" / "transfluor"
# From visual inspection: in these wells GFP has gathered into puncta; in all others it is diffuse.
PUNCTA = {1, 5, 6, 7, 8, 9}
DARK = 100
METADATA = {"plate": "/omero/plate_7_processed", "well": "A01", "site": 1}


class Saved(dict):
    """A file manager that keeps what is saved."""

    def save(self, data, path, backend):
        self[path, backend] = data


@pytest.fixture(scope="module")
def screen():
    return list(sites(Screen(rows=2, columns=6, sites=2)))


@pytest.fixture(scope="module")
def estimate(screen):
    return {c: estimate_illumination((image[c] for _, image in screen), dark=DARK) for c in (0, 1)}


def as_site(planes):
    return planes[None, :, None]


def blobs(places, size=64, sigma=1.5, height=100.0):
    y, x = np.mgrid[0:size, 0:size]
    return sum(height * np.exp(-((y - v) ** 2 + (x - u) ** 2) / (2 * sigma**2)) for v, u in places)


def rms(values):
    return float(np.sqrt(np.mean(np.square(values))))


# illumination


@pytest.mark.parametrize("channel", [0, 1])
def test_the_estimate_is_near_the_true_light(estimate, channel):
    light = illumination(512, channel)
    assert estimate[channel].dtype == np.float32 and np.isclose(estimate[channel].mean(), 1, atol=1e-3)
    assert rms(estimate[channel] / light - 1) < 0.07 < 0.2 < rms(1 / light - 1)


def test_basic_says_what_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "basicpy", None)
    with pytest.raises(StepError, match=r"pip install 'openhcs-omero\[basic\]', then pip install --no-deps basicpy"):
        estimate_illumination(iter([np.ones((8, 8))]), "basic")


def test_correction_flattens_and_keeps_the_type():
    light = illumination(64, 0).astype(np.float32)
    site = np.rint(900 * light + DARK).astype(np.uint16)[None, None, None]
    even, results = correct_illumination(site, None, {"plate_estimate": {0: light}}, dark=DARK)
    assert even.dtype == np.uint16 and results == {}
    assert np.abs(even.astype(int) - 1000).max() <= 2


def test_correction_clips_at_the_limit_of_the_type_and_leaves_other_channels():
    site = np.full((1, 2, 1, 4, 4), 200, np.uint8)
    even, _ = correct_illumination(site, None, {"plate_estimate": {1: np.full((4, 4), 0.5, np.float32)}}, channels=[1])
    assert (even[:, 1] == 255).all() and (even[:, 0] == 200).all() and (site == 200).all()


def test_dark_planes_give_a_flat_estimate_and_no_planes_an_error():
    assert (estimate_illumination(iter([np.zeros((8, 8), np.uint16)])) == 1).all()
    with pytest.raises(ValueError, match="no plane"):
        estimate_illumination(iter([]))


# spots


def test_spots_are_found_where_they_are():
    rng = np.random.default_rng(3)
    places = [(10, 12), (10, 40), (30, 31), (50, 9), (2, 60)]
    found, heights = find_spots(blobs(places) + rng.normal(50, 2, (64, 64)))
    assert sorted(map(tuple, found.tolist())) == sorted(places)
    assert heights.min() > 20


@pytest.mark.parametrize(
    "plane",
    [
        np.zeros((32, 32), np.uint8),
        np.full((32, 32), 4000, np.uint16),
        np.arange(64.0) + np.random.default_rng(5).normal(100, 1, (64, 64)),
    ],
)
def test_no_spots_in_planes_without_spots(plane):
    assert len(find_spots(plane)[0]) == 0


def test_no_spots_in_noise():
    assert len(find_spots(np.random.default_rng(0).poisson(100, (512, 512)))[0]) == 0


def test_counts_name_the_channel_list_timepoints_and_project_z():
    noise = np.random.default_rng(1).normal(50, 2, (2, 2, 3, 64, 64))
    noise[1, 1, 2] += blobs([(20, 20), (40, 40)])
    image, results = count_spots(noise, None, METADATA, channels=[1])
    assert image is noise
    assert results["spots_c1"] == [0, 2]
    assert results["spot_height_c1"][0] is None and results["spot_height_c1"][1] > 20
    assert not any("c0" in key for key in results)


def test_counts_are_near_the_truth(screen, estimate):
    measured = []
    for _, image in screen:
        even, _ = correct_illumination(as_site(image), None, {"plate_estimate": estimate}, dark=DARK)
        measured.append(count_spots(even, None, METADATA, channels=[0])[1]["spots_c0"])
    true = np.array([truth.spots for truth, _ in screen])
    assert np.abs(np.array(measured) - true).max() <= 3
    assert abs(sum(measured) / true.sum() - 1) < 0.01


@pytest.mark.skipif(not TRANSFLUOR.is_dir(), reason="the Transfluor images are not here")
def test_real_wells_with_puncta_stand_out():
    import tifffile

    planes = {
        tuple(map(int, re.search(r"_O(\d+)f(\d+)", path.name).groups())): tifffile.imread(path)
        for path in sorted(TRANSFLUOR.glob("*.TIF"))
    }
    light = {"plate_estimate": {0: estimate_illumination(iter(planes.values()))}}
    counts: dict[int, int] = dict.fromkeys(range(1, 25), 0)
    for (well, _), plane in planes.items():
        even, _ = correct_illumination(as_site(plane[None]), None, light)
        counts[well] += count_spots(even, None, METADATA)[1]["spots_c0"]
    active, silent = [counts[w] for w in PUNCTA], [counts[w] for w in counts if w not in PUNCTA]
    assert len(planes) == 72 and min(active) > 3 * max(silent), counts


# cells


def test_touching_nuclei_are_separated_and_small_objects_omitted():
    y, x = np.mgrid[0:96, 0:96]
    plane = np.random.default_rng(2).normal(100, 5, (96, 96))
    for v, u, radius in ((30, 30, 10), (30, 47, 10), (70, 70, 10), (70, 20, 2)):
        plane[(y - v) ** 2 + (x - u) ** 2 <= radius**2] += 500
    labels = label_cells(plane)
    cells = measure_cells(labels, plane)
    assert labels.dtype == np.int32 and labels.max() == len(cells) == 3
    assert labels[30, 30] != labels[30, 47] and labels[70, 20] == 0
    lone = next(cell for cell in cells if cell["y"] > 60)
    assert abs(lone["y"] - 70) < 0.5 and abs(lone["x"] - 70) < 0.5
    assert 280 < lone["area"] < 350 and 550 < lone["mean_intensity"] < 620 and lone["eccentricity"] < 0.4


@pytest.mark.parametrize("plane", [np.zeros((64, 64), np.uint16), np.random.default_rng(0).poisson(200, (256, 256))])
def test_no_nuclei_in_an_empty_field(plane):
    assert label_cells(plane).max() == 0


def test_cell_counting_follows_the_example_of_the_seed(screen):
    _, image = screen[0]
    saved = Saved()
    labelled, results = cell_counting_cpu(as_site(image), saved, METADATA, backend="omero", channels=[1])
    assert labelled.shape == (1, 2, 1, 512, 512) and labelled.dtype == np.uint16
    assert np.array_equal(labelled[0, 0, 0], image[0]) and labelled[0, 1].max() == results["cells_c1"]
    assert len(results["objects"]) == results["cells_c1"]
    kept = saved["/omero/plate_7_processed/A01/A01_s001_results.json", "omero"]
    assert kept == {key: value for key, value in results.items() if key != "objects"}
    labels = saved["/omero/plate_7_processed/A01/A01_s001_labeled.tif", "omero"]
    assert labels.dtype == np.uint16 and np.array_equal(labels, labelled[:, [1]])


def test_cell_counts_match_the_truth(screen, estimate):
    error = 0
    for truth, image in screen:
        even, _ = correct_illumination(as_site(image), None, {"plate_estimate": estimate}, channels=[1], dark=DARK)
        _, results = cell_counting_cpu(even, Saved(), METADATA, channels=[1])
        error += abs(results["cells_c1"] - truth.cells)
    assert error <= 0.01 * sum(truth.cells for truth, _ in screen)


def test_measurements_of_nothing_are_missing():
    """Without cells, the count is 0 and the area is missing; without spots, the height is missing."""
    _, results = cell_counting_cpu(np.zeros((1, 1, 1, 32, 32), np.uint8), Saved(), METADATA)
    assert results == {
        "cells_c0": 0,
        "cell_area_c0": None,
        "cell_area_c0_sd": None,
        "cell_intensity_c0": None,
        "cell_intensity_c0_sd": None,
        "objects": [],
    }
    _, results = count_spots(np.zeros((1, 1, 1, 32, 32), np.uint8), None, METADATA)
    assert results == {"spots_c0": 0, "spot_height_c0": None, "spot_height_c0_sd": None}


def test_construct_path():
    assert construct_path({**METADATA, "plate": "/data/p/"}, "results.json") == "/data/p/A01/A01_s001_results.json"
    assert construct_path(METADATA, "labeled") == "/omero/plate_7_processed/A01/A01_s001_labeled.tif"
