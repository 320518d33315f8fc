"""OME-Zarr plates of other programs, in folders and on S3: read as they are, or refused in one sentence."""

import json
import shutil

import numpy as np
import pytest
import zarr
from ome_zarr_plates import CHANNELS, PIXEL_SIZE, STYLES, Style, chunk_file, describe, images_of, write_plate
from s3 import bucket, s3_environment, s3_server
from typer.testing import CliRunner

from openhcs_omero.cli import app
from openhcs_omero.errors import OpenHCSError, PlateError
from openhcs_omero.io import s3 as s3_client
from openhcs_omero.io.filemanager import FileManager
from openhcs_omero.microscopes.describe import describe_folder, in_words
from openhcs_omero.microscopes.detect import handler_of

__all__ = ["bucket", "s3_environment", "s3_server"]
ONE_LEVEL = Style(levels=1)
SMALL = {"shape": (1, 2, 1, 6, 5)}


def read(path, **options):
    """The listing of a plate, and the pixels of its sites."""
    handler = handler_of(path, **options)
    listing = handler.listing(path)
    listing.check_complete()
    files = FileManager()
    return listing, {
        (well, image.site): pixels
        for well in listing.structure.wells_with_images()
        for image, pixels in handler.read_sites(listing, well, files)
    }


def same(found, images):
    assert set(found) == set(images)
    for place, image in images.items():
        assert found[place].dtype == image.dtype
        np.testing.assert_array_equal(found[place], image)


@pytest.mark.parametrize("program", STYLES)
def test_plates_of_other_programs(tmp_path, program):
    style = STYLES[program]
    images = images_of(style, shape=(2, 2, 2, 18, 22))
    path = write_plate(tmp_path / "p.zarr", images, style, labels=True)
    listing, found = read(path)
    same(found, images)
    plate = listing.structure
    assert plate.microscope_type == f"OME-Zarr {style.version}" and plate.name == "p.zarr"
    assert (plate.rows, plate.columns) == ((8, 12) if style.whole_grid else (2, 3))
    channels = CHANNELS[: plate.max_c]
    assert listing.channel_names == tuple(name for name, _ in channels)
    assert listing.colors == tuple(tuple(bytes.fromhex(color)) for _, color in channels)
    unknown = style.transformation == "identity"
    assert listing.pixel_size == tuple(
        None if unknown or axis not in style.axes else size for axis, size in zip("zyx", PIXEL_SIZE)
    )
    assert not listing.missing and not listing.notes and not listing.filled
    handler = handler_of(path)
    about = handler.read_metadata(listing, "B03")[2]
    assert (about.channel_names, about.colors, about.pixel_size) == (
        listing.channel_names,
        listing.colors,
        listing.pixel_size,
    )
    last = tuple(size - 1 for size in plate.image("B03", 2).shape[:3])
    np.testing.assert_array_equal(handler.read_plane(listing, "B03", 2, last, FileManager()), images["B03", 2][last])


@pytest.mark.parametrize(("dtype", "as_read"), [("bool", "uint8"), ("float16", "float32"), ("int32", "int32")])
def test_pixel_types(tmp_path, dtype, as_read):
    images = images_of(Style(), sites=1, dtype=dtype, **SMALL)
    _, found = read(write_plate(tmp_path / "p.zarr", images))
    same(found, {place: image.astype(as_read) for place, image in images.items()})


def test_images_that_differ(tmp_path):
    """Each site has its own size, and sparse wells have the sites that they have."""
    images = images_of(Style(), ["A01"], 2) | images_of(Style(), ["AF48"], 3, "uint8", shape=(1, 2, 5, 7, 9))
    listing, found = read(write_plate(tmp_path / "p.zarr", images))
    same(found, images)
    assert len(listing.structure.kinds()) == 2
    assert [note for note in listing.notes if note.startswith("the channel names differ")]


