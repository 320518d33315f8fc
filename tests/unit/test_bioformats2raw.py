"""Plates in the layout that bioformats2raw documents and its source writes. The program itself does not run here."""

import numpy as np
import pytest
import zarr
from ome_zarr_plates import Style, write_image

from openhcs_omero.errors import PlateError
from openhcs_omero.io.filemanager import FileManager
from openhcs_omero.microscopes.describe import describe_folder
from openhcs_omero.microscopes.detect import handler_of

V2 = Style(version="0.4", byte_order=">", chunks=(1, 1, 1, 1024, 1024))
WELLS = {"A/1": [0, 1], "C/12": [0], "H/2": [0, 1]}  # three of 96, with 2 or 1 fields
OMEXML = '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"/>'


def write(folder, runs=1):
    """Write a plate; with two runs, the second field is of the second one. Returns the images by well and site."""
    root = zarr.open_group(folder, mode="w", zarr_format=2)
    listed = [{"path": path, "rowIndex": "ABCDEFGH".index(path[0]), "columnIndex": int(path[2:]) - 1} for path in WELLS]
    plate = {
        "name": "plate",
        "rows": [{"name": name} for name in "ABCDEFGH"],
        "columns": [{"name": str(number)} for number in range(1, 13)],
        "acquisitions": [{"id": run} for run in range(runs)],  # without names
        "wells": listed,
        "field_count": 2,
        "version": "0.4",
    }
    root.attrs.update({"bioformats2raw.layout": 3, "plate": plate})
    series = [f"{path}/{field}" for path, fields in WELLS.items() for field in fields]
    root.require_group("OME").attrs["series"] = series
    (folder / "OME" / "METADATA.ome.xml").write_text(OMEXML)
    rng, images = np.random.default_rng(0), {}
    for path, fields in WELLS.items():
        items = [{"acquisition": min(field, runs - 1), "path": str(field)} for field in fields]
        root.require_group(path).attrs["well"] = {"images": items}  # without a version
        for field in fields:
            image = rng.integers(1, 900, (2, 2, 3, 20, 18)).astype("uint16")
            images[f"{path[0]}{int(path[2:]):02d}", field + 1] = image
            group = root.require_group(f"{path}/{field}")
            write_image(group, image, V2)
            [multiscale] = group.attrs["multiscales"]
            how = {"method": "loci.common.image.SimpleImageScaler", "version": "Bio-Formats 8.0"}
            group.attrs["multiscales"] = [{**multiscale, "name": f"Series {field}", "type": "Simple", "metadata": how}]
    return images


def test_a_sparse_plate(tmp_path):
    images = write(tmp_path / "p.zarr")
    handler = handler_of(tmp_path / "p.zarr")
    for (well, site), image in images.items():
        np.testing.assert_array_equal(handler.load_site(tmp_path / "p.zarr", well, site, FileManager()), image)
    found = describe_folder(tmp_path / "p.zarr")
    assert found["microscope"] == "OME-Zarr 0.4" and found["format"] == [8, 12]
    assert found["sites"] == {"A01": [1, 2], "C12": [1], "H02": [1, 2]} and found["channels"] == ["DAPI", "FITC"]
    assert found["acquisitions"] == [{"id": 0, "name": "Run 0", "most_sites": 2, "start": None, "end": None}]
    assert found["notes"] == [] and found["missing"] == {}


def test_several_acquisitions(tmp_path):
    images = write(tmp_path / "p.zarr", runs=2)
    with pytest.raises(PlateError, match=r"it has the acquisitions 0 \(Run 0\), 1 \(Run 1\)"):
        handler_of(tmp_path / "p.zarr").listing(tmp_path / "p.zarr")
    handler = handler_of(tmp_path / "p.zarr", acquisition=1)
    assert handler.structure(tmp_path / "p.zarr").wells_with_images() == ["A01", "H02"]
    found = handler.load_site(tmp_path / "p.zarr", "H02", 1, FileManager())
    np.testing.assert_array_equal(found, images["H02", 2])


def test_a_plane_that_was_not_written(tmp_path):
    write(tmp_path / "p.zarr")
    (tmp_path / "p.zarr/A/1/1/0/1/0/2/0/0").unlink()  # the chunks' separator is a slash
    with pytest.raises(PlateError, match="well A01 lacks files of site 2: timepoint 1, channel 0, plane 2;"):
        handler_of(tmp_path / "p.zarr").check_complete(tmp_path / "p.zarr", ["A01"])


def test_images_that_are_no_plate(tmp_path):
    write(tmp_path / "p.zarr")
    root = zarr.open_group(tmp_path / "p.zarr", mode="r+")
    del root.attrs["plate"]
    with pytest.raises(
        PlateError, match="a collection of images, as bioformats2raw writes it with --no-hcs, not a plate"
    ):
        handler_of(tmp_path / "p.zarr").listing(tmp_path / "p.zarr")
