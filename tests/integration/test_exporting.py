"""Plates of OMERO exported as OME-Zarr: the same plate, whatever interrupts the export."""

import json
import os
import signal
import warnings

import numpy as np
import psutil
import pytest
import zarr
from ome_zarr_models.v05.hcs import HCS
from ome_zarr_models.v05.image import Image
from omero.model import ImageI, MaskI, PlateAcquisitionI, PlateI, RoiI, WellI, WellSampleI
from omero.rtypes import rdouble, rint, rstring, rtime
from test_cli import shell

from openhcs_omero.io.filemanager import FileManager
from openhcs_omero.microscopes.detect import handler_of
from openhcs_omero.microscopes.importing import import_folder
from openhcs_omero.omero import queries
from openhcs_omero.omero.pixels import read_metadata, read_site
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.omero.writing import write_well_images
from openhcs_omero.plates.image import NewImage

__all__ = ["shell"]
rng = np.random.default_rng(8)
NAMES, COLORS, SIZE = ("DAPI", "Cy5"), ((0, 0, 255), (255, 0, 0)), (2.0, 0.65, 0.65)


def make_plate(conn, wells, shapes, runs=()):
    """A plate with an image per site, of the given shapes; each of the `runs` acquires as many sites as the others."""
    group = queries.current_group(conn)
    save = queries.update(conn).saveAndReturnObject
    plate = PlateI()
    plate.name, plate.rows, plate.columns = rstring("a screen"), rint(8), rint(12)
    acquisitions = []
    for number, name in enumerate(runs):
        run = PlateAcquisitionI()
        run.name, run.startTime = rstring(name), rtime(1_700_000_000_000 + number)
        plate.addPlateAcquisition(run)
    plate = save(plate)
    acquisitions = [run.id.val for run in plate.copyPlateAcquisitions()]
    for row, column in wells:
        well = WellI()
        well.row, well.column, well.plate = rint(row), rint(column), PlateI(plate.id.val, False)
        images = [
            NewImage(f"{row} {column}", rng.integers(0, 60000, shape).astype("uint16"), NAMES, COLORS, SIZE)
            for shape in shapes
        ]
        for number, image in enumerate(write_well_images(conn, images, "test", group)):
            sample = WellSampleI()
            sample.image = ImageI(image.image_id, False)
            if acquisitions:
                chosen = acquisitions[number * len(acquisitions) // len(images)]
                sample.plateAcquisition = PlateAcquisitionI(chosen, False)
            well.addWellSample(sample)
        save(well)
    return load_plate(conn, plate.id.val)


def add_mask(conn, image_id, y, x, inside, z=None, name=None):
    mask = MaskI()
    mask.x, mask.y, mask.width, mask.height = map(rdouble, (x, y, *inside.shape[::-1]))
    mask.bytes = np.packbits(inside).tobytes()
    if z is not None:
        mask.theZ = rint(z)
    roi = RoiI()
    roi.image = ImageI(image_id, False)
    roi.name = name and rstring(name)
    roi.addShape(mask)
    conn.getUpdateService().saveObject(roi)


def check(conn, plate, path):
    """The export has the pixels, names, colors and sizes of the plate, and is valid; returns the metadata."""
    handler = handler_of(path, acquisition="all")
    listing = handler.listing(path)
    listing.check_complete()
    found = {(well, image.site): image for well, image in listing.structure.images()}
    images = {(well, image.site): image for well, image in plate.images()}
    assert set(found) == set(images)
    for (well, site), image in images.items():
        pixels = handler.load_site(path, well, site, FileManager())
        np.testing.assert_array_equal(pixels, read_site(conn, image))
        assert found[well, site].acquisition == image.acquisition
        about = read_metadata(conn, [image])[image.image_id]
        exported = handler.read_metadata(listing, well)[site]
        assert (exported.channel_names, exported.colors) == (about.channel_names, about.colors)
        assert exported.pixel_size == pytest.approx(about.pixel_size)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        root = zarr.open_group(path, mode="r")
        valid = HCS.from_zarr(root)
        for well in valid.ome_attributes.plate.wells:
            for image in root[well.path].attrs["ome"]["well"]["images"]:
                Image.from_zarr(root[f"{well.path}/{image['path']}"])
    return valid.ome_attributes.plate


def times(path):
    return {
        well.parent.relative_to(path).as_posix(): well.stat().st_mtime_ns
        for well in sorted(path.glob("[A-Z]/*/zarr.json"))
    }


def test_an_export_is_the_plate(conn, shell, tmp_path):
    shapes = [(2, 2, 3, 20, 30), (1, 2, 1, 700, 519)]
    plate = make_plate(conn, [(0, 0), (1, 11)], shapes, ["day 1", "day 2"])
    inside = rng.integers(0, 2, (5, 9)).astype(bool)
    image = plate.image("B12", 1)
    add_mask(conn, image.image_id, 2, 25, inside)  # reaches over the edge
    add_mask(conn, image.image_id, 10, 0, np.ones((3, 2), bool), z=1, name="nuclei 12")
    out = tmp_path / "out.zarr"
    status, _, err = shell("export", plate.plate_id, out, "--processes", 2)
    assert status == 0, err
    told = {f"acquisition     {name}  (id {number})" for number, name in plate.acquisitions()}
    assert len(told) == 2 and told <= set(shell.lines("info", plate.plate_id))
    described = check(conn, plate, out)
    assert (len(described.rows), len(described.columns), described.field_count) == (8, 12, 2)
    assert [(run.name, run.maximumfieldcount) for run in described.acquisitions] == [("day 1", 1), ("day 2", 1)]
    assert described.acquisitions[0].starttime == 1_700_000_000_000
    again = load_plate(conn, import_folder(conn, out)).described_acquisitions()
    assert [(run.name, run.start) for run in again] == [(r.name, r.starttime) for r in described.acquisitions]
    assert shell("get", f"/omero/plate_{plate.plate_id}", tmp_path / "copy")[0] == 0
    copy = tmp_path / "copy" / f"plate_{plate.plate_id}"
    copied = handler_of(copy, acquisition="all").listing(copy).structure
    assert copied.described_acquisitions() == load_plate(conn, plate.plate_id).described_acquisitions()
    assert [zarr.open_array(out / "A/1/1" / str(level)).shape[3:] for level in range(3)] == [
        (700, 519),
        (350, 260),
        (175, 130),
    ]

    labels = zarr.open_group(out / "B/12/0/labels", mode="r")
    assert set(labels.attrs["ome"]["labels"]) == {"masks", "nuclei"}
    expected = np.zeros((2, 1, 3, 20, 30), "uint16")
    expected[..., 2:7, 25:30] = inside[:, :5]
    np.testing.assert_array_equal(labels["masks/0"][...], expected)
    expected[...] = 0
    expected[:, :, 1, 10:13, 0:2] = 12
    np.testing.assert_array_equal(labels["nuclei/0"][...], expected)
    assert labels["nuclei"].attrs["ome"]["image-label"]["properties"] == [{"label-value": 12, "pixels": 12}]
    assert not (out / "A/1/0/labels").exists()

    before = times(out)
    assert set(before) == {"A/1", "B/12"}
    assert shell("export", plate.plate_id, out)[0] == 0 and times(out) == before
    renamed = conn.getObject("Image", plate.image("A01", 1).image_id)
    renamed.setName("another name")
    renamed.save()
    assert shell("export", f"plate_{plate.plate_id}", out)[0] == 0
    assert {well for well, when in times(out).items() if when != before[well]} == {"A/1"}
    check(conn, load_plate(conn, plate.plate_id), out)


def test_a_killed_export_goes_on(conn, shell, tmp_path):
    plate = make_plate(conn, [(0, column) for column in range(8)], [(1, 2, 1, 64, 64)])
    out = tmp_path / "out.zarr"
    process = shell.start("export", plate.plate_id, out, "--processes", 1)
    while not times(out) and process.poll() is None:
        os.sched_yield()
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert psutil.wait_procs(children, timeout=30)[1] == []  # the other processes end with it
    before = times(out)
    assert 0 < len(before) < 8
    assert "plate" not in zarr.open_group(out, mode="r").attrs.get("ome", {})
    for well in before:
        assert len(zarr.open_group(out / well, mode="r").attrs["ome"]["well"]["images"]) == 1
    assert shell("export", plate.plate_id, out)[0] == 0
    check(conn, plate, out)
    assert {well: when for well, when in times(out).items() if well in before} == before
    assert not (out / ".parts").exists()


def test_what_is_not_exported(conn, shell, tmp_path):
    plate = make_plate(conn, [(0, 0)], [(1, 2, 1, 4, 5)])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").touch()
    (tmp_path / "file").touch()
    assert "is not empty" in shell.refusal("export", plate.plate_id, tmp_path / "full")
    assert "is a file" in shell.refusal("export", plate.plate_id, tmp_path / "file")
    assert os.listdir(tmp_path / "full") == ["thesis.doc"]
    assert "no plate" in shell.refusal("export", "987654321", tmp_path / "none")
    assert "export takes a plate" in shell.refusal("export", f"/omero/plate_{plate.plate_id}/A01", tmp_path / "none")
    assert not (tmp_path / "none").exists()
    assert shell("export", plate.plate_id, tmp_path / "out.zarr")[0] == 0
    other = make_plate(conn, [(0, 0)], [(1, 2, 1, 4, 5)])
    said = shell.refusal("export", other.plate_id, tmp_path / "out.zarr")
    assert f"has an export of {shell.env['OMERO_HOST']}" in said and f"plate_{plate.plate_id}" in said
    document = json.loads((tmp_path / "out.zarr" / "zarr.json").read_text())
    assert document["attributes"]["ome"]["plate"]["name"] == "a screen"
