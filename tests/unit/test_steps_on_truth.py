"""The steps in the box on images with a known answer, on empty sites, and at the limits of dtypes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from openhcs_omero.errors import StepError
from openhcs_omero.plates.labels import LARGEST_LABEL
from openhcs_omero.processing.background import subtract_background
from openhcs_omero.processing.cells import estimate_threshold, segment_cells
from openhcs_omero.processing.illumination import correct_illumination, estimate_illumination
from openhcs_omero.processing.inputs import as_type
from openhcs_omero.processing.objects import measure_objects
from openhcs_omero.processing.projection import project_z
from openhcs_omero.processing.registration import align_channels, align_timepoints, find_shift, move
from openhcs_omero.processing.spots import count_spots, count_spots_per_cell
from openhcs_omero.processing.thresholds import otsu_above_noise
from openhcs_omero.processing.whole_cells import segment_whole_cells

SIDE = 96


def run(step, image, metadata=None, **params):
    """The image and the results of a step on a site."""
    return step(image, None, metadata or {}, **params)


def disks(places, radius=8, height=500.0, base=100.0, side=SIDE, noise=3.0, seed=0):
    """Bright disks on a noisy background, uint16."""
    y, x = np.mgrid[0:side, 0:side]
    plane = np.full((side, side), base) + np.random.default_rng(seed).normal(0, noise, (side, side))
    for v, u in places:
        plane[(y - v) ** 2 + (x - u) ** 2 <= radius**2] += height
    return np.clip(np.rint(plane), 0, 65535).astype(np.uint16)


def site(*planes):
    """Planes as the channels of a site (1, C, 1, Y, X)."""
    return np.stack(planes)[None, :, None]


def texture(seed=1, side=200, sigma=2.0):
    return 4000 + 3000 * gaussian_filter(np.random.default_rng(seed).normal(size=(side, side)), sigma)


# projection


def stack_of(sharp_at, planes=5):
    """A z stack that is sharp at one plane, of uint16."""
    blur = [0.1 + 1.5 * abs(z - sharp_at) for z in range(planes)]
    return np.stack([gaussian_filter(texture(side=SIDE), sigma) for sigma in blur]).astype(np.uint16)


def test_projections_of_stacks_and_timepoints():
    image = np.stack([stack_of(3), stack_of(1)])[:, None].repeat(2, axis=1)
    for method, expected in (("max", image.max(axis=2)), ("mean", np.rint(image.mean(axis=2)))):
        flat, results = run(project_z, image, method=method)
        assert flat.shape == (2, 2, 1, SIDE, SIDE) and flat.dtype == np.uint16
        assert np.array_equal(flat[:, :, 0], expected) and set(map(str, results.values())) <= {"[]"}
    flat, results = run(project_z, image, method="best_focus")
    assert results == {"best_z_c0": [3, 1], "best_z_c1": [3, 1]}
    assert np.array_equal(flat[1, 0, 0], image[1, 0, 1])


def test_a_stack_without_structure_has_no_best_focus():
    noise = np.random.default_rng(0).poisson(200, (1, 1, 7, 128, 128)).astype(np.uint16)
    flat, results = run(project_z, noise, method="best_focus")
    assert results == {"best_z_c0": None} and np.array_equal(flat[0, 0, 0], noise[0, 0, 3])


def test_planes_that_were_not_acquired_are_no_part_of_a_projection():
    image = np.full((1, 2, 3, 4, 4), 90, np.uint16)
    image[0, 0, 1], image[0, 1] = 0, 0
    filled = {"filled": [[0, 0, 1], [0, 1, 0], [0, 1, 1], [0, 1, 2]]}
    assert (run(project_z, image, filled, method="mean")[0][0, 0] == 90).all()
    assert run(project_z, image, filled, method="best_focus")[1]["best_z_c1"] is None


@given(st.integers(0, 255), st.integers(1, 5))
def test_a_mean_of_equal_planes_is_that_plane(value, planes):
    image = np.full((1, 1, planes, 3, 3), value, np.uint8)
    assert (run(project_z, image, method="mean")[0] == value).all()


# background


@pytest.mark.parametrize("method", ["top_hat", "rolling_ball"])
def test_backgrounds_are_subtracted_and_objects_stay(method):
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    slope = 200 + 3 * y + 2 * x
    objects = disks([(30, 30), (70, 60)], radius=4, base=0, noise=0)
    image = site((objects + slope).astype(np.uint16), objects)
    flat, results = run(subtract_background, image, channels=[0], method=method, radius=20)
    assert results == {} and flat.dtype == np.uint16 and np.array_equal(flat[0, 1], image[0, 1])
    height = flat[0, 0, 0][objects > 0]
    assert flat[0, 0, 0][objects == 0].mean() < 60 and height.min() > 450 and height.max() < 600


@pytest.mark.parametrize("method", ["top_hat", "rolling_ball"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_subtraction_does_not_wrap_around(method, dtype):
    image = np.random.default_rng(0).integers(0, 100, (2, 1, 2, 33, 41)).astype(dtype)
    flat, _ = run(subtract_background, image, method=method, radius=12)
    assert flat.dtype == dtype and flat.shape == image.shape
    assert (flat <= image).all() and (flat >= 0).all()


@settings(max_examples=20)
@given(st.integers(0, 5000), st.sampled_from(["top_hat", "rolling_ball"]))
def test_a_constant_background_makes_no_difference(level, method):
    plane = disks([(20, 20)], radius=3, side=40, seed=2)
    flat = [run(subtract_background, site(plane + add), method=method, radius=8)[0] for add in (0, np.uint16(level))]
    assert np.abs(flat[0].astype(int) - flat[1]).max() <= 1  # rounding


# numbers at the limits of their types


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.float64])
def test_digits_that_float32_does_not_have_stay(dtype):
    image = site(np.arange(20_000_000, 20_000_000 + 400, dtype=dtype).reshape(20, 20))
    flat, _ = run(correct_illumination, image, {"plate_estimate": {0: np.ones((20, 20), np.float32)}})
    np.testing.assert_array_equal(flat, image)
    np.testing.assert_array_equal(move(image[0, 0], np.array([0, 2]))[0, :, 2:], image[0, 0, 0, :, :-2])
    top_hat, _ = run(subtract_background, image, radius=1)
    assert set(top_hat.ravel()) == {0, 1, 20, 21}  # the opening of a slope, which float32 has in steps of 2


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint32])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_no_number_wraps_around(dtype, kind):
    limits = np.iinfo(dtype)
    low, middle, high = as_type(np.array([-3e9, 7.6, 5e9], kind), np.dtype(dtype))
    assert (low, middle) == (limits.min, 8) and limits.max - 256 < high <= limits.max


@pytest.mark.parametrize(
    ("step", "params"),
    [
        (subtract_background, {}),
        (segment_cells, {}),
        (segment_whole_cells, {"channels": [0]}),
        (count_spots, {}),
        (count_spots_per_cell, {}),
        (align_channels, {}),
        (align_timepoints, {}),
        (project_z, {"method": "best_focus"}),
    ],
)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_no_numbers_are_refused(step, params, value):
    """They would spread, and then count as nothing: a single one made no spot in a site."""
    image = site(texture(side=32)).astype(np.float32)
    image[0, 0, 0, 5, 5] = value
    labels = np.ones((1, 1, 1, 32, 32), np.uint16)
    known = (
        {"labels": {"nuclei": labels, "cells": labels}} if "count" in step.__name__ or "whole" in step.__name__ else {}
    )
    with pytest.raises(StepError, match="channel 0 has pixels that are NaN or infinite"):
        run(step, image, known, **params)


def test_estimates_of_a_plate_leave_out_planes_with_nan():
    planes = [gaussian_filter(texture(seed, side=40), 3) for seed in range(3)]
    broken = planes[0].copy()
    broken[3, 3] = np.nan
    for estimate in (estimate_illumination, estimate_threshold):
        np.testing.assert_array_equal(estimate(iter([*planes, broken])), estimate(iter(planes)))


@pytest.mark.parametrize("level", [-40_000, 40_000])
def test_rounding_errors_are_no_spots(level):
    image = np.full((1, 1, 1, SIDE, SIDE), level, np.float32)
    image[0, 0, 0, 40, 40] = np.nextafter(image[0, 0, 0, 40, 40], np.float32(np.inf))
    assert run(count_spots, image)[1]["spots_c0"] == 0


# thresholds


def test_a_threshold_of_the_plate_finds_dim_nuclei_and_nothing_in_empty_sites():
    bright, dim = disks([(30, 30), (70, 60)]), disks([(50, 50)], height=350, seed=1)
    empty, debris = disks([], seed=2), disks([(20, 70)], radius=9, height=9000, base=100, seed=3)
    limit = estimate_threshold(iter([bright, dim, empty]))
    assert 130 < limit < 550
    told = {"plate_estimate": {0: limit}}
    counts = [run(segment_cells, site(p), told, threshold="plate")[1]["cells_c0"] for p in (bright, dim, empty, debris)]
    assert counts == [2, 1, 0, 1]


def test_a_plate_without_objects_has_a_threshold_that_nothing_reaches():
    planes = [disks([], seed=seed) for seed in range(3)]
    limit = estimate_threshold(iter(planes))
    assert limit == np.inf
    _, results = run(segment_cells, site(planes[0]), {"plate_estimate": {0: limit}}, threshold="plate")
    assert results["cells_c0"] == 0 and results["cell_area_c0"] is None
    with pytest.raises(ValueError, match="no plane"):
        estimate_threshold(iter([]))


def test_a_given_threshold():
    image = site(disks([(30, 30)], height=200), disks([(60, 60)], height=900))
    counts = [run(segment_cells, image, threshold=limit)[1] for limit in (200, 600, 2000)]
    assert [(found["cells_c0"], found["cells_c1"]) for found in counts] == [(1, 1), (0, 1), (0, 0)]


def test_a_threshold_of_the_plate_needs_flat_sites():
    with pytest.raises(StepError, match="put project_z before"):
        run(segment_cells, np.zeros((1, 1, 2, 8, 8)), {"plate_estimate": {0: 1.0}}, threshold="plate")


def test_nothing_is_counted_in_planes_that_were_not_acquired():
    image = np.zeros((2, 1, 1, SIDE, SIDE), np.uint16)
    image[0, 0, 0] = disks([(30, 30)])
    filled = {"filled": [[1, 0, 0]]}
    assert run(segment_cells, image, filled)[1]["cells_c0"] == [1, None]
    assert run(count_spots, image, filled)[1]["spots_c0"][1] is None


# whole cells


@pytest.fixture(scope="module")
def two_cells():
    """Cells that touch, around two nuclei, and one apart: the stain of cells, that of nuclei, and the true labels."""
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    truth, stain = np.zeros((SIDE, SIDE), int), np.full((SIDE, SIDE), 100.0)
    for number, (v, u) in enumerate([(40, 30), (40, 58), (80, 20)], 1):
        radius = np.hypot(y - v, x - u)
        inside = (radius <= 14) & (truth == 0)
        truth[inside] = number
        stain += np.where(radius <= 14, 600 - 20 * radius, 0)
    stain += np.random.default_rng(4).normal(0, 4, stain.shape)
    nuclei = disks([(40, 30), (40, 58), (80, 20)], radius=5)
    _, results = run(segment_cells, site(nuclei), diameter=10)
    return stain.astype(np.uint16), nuclei, truth, results["labels"]["nuclei"]


def test_cells_around_nuclei(two_cells):
    stain, nuclei, truth, labels = two_cells
    image, results = run(segment_whole_cells, site(stain, nuclei), {"labels": {"nuclei": labels}}, channels=[0])
    cells = results["labels"]["cells"]
    assert np.array_equal(image, site(stain, nuclei)) and cells.shape == (1, 1, 1, SIDE, SIDE)
    assert results["whole_cells_c0"] == 3 and sorted(row["parent"] for row in results["objects"]) == [1, 2, 3]
    for number in (1, 2, 3):
        mine = truth == number
        own = np.bincount(labels[0, 0, 0][mine & (labels[0, 0, 0] > 0)]).argmax()
        cell = cells[0, 0, 0] == own
        assert (cell & mine).sum() / (cell | mine).sum() > 0.9
    assert (cells[labels > 0] == labels[labels > 0]).all()


def test_cells_end_at_the_distance_and_are_nuclei_without_a_stain(two_cells):
    stain, nuclei, _, labels = two_cells
    told = {"labels": {"nuclei": labels}}
    _, near = run(segment_whole_cells, site(stain, nuclei), told, channels=[0], distance=2)
    sizes = [np.count_nonzero(near["labels"]["cells"]), np.count_nonzero(labels)]
    assert sizes[1] < sizes[0] < 2.2 * sizes[1]
    dark = site(np.full_like(stain, 100), nuclei)
    assert np.array_equal(run(segment_whole_cells, dark, told, channels=[0])[1]["labels"]["cells"], labels)


def test_cells_of_sites_without_nuclei_are_missing():
    told = {"labels": {"nuclei": np.zeros((1, 1, 1, SIDE, SIDE), np.uint16)}}
    _, results = run(segment_whole_cells, site(disks([(30, 30)])), told, channels=[0])
    assert results["whole_cells_c0"] == 0 and results["whole_cell_area_c0"] is None and results["objects"] == []
    told = {"labels": {"nuclei": np.ones((1, 1, 1, SIDE, SIDE), np.uint16)}, "filled": [[0, 0, 0]]}
    _, results = run(segment_whole_cells, site(disks([(30, 30)])), told, channels=[0])
    assert results["whole_cells_c0"] is None and results["objects"] == []


# spots per cell


def test_spots_are_counted_in_their_cells():
    labels = np.zeros((2, 1, 1, SIDE, SIDE), np.uint16)
    labels[:, ..., 10:40, 10:40], labels[:, ..., 50:80, 50:80] = 4, 9
    places = [(20, 20), (30, 30), (60, 60), (45, 45), (90, 5)]
    plane = np.random.default_rng(0).normal(100, 2, (SIDE, SIDE))
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    for v, u in places:
        plane += 300 * np.exp(-((y - v) ** 2 + (x - u) ** 2) / 4.5)
    image = np.stack([plane, np.random.default_rng(1).normal(100, 2, (SIDE, SIDE))])[:, None, None]
    told = {"labels": {"cells": labels}, "channels": ["GFP"]}
    _, results = run(count_spots_per_cell, image, told)
    assert results["spots_per_cell_c0"] == [1.5, 0] and results["spot_cells_c0"] == [2, 2]
    assert results["spots_inside_c0"] == [3, 0] and results["spots_outside_c0"] == [2, 0]
    found = [(row["t"], row["label"], row["spots_GFP"]) for row in results["objects"]]
    assert found == [(0, 4, 2), (0, 9, 1), (1, 4, 0), (1, 9, 0)]
    assert results["objects"][0]["spot_height_GFP"] > 100 and results["objects"][2]["spot_height_GFP"] is None


def test_spots_per_cell_without_cells_are_missing():
    told = {"labels": {"cells": np.zeros((1, 1, 1, 32, 32), np.uint16)}}
    _, results = run(count_spots_per_cell, np.zeros((1, 1, 1, 32, 32), np.uint16), told)
    assert results["spots_per_cell_c0"] is None and results["spot_cells_c0"] == 0 and results["objects"] == []


# objects


def test_measurements_of_objects():
    labels = np.zeros((1, 1, 1, 32, 32), np.uint16)
    labels[..., 4:9, 5:11], labels[..., 0:2, 20:22], labels[..., 20, 20] = 3, 5, 6
    image = np.random.default_rng(0).integers(0, 1000, (1, 2, 1, 32, 32)).astype(np.uint16)
    cells = np.zeros_like(labels)
    cells[..., 2:12, 2:9], cells[..., 2:12, 9:12] = 1, 2
    told = {"labels": {"nuclei": labels, "cells": cells}, "channels": ["GFP", None]}
    same, results = run(measure_objects, image, told, parents={"nuclei": "cells"})
    first, _, point = results["objects"]
    assert same is image and [row["label"] for row in results["objects"]] == [3, 5, 6]
    assert (first["y"], first["x"], first["area"]) == (6.0, 7.5, 30)
    assert [first[edge] for edge in ("top", "left", "bottom", "right")] == [4, 5, 9, 11]
    assert [row["parent"] for row in results["objects"]] == [1, None, None]
    assert [row["touches_edge"] for row in results["objects"]] == [False, True, False]
    assert point["solidity"] is None and first["solidity"] == 1
    values = image[0, 0, 0, 4:9, 5:11].astype(float)
    assert first["mean_intensity_GFP"] == pytest.approx(values.mean())
    assert first["total_intensity_GFP"] == pytest.approx(values.sum())
    assert first["sd_intensity_GFP"] == pytest.approx(values.std())
    assert first["max_intensity_c1"] == image[0, 1, 0, 4:9, 5:11].max()
    assert results["nuclei_count"] == 3 and results["nuclei_area"] == pytest.approx(35 / 3)
    assert results["nuclei_mean_intensity_c0"] == pytest.approx(
        np.mean([row["mean_intensity_GFP"] for row in results["objects"]])
    )


def test_measurements_of_nothing_are_missing():
    told = {"labels": {"nuclei": np.zeros((2, 1, 1, 8, 8), np.uint16)}}
    _, results = run(measure_objects, np.ones((2, 1, 1, 8, 8), np.uint16), told)
    assert results.pop("nuclei_count") == [0, 0] and results.pop("objects") == []
    assert all(value == [None, None] for value in results.values()) and "nuclei_mean_intensity_c0" in results


def test_intensities_of_planes_that_were_not_acquired_are_missing():
    told = {"labels": {"nuclei": np.ones((1, 1, 1, 8, 8), np.uint16)}, "filled": [[0, 1, 0]]}
    _, results = run(measure_objects, np.ones((1, 2, 1, 8, 8), np.uint16), told)
    assert results["nuclei_mean_intensity_c0"] == 1 and results["nuclei_mean_intensity_c1"] is None
    assert "mean_intensity_c1" not in results["objects"][0]


def test_objects_of_stacks_are_measured_in_3d():
    labels = np.zeros((1, 1, 6, 16, 16), np.uint16)
    labels[0, 0, 1:4, 3:9, 3:9] = 1
    [row] = run(measure_objects, np.ones((1, 1, 6, 16, 16)), {"labels": {"nuclei": labels}})[1]["objects"]
    assert row["area"] == 108 and (row["z"], row["front"], row["back"]) == (2, 1, 4) and "perimeter" not in row


@settings(max_examples=25)
@given(st.integers(0, 8), st.integers(0, 8), st.permutations([1, 7, LARGEST_LABEL]))
def test_measurements_move_with_the_objects_and_do_not_depend_on_numbers(dy, dx, numbers):
    labels = np.zeros((1, 1, 1, 40, 40), np.uint16)
    image = np.random.default_rng(0).integers(0, 99, labels.shape).astype(np.uint16)
    for number, (top, left) in zip((1, 2, 7), [(2, 3), (12, 9), (20, 22)]):
        labels[0, 0, 0, top : top + 5, left : left + 4 + top % 3] = number
    mapped = np.select([labels == old for old in (1, 2, 7)], numbers).astype(np.uint32)
    moved = [np.roll(array, (dy, dx), axis=(3, 4)) for array in (image, mapped)]
    before = run(measure_objects, image, {"labels": {"nuclei": labels}})[1]["objects"]
    after = {
        row["label"]: row for row in run(measure_objects, moved[0], {"labels": {"nuclei": moved[1]}})[1]["objects"]
    }
    for row, number in zip(before, numbers):
        other = after[number]
        assert (other["top"] - row["top"], other["left"] - row["left"]) == (dy, dx)
        for column in ("area", "perimeter", "eccentricity", "mean_intensity_c0", "max_intensity_c0"):
            assert other[column] == pytest.approx(row[column])


# registration


def shifted(dy, dx, noise=5.0, side=128, seed=3):
    """A reference, and the same structures moved by (-dy, -dx), with other noise, uint16."""
    big, rng = texture(), np.random.default_rng(seed)
    pair = big[32 : 32 + side, 32 : 32 + side], big[32 + dy : 32 + dy + side, 32 + dx : 32 + dx + side]
    return [(plane + rng.normal(0, noise, plane.shape)).astype(np.uint16) for plane in pair]


@settings(max_examples=20, deadline=None)
@given(st.integers(-25, 25), st.integers(-25, 25))
def test_shifts_of_channels_are_found_and_undone(dy, dx):
    reference, moved = shifted(dy, dx)
    image, results = run(align_channels, site(reference, moved))
    assert (results["shift_y_c1"], results["shift_x_c1"]) == (dy, dx) and results["shift_correlation_c1"] > 0.9
    inner = (slice(25, -25), slice(25, -25))
    assert np.abs(image[0, 0, 0][inner].astype(int) - image[0, 1, 0][inner]).mean() < 20
    assert np.array_equal(image[0, 0, 0], reference) and image.dtype == np.uint16
    outside = image[0, 1, 0][slice(0, dy) if dy > 0 else slice(128 + dy, 128)]
    assert not outside.any()


def test_fractions_of_pixels():
    big = texture(side=800, sigma=8)
    small = [
        big[100 + y : 740 + y, 100 + x : 740 + x].reshape(160, 4, 160, 4).mean(axis=(1, 3))
        for y, x in ((0, 0), (9, -6))
    ]
    shift, correlation = find_shift(*small, upsample=20)
    assert shift == pytest.approx([2.25, -1.5], abs=0.1) and correlation > 0.9


def test_cycles_move_together_and_unknown_shifts_are_missing():
    reference, moved = shifted(6, -4)
    other = np.random.default_rng(9).poisson(500, reference.shape).astype(np.uint16)
    marker = np.roll(disks([(64, 64)], radius=3, side=128), (-6, 4), axis=(0, 1))
    image = site(reference, moved, marker, other)
    aligned, results = run(align_channels, image, cycle_channels=[[1, 2], [3]])
    assert (results["shift_y_c1"], results["shift_x_c1"]) == (6, -4) and "shift_y_c2" not in results
    assert aligned[0, 2, 0, 64, 64] > 400 > aligned[0, 2, 0, 58, 68]
    assert results["shift_y_c3"] is None and results["shift_correlation_c3"] < 0.2
    assert np.array_equal(aligned[0, 3], image[0, 3])


def test_a_drift_is_undone_and_empty_timepoints_stay():
    reference, moved = shifted(5, 3)
    noise = np.random.default_rng(5).poisson(500, reference.shape).astype(np.uint16)
    image = np.stack([reference, moved, noise])[:, None, None]
    aligned, results = run(align_timepoints, image)
    assert results["drift_y"] == [0, 5, None] and results["drift_x"] == [0, 3, None]
    assert np.array_equal(aligned[2], image[2]) and np.array_equal(aligned[0], image[0])
    assert np.abs(aligned[1, 0, 0, 8:-8, 8:-8].astype(int) - reference[8:-8, 8:-8]).mean() < 20


def test_constant_planes_have_no_shift():
    image = np.full((1, 2, 1, 32, 32), 7, np.uint8)
    aligned, results = run(align_channels, image)
    assert results["shift_y_c1"] is None and np.array_equal(aligned, image)


# errors


@pytest.mark.parametrize(
    ("step", "params"),
    [
        (subtract_background, {"channels": [5]}),
        (segment_cells, {"channels": [5]}),
        (segment_whole_cells, {"channels": [5]}),
        (count_spots, {"channels": [5]}),
        (count_spots_per_cell, {"channels": [5]}),
        (measure_objects, {"channels": [5]}),
        (align_channels, {"channels": [5]}),
        (align_channels, {"reference_channel": 5}),
        (align_channels, {"cycle_channels": [[1, 5]]}),
        (align_timepoints, {"reference_channel": 5}),
    ],
)
def test_a_channel_that_is_not_there(step, params):
    told = (
        {}
        if step.__name__.startswith("align")
        else {"labels": {"nuclei": (a := np.ones((1, 1, 1, 8, 8), int)), "cells": a}}
    )
    with pytest.raises(StepError, match="there is no channel 5: the image has 2 channels, 0 to 1"):
        run(step, np.zeros((1, 2, 1, 8, 8), np.uint8), told, **params)


def test_labels_that_are_not_there():
    image = np.zeros((1, 1, 1, 8, 8), np.uint8)
    with pytest.raises(StepError, match="no labels 'nuclei': no earlier step returned labels"):
        run(measure_objects, image)
    with pytest.raises(StepError, match="no labels 'cells': the labels so far are nuclei"):
        run(count_spots_per_cell, image, {"labels": {"nuclei": np.ones((1, 1, 1, 8, 8), int)}})


@pytest.mark.parametrize("step", [project_z, align_channels, align_timepoints])
def test_images_do_not_move_under_their_objects(step):
    with pytest.raises(StepError, match="comes before steps that find objects"):
        run(step, np.zeros((1, 2, 1, 8, 8)), {"labels": {"nuclei": np.ones((1, 1, 1, 8, 8), int)}})


def test_whole_cells_need_one_channel():
    with pytest.raises(StepError, match="in one channel"):
        run(segment_whole_cells, np.zeros((1, 2, 1, 8, 8)))


@pytest.mark.parametrize("share", [0.02, 0.3, 0.8])
def test_thresholds_stand_out_however_many_objects_there_are(share):
    rng = np.random.default_rng(6)
    plane = rng.normal(100, 5, (64, 64)) + 100 * (rng.permutation(64 * 64).reshape(64, 64) < share * 64 * 64)
    assert 110 < otsu_above_noise(plane, 3.0) < 190


@pytest.mark.parametrize("light", [0, 1, 5, 50])
def test_no_threshold_stands_out_from_noise_and_illumination(light):
    plane = np.random.default_rng(6).poisson(200 + light * np.linspace(0, 10, 128) * np.ones((128, 1)))
    assert otsu_above_noise(plane, 3.0) == np.inf