@pytest.mark.parametrize("columns", [["0", "1"], ["1", "2"], ["01", "02"], ["left", "right"]])
def test_names_of_columns(tmp_path, columns):
    """Numbers count from 1, or from 0 if there is a 0; other names are taken in their order."""
    path = write_plate(tmp_path / "p.zarr", images_of(Style(), ["A01", "A02"], 1, **SMALL))
    group = zarr.open_group(path)
    plate = group.attrs["ome"]["plate"]
    for number, name in enumerate(columns):
        (path / "A" / str(number + 1)).rename(path / "A" / f"new_{name}")
        plate["columns"][number]["name"] = name
        plate["wells"][number]["path"] = f"A/{name}"
    for name in columns:
        (path / "A" / f"new_{name}").rename(path / "A" / name)
    describe(group, Style(), {"plate": plate})
    assert list(read(path)[1]) == [("A01", 1), ("A02", 1)]


def test_the_fingerprint_changes_with_the_image_alone(tmp_path):
    path = write_plate(tmp_path / "p.zarr", images_of(Style(), **SMALL), labels=True)

    def stamps():
        return {(well, image.site): image.sha1 for well, image in handler_of(path).structure(path).images()}

    before = stamps()
    zarr.open_array(path / "A" / "1" / "0" / "labels" / "nuclei" / "0", mode="r+")[...] = 1
    zarr.open_array(path / "A" / "1" / "0" / "1", mode="r+")[...] = 1
    assert stamps() == before
    zarr.open_array(path / "A" / "1" / "1" / "0", mode="r+")[0, 0] = 1
    changed = stamps()
    assert {place for place in before if before[place] != changed[place]} == {("A01", 2)}


# ---- on S3


def test_a_plate_on_s3(bucket, tmp_path):
    images = images_of(ONE_LEVEL, sites=1, **SMALL)
    address = bucket(write_plate(tmp_path / "p.zarr", images, ONE_LEVEL))
    listing, found = read(address)
    same(found, images)
    before = listing.structure.image("A01", 1).sha1
    assert handler_of(address).structure(address).image("A01", 1).sha1 == before
    changed = bucket.bucket.Object("p.zarr/A/1/0/0/c/0/0/0/0/0")
    changed.put(Body=changed.get()["Body"].read() + b"\0")
    assert handler_of(address).structure(address).image("A01", 1).sha1 != before
    changed.delete()
    with pytest.raises(PlateError, match=r"well A01 lacks files of site 1: timepoint 0, channel 0, plane 0"):
        read(address)
    shown = CliRunner().invoke(app, ["info", f"{address}/", "--json", "--incomplete", "fill"])
    assert json.loads(shown.output)["wells"] == ["A01", "B03"], shown.output


def test_what_is_not_on_s3(bucket, tmp_path, monkeypatch):
    bucket(write_plate(tmp_path / "p.zarr", images_of(ONE_LEVEL, ["A01"], 1, **SMALL), ONE_LEVEL))
    for address, words in (
        ("s3://screens/q.zarr", "there is no s3://screens/q.zarr"),
        ("s3://others/p", "s3://others/p"),
    ):
        shown = CliRunner().invoke(app, ["info", address])
        assert shown.exit_code == 1 and words in shown.output and shown.output.count("\n") == 1
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3_client.forget_clients()
    shown = CliRunner().invoke(app, ["info", "s3://screens/p.zarr"])
    assert shown.exit_code == 1 and "127.0.0.1:9" in shown.output and shown.output.count("\n") == 1


def test_public_buckets_need_no_credentials(bucket, tmp_path, monkeypatch):
    address = bucket(write_plate(tmp_path / "p.zarr", images_of(ONE_LEVEL, ["A01"], 1, **SMALL), ONE_LEVEL))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    s3_client.forget_clients()
    assert set(read(address)[1]) == {("A01", 1)}


# ---- holes, damage and malice


