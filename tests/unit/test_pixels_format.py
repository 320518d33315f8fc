"""How arrays become pixels, where a server stores them, and how the list of a well's samples is changed."""

from pathlib import Path

import numpy as np
import pytest
from omero.model import WellI, WellSampleI
from omero.rtypes import rlong

from openhcs_omero.errors import PlateError
from openhcs_omero.omero.derived_well import _show, _Shown
from openhcs_omero.omero.near import pixels_file
from openhcs_omero.omero.pixels import LengthI, UnitsLength, _converted
from openhcs_omero.omero.writing import _graph
from openhcs_omero.plates.image import Acquired, NewImage, objects, planes_of, storable


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("bool", "uint8"),
        ("uint8", "uint8"),
        ("int8", "int8"),
        ("uint16", "uint16"),
        (">i2", "int16"),
        ("int32", "int32"),
        ("int64", "uint32"),
        ("uint64", "uint32"),
        ("float16", "float32"),
        ("float32", "float32"),
        ("float64", "float64"),
    ],
)
def test_types(given, stored):
    block = (np.arange(24).reshape(1, 2, 1, 3, 4) % 2).astype(given)
    made = storable(block, "x")
    assert made.dtype == np.dtype(stored) and np.array_equal(made, block)


def test_negative_large_integers():
    assert storable(np.full((1, 1, 1, 2, 2), -5), "x").dtype.name == "int32"


@pytest.mark.parametrize(
    ("pixels", "problem"),
    [
        (np.zeros((2, 2)), "five axes"),
        (np.zeros((1, 1, 0, 2, 2)), "five axes"),
        (np.full((1, 1, 1, 2, 2), 2**32), "up to 32 bits"),
        (np.full((1, 1, 1, 2, 2), -(2**31) - 1), "up to 32 bits"),
        (np.zeros((1, 1, 1, 2, 2), complex), "type complex128"),
        (np.zeros((1, 1, 1, 2, 2), "U3"), "type str"),
    ],
)
def test_pixels_that_omero_can_not_store(pixels, problem):
    with pytest.raises(PlateError, match=f"image 'x'.*{problem}"):
        storable(pixels, "x")


@pytest.mark.parametrize("given", ["bool", "uint16", ">u2", "int64", "float64"])
def test_planes_from_many_arrays_equal_one_block(given):
    block = np.arange(2 * 3 * 2 * 3 * 4).reshape(2, 3, 2, 3, 4).astype(given)
    apart = planes_of(NewImage("x", objects([plane.copy() for plane in block.reshape(-1, 3, 4)], (2, 3, 2))))
    whole = planes_of(NewImage("x", block))
    assert apart.shape == whole.shape == (2, 3, 2)
    for one, other in zip(apart.flat, whole.flat):
        assert one.dtype.name == other.dtype.name and np.array_equal(one, other)


@pytest.mark.parametrize(
    ("pixels", "problem"),
    [
        (objects([np.zeros((2, 2), complex)], (1, 1, 1)), "type complex128"),
        (np.empty((0, 1, 1), object), "five axes"),
        (objects([np.full((2, 2), 1), np.full((2, 2), 2**32)], (1, 2, 1)), "up to 32 bits"),
    ],
)
def test_planes_that_omero_can_not_store(pixels, problem):
    with pytest.raises(PlateError, match=f"image 'x'.*{problem}"):
        planes_of(NewImage("x", pixels))


def test_the_objects_of_an_image():
    block = np.arange(2 * 3 * 4 * 5).reshape(1, 2, 3, 4, 5).astype("uint16")
    image = NewImage(
        "site",
        block,
        channel_names=["DAPI", None],
        colors=[(0, 0, 255), None],
        pixel_size=(None, 0.65, 0.65),
        annotations=[("k", "v")],
    )
    made = _graph(image, planes_of(image), "ns")
    pixels = made.getPrimaryPixels()
    assert [getattr(pixels, f"size{axis}").val for axis in "TCZYX"] == [1, 2, 3, 4, 5]
    assert pixels.pixelsType.value.val == "uint16" and pixels.dimensionOrder.value.val == "XYZCT"
    assert pixels.physicalSizeZ is None and pixels.physicalSizeX.getValue() == 0.65
    first, second = pixels.copyChannels()
    assert first.logicalChannel.name.val == "DAPI" and second.logicalChannel.name is None
    assert [first.red.val, first.green.val, first.blue.val, first.alpha.val] == [0, 0, 255, 255]
    assert second.red is None
    assert [second.statsInfo.globalMin.val, second.statsInfo.globalMax.val] == [60, 119]
    assert made.linkedAnnotationList()[0].mapValue[0].value == "v"


