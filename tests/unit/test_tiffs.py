"""TIFFs that hold more than a plane: read where their meaning is plain, refused in a sentence otherwise."""

import numpy as np
import pytest
import tifffile

from openhcs_omero.errors import PlateError
from openhcs_omero.io.filemanager import FileManager
from openhcs_omero.microscopes.detect import handler_of
from openhcs_omero.microscopes.scan import check_files

WELLS = ("A01", "A02")


def write(folder, pixels, name="x_{}_s1_w1.tif", **options):
    for number, well in enumerate(WELLS):
        tifffile.imwrite(folder / name.format(well), pixels + number, **options)


def read(folder):
    """(T, C, Z, Y, X) of both wells, and the notes; each file also passes the checks of an import."""
    handler = handler_of(folder)
    listing = handler.listing(folder)
    listing.check_complete()
    check_files(listing)
    sites = [handler.load_site(folder, well, 1, FileManager()) for well in WELLS]
    for c in range(sites[1].shape[1]):
        plane = handler.read_plane(listing, "A02", 1, (0, c, 0), FileManager())
        np.testing.assert_array_equal(plane, sites[1][0, c, 0])
    return sites, handler.notes(folder), handler.get_channel_values(folder)


def ramp(*shape, dtype="uint16"):
    return np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)


RGBA = ramp(5, 6, 4, dtype="uint8")


@pytest.mark.parametrize(
    ("axes", "options", "shape", "words"),
    [
        ("QYX", {}, (1, 1, 3), "3 z planes"),
        ("ZYX", {"ome": True}, (1, 1, 3), "3 z planes"),
        ("CYX", {"ome": True}, (1, 3, 1), "3 channels"),
        ("TYX", {"imagej": True}, (3, 1, 1), "3 timepoints"),
        ("TCYX", {"imagej": True}, (3, 2, 1), "3 timepoints and 2 channels"),
        ("CZYX", {"ome": True}, (1, 3, 2), "3 channels and 2 z planes"),
    ],
)
def test_pages(tmp_path, axes, options, shape, words):
    pixels = ramp(*(size for size in (3, 2)[: len(axes) - 2]), 5, 6)
    metadata = {"metadata": {"axes": axes}} if options else {}
    write(tmp_path, pixels, photometric="minisblack", **options, **metadata)
    sites, notes, _ = read(tmp_path)
    for number, site in enumerate(sites):
        np.testing.assert_array_equal(site, pixels.reshape(*shape, 5, 6) + number)
    assert notes == (f"the TIFFs have several pages, which are read as {words}",)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_rgb(tmp_path, planar):
    pixels = ramp(3, 5, 6, dtype="uint8")
    write(
        tmp_path, pixels if planar == "separate" else np.moveaxis(pixels, 0, -1), photometric="rgb", planarconfig=planar
    )
    sites, notes, channels = read(tmp_path)
    np.testing.assert_array_equal(sites[1], (pixels + 1)[None, :, None])
    assert notes == ("the TIFFs are RGB: red, green and blue are read as three channels",)
    assert channels == {0: "red", 1: "green", 2: "blue"}


def test_a_pyramid(tmp_path):
    pixels = ramp(32, 48)
    for well in WELLS:
        with tifffile.TiffWriter(tmp_path / f"x_{well}_s1_w1.tif") as tiff:
            tiff.write(pixels)
            tiff.write(pixels[::2, ::2], subfiletype=1)
    sites, notes, _ = read(tmp_path)
    np.testing.assert_array_equal(sites[0][0, 0, 0], pixels)
    assert notes == ("the TIFFs have smaller copies of their planes, which are left out",)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (
            lambda f: write(f, ramp(5, 6, 4, dtype="uint8"), photometric="rgb", extrasamples=["unassalpha"]),
            "4 values per",
        ),
        (lambda f: write(f, ramp(2, 5, 6, 3, dtype="uint8"), photometric="rgb"), "2 pages with 3 values per pixel"),
        (lambda f: write(f, ramp(2, 3, 5, 6), photometric="minisblack"), "which plane is which is not known"),
        (
            lambda f: [write(f, ramp(3, 5, 6), f"{{}}_s001_z00{z}_c000.tif", photometric="minisblack") for z in (0, 1)],
            "its pages are z planes, but the names of the files also number z planes",
        ),
        (
            lambda f: [write(f, ramp(5, 6, 3, dtype="uint8"), f"{{}}_s1_w{w}.tif", photometric="rgb") for w in (1, 2)],
            "its colors are channels, but the names of the files also number channels",
        ),
    ],
)
def test_what_is_not_plain_is_refused(tmp_path, make, problem):
    make(tmp_path)
    with pytest.raises(PlateError, match=problem) as refused:
        read(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("other", [ramp(4, 5, 6), ramp(5, 6)])
def test_a_file_with_other_pages_fails_its_well_alone(tmp_path, other):
    write(tmp_path, ramp(3, 5, 6), photometric="minisblack")
    tifffile.imwrite(tmp_path / "x_A02_s1_w1.tif", other, photometric="minisblack")
    handler = handler_of(tmp_path)
    assert handler.load_site(tmp_path, "A01", 1, FileManager()).shape == (1, 1, 3, 5, 6)
    with pytest.raises(PlateError, match="where the first file of the plate has 3 pages"):
        handler.load_site(tmp_path, "A02", 1, FileManager())


def test_a_page_that_is_much_larger_than_its_file(tmp_path, monkeypatch):
    write(tmp_path, ramp(3, 50, 60) * 0, photometric="minisblack", compression="zlib")
    monkeypatch.setattr("openhcs_omero.microscopes.tiffs.LARGEST_UNCHECKED", 100)
    monkeypatch.setattr("openhcs_omero.microscopes.tiffs.LARGEST_RATIO", 2)
    with pytest.raises(PlateError, match="declares a page of 6000 bytes in a file of"):
        handler_of(tmp_path).load_site(tmp_path, "A01", 1, FileManager())


def test_sites_of_different_sizes_and_types(tmp_path):
    """Each site is read as it is, also with wells of different numbers of sites."""
    kinds = {("A01", 1): ramp(5, 6), ("A01", 2): ramp(4, 9), ("A02", 1): ramp(5, 6, dtype="float32")}
    for (well, number), plane in kinds.items():
        for channel in (1, 2):
            tifffile.imwrite(tmp_path / f"{well}_s{number}_w{channel}.tif", plane + channel)
    handler = handler_of(tmp_path)
    for (well, number), plane in kinds.items():
        site = handler.load_site(tmp_path, well, number, FileManager())
        assert site.dtype == plane.dtype
        np.testing.assert_array_equal(site[0, 1, 0], plane + 2)