def test_acquisitions(tmp_path):
    """One acquisition is a plate whose sites count from 1; all of them keep the numbers of the sites."""
    images = images_of(ONE_LEVEL, ["A01", "B02"], sites=4, shape=(1, 1, 1, 6, 5))
    path = write_plate(tmp_path / "runs.zarr", images, ONE_LEVEL, runs=["before", "after"])
    with pytest.raises(PlateError, match=r"has the acquisitions 1 \(before\), 2 \(after\); choose one"):
        handler_of(path).listing(path)
    for choice, first in (("before", 1), (2, 3), ("all", 1)):
        handler = handler_of(path, acquisition=choice)
        sites = handler.listing(path).structure.wells["B02"].images
        assert sorted(sites) == list(range(1, 5 if choice == "all" else 3))
        for site in sites:
            pixels = handler.load_site(path, "B02", site, FileManager())
            np.testing.assert_array_equal(pixels, images["B02", first + site - 1])
        assert len(handler.read_metadata(handler.listing(path), "B02")) == len(sites)
    assert [image.acquisition for image in sites.values()] == [(1, "before")] * 2 + [(2, "after")] * 2
    described = describe_folder(path)
    assert [(run["id"], run["name"], run["most_sites"]) for run in described["acquisitions"]] == [
        (1, "before", 2),
        (2, "after", 2),
    ]
    assert ("acquisition", "after  (id 2)") in list(in_words(described))
    shutil.rmtree(path / "B/2/3/0/c")  # site 2 of the second acquisition
    found = {run: handler_of(path, acquisition=run, incomplete="skip").listing(path) for run in ("before", "after")}
    assert not found["before"].notes and found["before"].skipped == {}
    assert found["after"].skipped == {"B02": (2,)} and "files of site 2" in found["after"].notes[0]
    handler_of(path, acquisition="before").listing(path).check_complete()


def edit(path, change):
    document = path / "zarr.json"
    content = json.loads(document.read_text())
    change(content)
    document.write_text(json.dumps(content))


def set_shape(*shape):
    return lambda document: document.update(shape=list(shape))


BROKEN = {
    "no well": (lambda well: shutil.rmtree(well), r"its images \(there is no .*B/3\)"),
    "no metadata of the well": (lambda well: edit(well, lambda d: d["attributes"].clear()), "no `well` metadata"),
    "no image": (lambda well: shutil.rmtree(well / "1"), r"site 2 \(there is no .*B/3/1\)"),
    "no array": (lambda well: shutil.rmtree(well / "1" / "0"), r"site 2 \(there is no .*B/3/1/0\)"),
    "ragged axes": (
        lambda well: edit(well / "1", lambda d: d["attributes"]["ome"]["multiscales"][0]["axes"].pop(0)),
        "site 2 .*no valid OME-Zarr metadata",
    ),
    "other dimensions": (
        lambda well: edit(well / "1" / "0", lambda d: d.update(shape=[2], dimension_names=None)),
        r"site 2 \(.*can't be read|has 5 axes",
    ),
    "strange axes": (
        lambda well: edit(well / "1", lambda d: d["attributes"]["ome"]["multiscales"][0]["axes"][0].update(name="q")),
        "site 2 .*has the axes q, c, z, y, x",
    ),
    "terabytes": (lambda well: edit(well / "1" / "0", set_shape(1, 2, 10**5, 10**5, 10**5)), "too large to be read"),
    "another version": (
        lambda well: edit(well / "1", lambda d: d["attributes"]["ome"].update(version="0.6")),
        "is OME-Zarr 0.6",
    ),
    "not JSON": (lambda well: (well / "1" / "zarr.json").write_text("{"), "site 2 .*can't be read as OME-Zarr"),
    "outside": (
        lambda well: edit(
            well / "1", lambda d: d["attributes"]["ome"]["multiscales"][0]["datasets"][0].update(path="../0/0")
        ),
        "'../0/0', which is outside of it",
    ),
}