def test_the_number_of_channel_names_must_match():
    image = NewImage("x", np.zeros((1, 2, 1, 2, 2)), channel_names=["a"])
    with pytest.raises(PlateError, match="2 channels and 1 channel names"):
        _graph(image, planes_of(image), "ns")


def test_nan_has_no_range():
    image = NewImage("x", np.full((1, 1, 1, 2, 2), np.nan, "float32"))
    assert _graph(image, planes_of(image), "n").getPrimaryPixels().getChannel(0).statsInfo is None


@pytest.mark.parametrize(
    ("pixels_id", "path"),
    [
        (7, "Pixels/7"),
        (999, "Pixels/999"),
        (1000, "Pixels/Dir-001/1000"),
        (123456, "Pixels/Dir-123/123456"),
        (1234567, "Pixels/Dir-001/Dir-234/1234567"),
    ],
)
def test_paths_of_pixels_files(pixels_id, path):
    assert pixels_file(Path("/OMERO"), pixels_id) == Path("/OMERO", path)


def test_micrometers():
    def micrometers(value, unit):
        return _converted(LengthI, UnitsLength, value, unit, "MICROMETER")

    assert micrometers(650.0, "NANOMETER") == 0.65 and micrometers(1.5, "MICROMETER") == 1.5
    assert micrometers(1.0, "PIXEL") is None and micrometers(None, None) is None


def well_of(*samples):
    """A well whose samples have these ids; None stands for a hole."""
    well = WellI()
    for sample_id in samples:
        sample = None if sample_id is None else WellSampleI(rlong(sample_id), True)
        well._wellSamplesSeq.append(sample)
    return well


def to_show(images):
    """What `_show` takes, from image ids by site."""
    return {site: _Shown(image, Acquired(position=((1.0, "MICROMETER"), None)), 9) for site, image in images.items()}


def shown(well):
    """(sample, image) by index."""
    return [s and (s.id and s.id.val, s.image and s.image.id.val) for s in well.copyWellSamples()]


@pytest.mark.parametrize(
    ("before", "images", "after"),
    [
        ([], {1: 5, 2: 6}, [(None, 5), (None, 6)]),
        ([1, 2], {1: 5, 2: 6}, [(1, 5), (2, 6)]),
        ([1], {1: 5, 2: 6}, [(1, 5), (None, 6)]),
        ([1, 2, 3], {1: 5}, [(1, 5)]),
        ([None, 2], {1: 5, 2: 6}, [(None, 5), (2, 6)]),
        ([None, 2], {1: 5}, [(None, 5)]),
    ],
)
def test_all_sites_of_a_well_are_linked(before, images, after):
    well = well_of(*before)
    _show(well, to_show(images), whole=True)
    assert shown(well) == after
    for sample in well.copyWellSamples():
        assert (sample.posX.getValue(), sample.posY, sample.plateAcquisition.id.val) == (1, None, 9)
    assert all(sample.well is well for sample in well.copyWellSamples() if sample.id is None)


@pytest.mark.parametrize(
    ("before", "images", "after"),
    [
        ([1, 2], {2: 6}, [(1, None), (2, 6)]),
        ([1, 2], {3: 6}, [(1, None), (2, None), (None, 6)]),
        ([None, 2], {1: 6}, [None, (2, 6)]),
        ([], {1: 5, 2: 6}, [(None, 5), (None, 6)]),
    ],
)
def test_some_sites_of_a_well_are_linked(before, images, after):
    well = well_of(*before)
    _show(well, to_show(images), whole=False)
    assert shown(well) == after


def test_sites_cannot_have_gaps():
    with pytest.raises(PlateError, match="site 3 can't be written before site 2"):
        _show(well_of(1), to_show({3: 5}), whole=False)
