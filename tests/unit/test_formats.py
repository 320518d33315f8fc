"""Encoded data are decoded unchanged; data that do not fit the file extension are refused with a sentence."""

import io
import json

import numpy as np
import pandas
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from openhcs_omero.io.base import BadData
from openhcs_omero.io.formats import PIXEL_TYPES, OMEROFileFormatRegistry, decode, encode

dtypes = st.sampled_from([np.dtype(name).newbyteorder(order) for name in PIXEL_TYPES for order in "<>"])
shapes = st.one_of(st.tuples(*[st.integers(1, 4)] * 2), st.tuples(*[st.integers(1, 3)] * 5))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(npst.arrays(dtypes, shapes))
def test_images_round_trip(image):
    """Shape, values and type are kept, even of a plane or a site of one plane; the byte order becomes the machine's."""
    back = decode(encode(image, "x.tif"), "x.tif")
    assert back.shape == image.shape
    assert back.dtype == image.dtype.newbyteorder("=")
    np.testing.assert_array_equal(back, image)


@given(st.dictionaries(st.text(), json_values) | st.lists(json_values))
def test_json_round_trip(data):
    assert decode(encode(data, "x.json"), "x.json") == data


@given(st.text())
def test_text_round_trip(text):
    assert decode(encode(text, "x.txt"), "x.txt") == text


@given(st.binary())
def test_bytes_can_be_written_to_any_file(data):
    assert decode(encode(data, "x.bin"), "x.bin") == data
    assert encode(data, "x.csv") == data


@pytest.mark.parametrize("ending", [".csv", ".tsv"])
def test_tables_round_trip(ending):
    table = pandas.DataFrame({"well": ["A01", 'B,"02'], "count": [3, 4], "area": [0.1, float("nan")]})
    pandas.testing.assert_frame_equal(decode(encode(table, "x" + ending), "x" + ending), table)
    assert decode(encode(pandas.DataFrame(), "x" + ending), "x" + ending).empty
    assert encode("a,b\n", "x" + ending) == b"a,b\n"


def test_numpy_in_json():
    """A step may return numpy scalars and NaN, which JSON doesn't have."""
    results = {"n": np.int64(3), "mean": np.float32(0.5), "none": float("nan"), "far": [np.inf], np.int32(1): (1, 2)}
    data = encode({**results, "all": np.arange(3)}, "x.json")
    assert json.loads(data) == {"n": 3, "mean": 0.5, "none": None, "far": [None], "1": [1, 2], "all": [0, 1, 2]}


def test_ome_metadata():
    with tifffile.TiffFile(io.BytesIO(encode(np.zeros((2, 3, 4, 5, 6), "u2"), "x.tif"))) as tiff:
        assert tiff.is_ome
        for size in ('SizeT="2"', 'SizeC="3"', 'SizeZ="4"', 'SizeY="5"', 'SizeX="6"'):
            assert size in tiff.ome_metadata


@pytest.mark.parametrize(
    ("written", "shape", "options"),
    [
        ((4, 5), (4, 5), {}),
        ((4, 5), (4, 5), {"ome": True}),
        ((2, 3, 4, 5), (1, 2, 3, 4, 5), {"ome": True, "metadata": {"axes": "CZYX"}}),
        ((2, 3, 4, 5), (2, 1, 3, 4, 5), {"ome": True, "metadata": {"axes": "TZYX"}}),
        ((7, 4, 5), (1, 7, 1, 4, 5), {"imagej": True, "metadata": {"axes": "CYX"}}),
        ((2, 7, 3, 4, 5), (2, 3, 7, 4, 5), {"imagej": True, "metadata": {"axes": "TZCYX"}}),
    ],
)
def test_tiffs_from_other_programs(written, shape, options):
    image = np.arange(np.prod(written), dtype="u2").reshape(written)
    file = io.BytesIO()
    tifffile.imwrite(file, image, photometric="minisblack", **options)
    back = decode(file.getvalue(), "x.tif")
    assert back.shape == shape
    assert back[..., -1, -1].max() == image.max()
    if len(written) == 5:
        np.testing.assert_array_equal(back, image.swapaxes(1, 2))


def test_color_and_several_images_are_refused():
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((8, 8, 3), "u1"), photometric="rgb")
    with pytest.raises(BadData, match="has the axes YXS"):
        decode(file.getvalue(), "x.tif")
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(np.zeros((8, 8), "u1"))
        writer.write(np.zeros((4, 4), "u2"))
    with pytest.raises(BadData, match="holds 2 images"):
        decode(file.getvalue(), "x.tif")


@pytest.mark.parametrize(
    ("data", "path", "what"),
    [
        ([[1]], "x.tif", "takes a numpy array, not a list"),
        (b"II*", "x.tif", "takes a numpy array, not a bytes"),
        (np.zeros((3, 4, 5), "u1"), "x.tif", "this array has the shape"),
        (np.zeros((0, 4), "u1"), "x.tif", "at least one pixel"),
        (np.zeros((3, 4), "i8"), "x.tif", "pixels can't be int64"),
        (np.zeros((3, 4), bool), "x.TIFF", "pixels can't be bool"),
        (np.zeros((3, 4), "u1"), "x.csv", "takes a DataFrame, not a ndarray"),
        (np.zeros((3, 4), "u1"), "x.npy", "takes bytes, not a ndarray"),
        ({"a": 1}, "x.csv", "takes a DataFrame, not a dict"),
        ({"a": 1}, "x.txt", "takes a str, not a dict"),
        ({"a": {1}}, "x.json", "can't hold this as JSON"),
        ({(1, 2): 1}, "x.json", "can't hold this as JSON"),
        (7, "x.json", "takes a dict or a list, not a int"),
        ("text", "x", "takes bytes, not a str"),
    ],
)
def test_data_that_do_not_fit(data, path, what):
    with pytest.raises(BadData, match=what):
        encode(data, path)


@pytest.mark.parametrize(
    ("data", "path"), [(b"junk", "x.tif"), (b"", "x.tif"), (b"{", "x.json"), (b"\xff", "x.txt"), (b'"', "x.csv")]
)
def test_files_that_can_not_be_read(data, path):
    with pytest.raises(BadData, match=rf"{path} can't be read as "):
        decode(data, path)


def test_registry():
    assert {".json", ".csv", ".txt", ".tsv"} == OMEROFileFormatRegistry.TEXT_FORMATS
    assert OMEROFileFormatRegistry.is_text_format("/omero/plate_7/A01/x.CSV")
    assert not OMEROFileFormatRegistry.is_text_format("/omero/plate_7/A01/A01_s001_z000_c000.tif")