@pytest.mark.parametrize("damage", BROKEN)
def test_a_broken_well_costs_that_well(tmp_path, damage):
    images = images_of(Style(), **SMALL)
    path = write_plate(tmp_path / "p.zarr", images)
    change, words = BROKEN[damage]
    change(path / "B" / "3")
    handler = handler_of(path)
    handler.check_complete(path, ["A01"])
    same({("A01", 2): handler.load_site(path, "A01", 2, FileManager())}, {("A01", 2): images["A01", 2]})
    with pytest.raises(PlateError, match=f"plate p.zarr: well B03 lacks {words}|{words}") as raised:
        handler.check_complete(path, ["A01", "B03"])
    assert "\n" not in str(raised.value) and "incomplete: skip" in str(raised.value)
    lost = {("B03", 1), ("B03", 2)} if "well" in damage else {("B03", 2)}
    listing, found = read(path, incomplete="skip")
    same(found, {place: image for place, image in images.items() if place not in lost})
    assert any("B03" in note for note in listing.notes)
    listing, found = read(path, incomplete="fill")
    same(found, {place: image * (place not in lost) for place, image in images.items()})
    assert set(listing.filled) == lost


REFUSED = {
    "an image": lambda path: path / "A" / "1" / "0",
    "a Zarr group": lambda path: path / "A",
    "no wells": lambda path: edit(path, lambda d: d["attributes"]["ome"]["plate"].update(wells=[])) or path,
    "an old version": lambda path: edit(path, lambda d: d["attributes"]["ome"].update(version="0.3")) or path,
    "wells that are not in the grid": lambda path: (
        edit(path, lambda d: d["attributes"]["ome"]["plate"]["wells"][0].update(path="../../A/1")) or path
    ),
    "no metadata": lambda path: edit(path, lambda d: d["attributes"].update(ome=[])) or path,
    "nothing that can be read": lambda path: [shutil.rmtree(path / row) for row in "AB"] and path,
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_plate(tmp_path, kind):
    path = REFUSED[kind](write_plate(tmp_path / "p.zarr", images_of(Style(), **SMALL)))
    shown = CliRunner().invoke(app, ["info", str(path)])
    assert shown.exit_code == 1 and shown.output.startswith("error: ") and shown.output.count("\n") == 1, shown.output


def test_a_damaged_chunk(tmp_path):
    """The file is there, so the plate is complete, but reading the site fails in one sentence."""
    path = write_plate(tmp_path / "p.zarr", images_of(Style(), **SMALL))
    handler = handler_of(path)
    plane = handler.listing(path).files["B03", 1][0, 1, 0]
    with open(chunk_file(plane), "wb") as file:
        file.write(b"rubbish")
    with pytest.raises(PlateError, match="B/3/0 can't be read as OME-Zarr"):
        handler.load_site(path, "B03", 1, FileManager())


def test_links_out_of_the_plate(tmp_path):
    images = images_of(Style(), **SMALL)
    path = write_plate(tmp_path / "p.zarr", images)
    chunk = path / "B" / "3" / "0" / "0" / "c" / "0" / "0" / "0" / "0" / "0"
    chunk.rename(tmp_path / "secret")
    chunk.symlink_to(tmp_path / "secret")
    with pytest.raises(PlateError, match="leads out of the plate's folder"):
        read(path)
    same(read(path, follow_links=True)[1], images)


def test_paths_of_other_kinds_are_refused():
    with pytest.raises(OpenHCSError):
        handler_of("https://example.org/p.zarr").listing("https://example.org/p.zarr")


def test_what_a_plate_or_well_lists_twice(tmp_path):
    """A well that the plate lists twice is one well; an image that a well lists twice costs that well."""
    path = write_plate(tmp_path / "p.zarr", images_of(ONE_LEVEL, **SMALL), ONE_LEVEL)
    edit(path, lambda d: d["attributes"]["ome"]["plate"]["wells"].append(d["attributes"]["ome"]["plate"]["wells"][0]))
    edit(path / "B/3", lambda d: d["attributes"]["ome"]["well"].update(images=[{"path": "0"}, {"path": "0"}]))
    edit(path / "A/1/0", lambda d: d["attributes"]["ome"].update(omero="nothing"))
    handler = handler_of(path)
    handler.check_complete(path, ["A01"])
    assert handler.get_well_values(path) == ["A01", "B03"]
    with pytest.raises(PlateError, match="one of B03 site 1 and one of B03 site 2: one must be wrong"):
        handler.check_complete(path, ["B03"])
