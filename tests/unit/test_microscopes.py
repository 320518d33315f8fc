"""The microscope handlers: each reads the same images from its own format, and reports what is wrong with a folder."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from plate_folders import (
    CHANNELS,
    PIXEL_SIZE,
    images_of,
    write_cellvoyager,
    write_htd,
    write_imagexpress,
    write_incell,
    write_openhcs,
    write_phenix,
)

from openhcs_omero.errors import OpenHCSError, PlateError
from openhcs_omero.io.base import BadData, MissingFile, storage_registry
from openhcs_omero.io.filemanager import FileManager
from openhcs_omero.microscopes import imagexpress, opera_phenix
from openhcs_omero.microscopes.base import Backend
from openhcs_omero.microscopes.detect import handler_of
from openhcs_omero.plates.paths import plate_of

WELLS = ["B03", "A01", "H12"]
FORMATS = {
    "imagexpress": lambda folder, images: write_imagexpress(folder, images),
    "imagexpress exported": lambda folder, images: write_imagexpress(folder, images, guids=False, projections=True),
    "phenix 5": lambda folder, images: write_phenix(folder, images),
    "phenix 6": lambda folder, images: write_phenix(folder, images, version=6, index="Index.xml"),
    "phenix 7, flat": lambda folder, images: write_phenix(folder, images, version=7, inside=""),
    "cellvoyager": lambda folder, images: write_cellvoyager(folder, images),
    "incell": lambda folder, images: write_incell(folder, images),
    "openhcs on disk": lambda folder, images: write_openhcs(folder, images, "disk"),
    "openhcs in zarr": lambda folder, images: write_openhcs(folder, images, "zarr"),
    "openhcs workspace": lambda folder, images: write_openhcs(folder, images, "virtual_workspace"),
}
TYPES = {
    "cellvoyager": "CellVoyager",
    "incell": "InCell",
    "imagexpress": "ImageXpress",
    "phenix": "OperaPhenix",
    "openhcs": "OpenHCS",
}


@pytest.fixture(params=FORMATS)
def written(request, tmp_path):
    """A folder of each format and the images in it, with timepoints, channels and stacks."""
    images = images_of(WELLS)
    return request.param, FORMATS[request.param](tmp_path / "plate 7", images), images


def test_every_format_gives_the_same_structure(written):
    kind, folder, images = written
    handler = handler_of(folder)
    assert handler.microscope_type == TYPES[re.split("[ ,]", kind)[0]]
    structure = handler.parse(folder).structure
    assert list(structure.wells) == ["A01", "B03", "H12"]
    assert (structure.max_sites, structure.max_t, structure.max_c, structure.max_z) == (2, 2, 2, 3)
    assert (structure.rows, structure.columns, structure.name) == (8, 12, "plate 7")
    assert structure.microscope_type == handler.microscope_type
    assert structure.plate_id is structure.group_id is None  # only OMERO has ids
    assert all(image.image_id is image.pixels_id is image.index is None for _, image in structure.images())
    shapes = {(well, image.site): image.shape for well, image in structure.images()}
    assert shapes == dict.fromkeys(images, (2, 2, 3, 6, 5))
    assert {image.pixel_type for _, image in structure.images()} == {"uint16"}
    assert handler.get_channel_values(folder) == {0: "DAPI", 1: "FITC"}
    assert handler.get_z_index_values(folder) == [0, 1, 2]
    assert handler.get_timepoint_values(folder) == [0, 1]
    assert handler.get_site_values(folder) == [1, 2]
    assert handler.get_well_values(folder) == ["A01", "B03", "H12"]
    assert handler.parse(folder).pixel_size[1:] == pytest.approx((PIXEL_SIZE, PIXEL_SIZE))


def test_every_format_gives_the_same_pixels(written):
    _, folder, images = written
    handler, filemanager = handler_of(folder), FileManager()
    for (well, site), image in images.items():
        back = handler.load_site(folder, well, site, filemanager)
        assert back.dtype == image.dtype
        np.testing.assert_array_equal(back, image)
    with pytest.raises(PlateError, match="no site 3"):
        handler.load_site(folder, "A01", 3, filemanager)


def test_backends(written):
    kind, folder, _ = written
    handler = handler_of(folder)
    expected = {"openhcs in zarr": "zarr", "openhcs workspace": "virtual_workspace"}.get(kind, "disk")
    assert handler.get_primary_backend(folder, FileManager()) == expected
    assert handler.parse(folder).backend == expected
    if handler.microscope_type != "OpenHCS":
        assert handler.compatible_backends == [Backend.DISK]


def test_fingerprints_change_with_the_files(written):
    """Rewriting a file changes the fingerprint of its well and of no other."""
    _, folder, _ = written
    handler = handler_of(folder)
    before = {name: well.fingerprint() for name, well in handler.listing(folder).structure.wells.items()}
    listing = handler.listing(folder)
    path = listing.files["B03", 2][0, 1, 2]
    backend = storage_registry[listing.backend]
    file = backend.file_of(path) if hasattr(backend, "file_of") else Path(path)
    os.utime(file, ns=(1, file.stat().st_mtime_ns + 1))
    assert handler.listing(folder) is listing
    handler.refresh(folder)
    after = {name: well.fingerprint() for name, well in handler.listing(folder).structure.wells.items()}
    assert [name for name in before if before[name] != after[name]] == ["B03"]


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if "zarr" not in kind])
def test_an_image_of_another_size(kind, tmp_path):
    folder = FORMATS[kind](tmp_path / "p", images_of(["A01"]))
    handler = handler_of(folder)
    listing = handler.listing(folder)
    path = listing.files["A01", 1][1, 1, 2]
    file = storage_registry[listing.backend].file_of(path) if "workspace" in kind else Path(path)
    tifffile.imwrite(file, np.zeros((4, 4), "uint16"))
    with pytest.raises(PlateError, match=r"is \(4, 4\) uint16, but the first plane of the site is \(6, 5\) uint16"):
        handler.load_site(folder, "A01", 1, FileManager())


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if "zarr" not in kind])
def test_a_missing_file(kind, tmp_path):
    folder = FORMATS[kind](tmp_path / "p", images_of(["A01", "A02"]))
    files = sorted(
        path
        for path in folder.rglob("*")
        if re.search(
            r"A02.*s0*2.*w2(?!_thumb)|r01c02f02p03-ch2sk2|A02_T0002F002L01A02Z03"
            r"|A - 2\(fld 2 wv FITC - FITC z 3 time 2",
            path.name,
        )
        and "ZStep_0" not in str(path)
    )
    stacks = [path for path in files if path.parent.name.startswith("ZStep") or not path.name.endswith(".TIF")]
    stacks[-1].unlink()
    listing = handler_of(folder).parse(folder)
    numbers = "timepoint 1, channel 1, plane 2"
    if kind != "incell":
        numbers = r"timepoint [12], channel 2, plane 3 \(as the files number them\)"
    lacks = f"well A02 lacks files of site {1 if kind == 'incell' else 2}: {numbers}; add the files"
    with pytest.raises(PlateError, match=lacks):
        listing.check_complete()
    listing.check_complete(["A01"])
    with pytest.raises(PlateError, match=lacks):  # no pixels are made up for it
        handler_of(folder).load_site(folder, "A02", 2, FileManager())


# ---- ImageXpress


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plate_A01_s1_w1E94C24BD-45E4-450A-9919-257C714278F7.TIF", ("A01", 1, 1)),
        ("plate_A01_s12_w22B90625C-6EA7-4E54-8289-C539EB75263E.tif", ("A01", 12, 2)),
        ("MIP-2P-2sub_C05_s1_w1046C9B2CD-0BB3-4B8A-9187-2805F4C90506.tif", ("C05", 1, 10)),
        ("9987_B02_s2_w4.TIF", ("B02", 2, 4)),
        ("a_b_AF48_w1.tiff", ("AF48", 1, 1)),
        ("idr_A01_s1_[6F0BA473-D18A-4A31-8DB8-E2087BC78145].tif", ("A01", 1, 1)),
        ("A01_s1_w1.tif", ("A01", 1, 1)),
        ("plate_P24.tif", ("P24", 1, 1)),
        ("plate_A01_s1_w1_thumb4BFD4018-E675-475E-B5AB-2E959E6B6DA1.tif", None),
        ("plate_A01_s1_w1_thumb.tif", None),
        ("plate_A1_s1_w1.tif", None),
        ("plate_A01_s1_w1.png", None),
        ("A01_s001_z000_c000.tif", None),
        ("r01c01f01p01-ch1sk1fk1fl1.tiff", None),
    ],
)
def test_imagexpress_names(name, expected):
    assert imagexpress.parse_name(name) == expected


@given(
    prefix=st.text("abcXYZ0123456789_- ", max_size=12),
    row=st.sampled_from("ABHP"),
    column=st.integers(1, 48),
    site=st.integers(1, 150),
    wave=st.integers(1, 12),
    guid=st.one_of(st.none(), st.uuids()),
)
def test_imagexpress_names_of_any_plate(prefix, row, column, site, wave, guid):
    name = f"{prefix}_{row}{column:02d}_s{site}_w{wave}{'' if guid is None else str(guid).upper()}.TIF"
    assert imagexpress.parse_name(name) == (f"{row}{column:02d}", site, wave)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 1, 1), (1, 2, 2)])
def test_imagexpress_folders_that_are_omitted(tmp_path, sizes):
    """One timepoint and plane: files next to the HTD file; several timepoints of one plane: no ZStep_ folders."""
    images = images_of(["A01"], sites=1, shape=(*sizes, 6, 5))
    folder = write_imagexpress(tmp_path / "p", images)
    handler = handler_of(folder)
    np.testing.assert_array_equal(handler.load_site(folder, "A01", 1, FileManager()), images["A01", 1])


def test_imagexpress_with_projections_only(tmp_path):
    images = images_of(["A01"], sites=1, shape=(1, 2, 1, 6, 5))
    folder = write_imagexpress(tmp_path / "p", images, guids=False)
    (folder / "TimePoint_1" / "ZStep_0").mkdir(parents=True)
    for path in folder.glob("*.TIF"):
        path.rename(folder / "TimePoint_1" / "ZStep_0" / path.name)
    handler = handler_of(folder)
    np.testing.assert_array_equal(handler.load_site(folder, "A01", 1, FileManager()), images["A01", 1])


def test_imagexpress_without_htd(tmp_path):
    folder = write_imagexpress(tmp_path / "p", images_of(["C05", "B02"]), htd=False)
    handler = handler_of(folder)
    assert handler.microscope_type == "ImageXpress"
    structure = handler.parse(folder).structure
    assert (list(structure.wells), structure.rows, structure.columns) == (["B02", "C05"], 3, 5)
    assert handler.get_channel_values(folder) == {0: None, 1: None}


def test_imagexpress_wells_without_files_are_empty(tmp_path):
    """After a stopped acquisition, the wells that were not reached are listed without images."""
    folder = write_imagexpress(tmp_path / "p", images_of(["A01"]), wells=["A01", "A02"])
    structure = handler_of(folder).parse(folder).structure
    assert list(structure.wells) == ["A01", "A02"]
    assert structure.wells_with_images() == ["A01"]


def test_imagexpress_incomplete_wells(tmp_path):
    folder = write_imagexpress(tmp_path / "p", images_of(["A01", "A02"], shape=(1, 1, 1, 4, 4)), guids=False)
    kept = (folder / "p_A02_s2_w1.TIF").read_bytes()
    (folder / "p_A02_s2_w1.TIF").unlink()
    with pytest.raises(PlateError, match="well A02 lacks files of site 2: all of it"):
        handler_of(folder).parse(folder).check_complete()
    (folder / "p_A02_s2_w1.TIF").write_bytes(kept)
    (folder / "p_A02_s1_w1.TIF").unlink()
    with pytest.raises(PlateError, match="well A02 lacks files of site 1: all of it"):
        handler_of(folder).parse(folder).check_complete()


def test_imagexpress_unrelated_files(tmp_path):
    folder = write_imagexpress(tmp_path / "p", images_of(["A01"], shape=(1, 1, 1, 4, 4)))
    (folder / "notes.txt").write_text("not read")
    handler_of(folder).parse(folder)
    tifffile.imwrite(folder / "overview.tif", np.zeros((4, 4), "uint8"))
    with pytest.raises(PlateError, match=r"overview.tif is not named like a plane of an ImageXpress plate"):
        handler_of(folder).parse(folder)
    (folder / "overview.tif").rename(folder / "p_A01_s1_w1.TIF")
    with pytest.raises(PlateError, match=r"well A01 lacks .* are the same plane of the same site"):
        handler_of(folder).parse(folder).check_complete()


def test_htd(tmp_path):
    write_htd(tmp_path / "x.HTD", ["A01", "P24"], 3, (1, 4, 5), rows=16, columns=24)
    htd = imagexpress.parse_htd(tmp_path / "x.HTD")
    assert (htd.rows, htd.columns, htd.wells, htd.sites) == (16, 24, ("A01", "P24"), (1, 2, 3))
    assert htd.wave_names == dict(enumerate(CHANNELS, 1))


@pytest.mark.parametrize(
    "text",
    ["", "XWells,12\n", '"HTSInfoFile", Version 1.0\n"XWells", twelve\n', '"HTSInfoFile", Version 1.0\n"XWells"\n'],
)
def test_broken_htd(tmp_path, text):
    folder = write_imagexpress(tmp_path / "p", images_of(["A01"], shape=(1, 1, 1, 4, 4)), htd=False)
    (folder / "p.HTD").write_text(text)
    with pytest.raises(PlateError, match="HTD file"):
        handler_of(folder).parse(folder)
    (folder / "q.htd").write_text(text)
    with pytest.raises(PlateError, match="several HTD files"):
        handler_of(folder).parse(folder)


# ---- Opera Phenix


@given(*[st.integers(1, 9)] * 6)
def test_phenix_names(row, column, site, plane, channel, t):
    for width in (2, 3):
        name = f"r{row:02d}c{column:02d}f{site:0{width}d}p{plane:0{width}d}-ch{channel}sk{t}fk1fl1.tiff"
        assert opera_phenix.parse_name(name) == (row, column, site, plane, channel, t)
        old = name.replace(f"-ch{channel}", f"rc{channel}-ch1")  # of Harmony 3
        assert opera_phenix.parse_name(old) == (row, column, site, plane, channel, t)
    assert opera_phenix.parse_name(name.replace("-", "_")) is None


def test_phenix_by_file_names_only(tmp_path):
    images = images_of(["A01", "B02"])
    folder = write_phenix(tmp_path / "p", images, index=None)
    handler = handler_of(folder)
    assert handler.microscope_type == "OperaPhenix"
    np.testing.assert_array_equal(handler.load_site(folder, "B02", 2, FileManager()), images["B02", 2])
    assert handler.get_channel_values(folder) == {0: None, 1: None}


def test_phenix_planes_and_their_spacing(tmp_path):
    folder = write_phenix(tmp_path / "p", images_of(["A01"], shape=(1, 1, 3, 4, 4)))
    assert handler_of(folder).parse(folder).pixel_size == pytest.approx((2, PIXEL_SIZE, PIXEL_SIZE))
    assert handler_of(folder / "Images").parse(folder / "Images").structure.max_z == 3


def test_phenix_fields_that_do_not_start_at_one(tmp_path):
    """For a selection of Harmony's fields, sites are numbered without gaps in field order."""
    images = {("A01", 5): images_of(["A01"])["A01", 1], ("A01", 9): images_of(["A01"], seed=1)["A01", 1]}
    folder = write_phenix(tmp_path / "p", images)
    handler = handler_of(folder)
    assert handler.get_site_values(folder) == [1, 2]
    np.testing.assert_array_equal(handler.load_site(folder, "A01", 2, FileManager()), images["A01", 9])


def test_phenix_urls_with_folders(tmp_path):
    """URLs may include the folder, with either slash."""
    images = images_of(["A01"])
    folder = write_phenix(tmp_path / "p", images)
    index = folder / "Images" / "Index.idx.xml"
    text = index.read_text()
    for prefix in ("Images/", "Images\\", "C:\\data\\Images\\"):
        index.write_text(text.replace("<URL>", f"<URL>{prefix}"))
        handler = handler_of(folder)
        np.testing.assert_array_equal(handler.load_site(folder, "A01", 2, FileManager()), images["A01", 2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:-30], "can't be read as an index of an Opera Phenix plate"),
        (lambda text: text.replace("EvaluationInputData", "Measurement"), "its root is <Measurement>"),
        (lambda text: text.replace("<Col>1</Col>", "<Col>one</Col>"), "can't be read as an index"),
        (lambda text: text.replace("<Row>1</Row>", "<Row>0</Row>"), "can't be read as an index"),
        (
            lambda text: re.sub("<Images>.*</Images>", "<Images />", text),
            "there is no plane of an Opera Phenix plate in",
        ),
        (lambda text: text.replace("ch1sk1", "ch9sk9"), "lacks files of site 1: timepoint 0, channel 1, plane 1"),
    ],
)
def test_broken_indexes(tmp_path, change, message):
    folder = write_phenix(tmp_path / "p", images_of(["A01"]))
    index = folder / "Images" / "Index.idx.xml"
    index.write_text(change(index.read_text()))
    with pytest.raises(PlateError, match=message) as error:
        handler_of(folder).parse(folder).check_complete()
    assert "\n" not in str(error.value)


# ---- CellVoyager and IN Cell


@pytest.mark.parametrize("write", [write_cellvoyager, write_incell])
def test_file_names_only(tmp_path, write):
    images = images_of(["A01", "B02"])
    folder = write(tmp_path / "p", images, False)
    handler = handler_of(folder)
    np.testing.assert_array_equal(handler.load_site(folder, "B02", 2, FileManager()), images["B02", 2])
    names = [None, None] if write is write_cellvoyager else ["DAPI - DAPI", "FITC - FITC"]
    assert list(handler.get_channel_values(folder).values()) == names


def test_cellvoyager_plates_with_1536_wells(tmp_path):
    for well in ("A01.a1", "A01.d4", "H12.b2"):
        tifffile.imwrite(tmp_path / f"P_{well}_T0001F001L01A01Z01C01.tif", np.zeros((4, 4), "uint16"))
    assert list(handler_of(tmp_path).parse(tmp_path).structure.wells) == ["A01", "D04", "AD46"]
    tifffile.imwrite(tmp_path / "P_A01.e1_T0001F001L01A01Z01C01.tif", np.zeros((4, 4), "uint16"))
    with pytest.raises(PlateError, match=r"1 of 4 file names don't match the pattern 'cellvoyager'"):
        handler_of(tmp_path).parse(tmp_path)


def test_cellvoyager_errors_are_missing_planes(tmp_path):
    """An error record tells what should have been measured."""
    folder = write_cellvoyager(tmp_path / "p", images_of(["A01", "B02"]))
    path = folder / "MeasurementData.mlf"
    text = path.read_text()
    place = 'bts:Type="{}" bts:Column="2" bts:Row="2" bts:FieldIndex="2"'
    path.write_text(text.replace(place.format("IMG"), place.format("ERR")))
    with pytest.raises(PlateError, match="well B02 lacks files of site 2: all of it"):
        handler_of(folder).parse(folder).check_complete()


@pytest.mark.parametrize(
    ("write", "name", "change"),
    [
        (write_cellvoyager, "MeasurementData.mlf", lambda text: text[:-30]),
        (write_cellvoyager, "MeasurementData.mlf", lambda text: text.replace('bts:Row="1"', 'bts:Row="one"')),
        (write_cellvoyager, "MeasurementData.mlf", lambda text: text.replace('bts:Row="1"', 'bts:Row="0"')),
        (write_cellvoyager, "MeasurementData.mlf", lambda text: text.replace("IMG", "NON")),
        (
            write_cellvoyager,
            "MeasurementDetail.mrf",
            lambda text: text.replace('RowCount="8"', 'RowCount="999999999999"'),
        ),
        (write_incell, "p.XDCE", lambda text: text[:-30]),
        (write_incell, "p.XDCE", lambda text: text.replace('Row number="1"', 'Row number="one"')),
        (write_incell, "p.XDCE", lambda text: text.replace("<Identifier", "<Identity")),
        (write_incell, "p.XDCE", lambda text: text.replace('rows="8"', 'rows="999999999999"')),
        (write_incell, "p.XDCE", lambda text: text.replace("filename=", "file=")),
    ],
)
def test_broken_descriptions(tmp_path, write, name, change):
    folder = write(tmp_path / "p", images_of(["A01"]))
    text = (folder / name).read_text()
    assert change(text) != text
    (folder / name).write_text(change(text))
    with pytest.raises(PlateError, match=name) as error:
        handler_of(folder).parse(folder)
    assert "\n" not in str(error.value)


# ---- OpenHCS


def change_metadata(folder, **values):
    path = folder / "openhcs_metadata.json"
    document = json.loads(path.read_text())
    main = next(entry for entry in document["subdirectories"].values() if entry["main"])
    main.update(values)
    path.write_text(json.dumps(document))


def test_openhcs_backend_is_detected_if_none_is_marked(tmp_path):
    for backend in ("zarr", "disk", "virtual_workspace"):
        folder = write_openhcs(tmp_path / backend, images_of(["A01"], sites=1), backend)
        change_metadata(folder, available_backends=None)
        assert handler_of(folder).get_primary_backend(folder, FileManager()) == backend


@pytest.mark.parametrize(
    ("backend", "values", "message"),
    [
        ("disk", {"source_filename_parser_name": "Cellomics"}, "names for 'Cellomics', which is not known; known are"),
        (
            "disk",
            {"source_filename_parser_name": "OperaPhenixFilenameParser"},
            "does not follow the naming scheme OperaPhenixFilenameParser",
        ),
        ("disk", {"image_files": []}, "names no image"),
        ("disk", {"image_files": ["images/A09_s001_w1.tif"]}, "none of the 1 files that its metadata list"),
        ("disk", {"available_backends": {"zarr": True}}, "says that 'images' is in Zarr, but there is no"),
        (
            "virtual_workspace",
            {"workspace_mapping": {"A01_s001_w1.tif": {"reader": "bioformats"}}},
            "only names of",
        ),
    ],
)
def test_openhcs_metadata_that_do_not_match_the_files(tmp_path, backend, values, message):
    folder = write_openhcs(tmp_path / "p", images_of(["A01"], sites=1), backend)
    change_metadata(folder, **values)
    with pytest.raises(OpenHCSError, match=message):
        handler_of(folder).parse(folder)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"subdirectories": []}', '{"subdirectories": {}}', '{"subdirectories": {"a": 1}}']
)
def test_invalid_openhcs_metadata(tmp_path, text):
    (tmp_path / "openhcs_metadata.json").write_text(text)
    with pytest.raises(OpenHCSError, match=r"openhcs_metadata\.json"):
        handler_of(tmp_path).parse(tmp_path)


def test_openhcs_with_phenix_file_names(tmp_path):
    images = images_of(["B02"], sites=1)
    folder = write_phenix(tmp_path / "p", images)
    names = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*.tiff"))]
    (folder / "openhcs_metadata.json").write_text(
        json.dumps(
            {
                "subdirectories": {
                    "Images": {
                        "source_filename_parser_name": "OperaPhenixFilenameParser",
                        "image_files": names,
                        "channels": {"2": "x"},
                    }
                }
            }
        )
    )
    handler = handler_of(folder)
    assert handler.microscope_type == "OpenHCS"
    assert handler.get_channel_values(folder) == {0: None, 1: "x"}
    np.testing.assert_array_equal(handler.load_site(folder, "B02", 1, FileManager()), images["B02", 1])


def test_virtual_workspaces_are_read(tmp_path):
    images = images_of(["A01"], sites=1)
    folder, files = write_openhcs(tmp_path / "p", images, "virtual_workspace"), FileManager()
    backend = storage_registry["virtual_workspace"]
    listed = files.list_files(folder, backend="virtual_workspace")
    assert len(listed) == images["A01", 1][..., 0, 0].size
    name = backend.generate_filename({"well": "A01", "site": 1, "channel": 1, "z": 2, "t": 0})
    assert f"{folder}/{name}" in listed
    np.testing.assert_array_equal(files.load(folder / name, "virtual_workspace"), images["A01", 1][0, 1, 2])
    assert files.exists(folder / name, "virtual_workspace")
    for path in (folder / "A09_s001_w1_z001_t001.tif", tmp_path / name):
        assert not files.exists(path, "virtual_workspace")
        with pytest.raises(MissingFile):
            files.load(path, "virtual_workspace")
    with pytest.raises(MissingFile):
        files.list_files(tmp_path, "virtual_workspace")
    with pytest.raises(BadData):
        backend.generate_filename({"well": "A01"})
    for what in (backend.delete, backend.ensure_directory, lambda path: backend.save(images["A01", 1], path)):
        with pytest.raises(BadData, match="can't be written"):
            what(folder / name)


# ---- choice of the handler


def test_folders_that_are_not_plates(tmp_path):
    with pytest.raises(PlateError, match=r"not a plate of a known microscope: expected openhcs_metadata\.json"):
        handler_of(tmp_path)
    (tmp_path / "x.tif").write_bytes(b"")
    (tmp_path / "A01_s001_z000_c000.tif").write_bytes(b"")
    with pytest.raises(PlateError, match="not a plate of a known microscope"):
        handler_of(tmp_path)
    with pytest.raises(PlateError, match="there is no folder"):
        handler_of(tmp_path / "nowhere")
    with pytest.raises(OpenHCSError, match=r"storage_registry\['omero_local'\] = OMEROLocalBackend"):
        handler_of(7)


def test_an_unrelated_file_among_tiffs_is_named(tmp_path):
    for name in ("A01_s001_z000_c000.tif", "A02_s001_z000_c000.tif", "overview.tif"):
        tifffile.imwrite(tmp_path / name, np.zeros((4, 4), "uint8"))
    with pytest.raises(PlateError, match=r"1 of 3 file names don't match any of .*: overview\.tif"):
        handler_of(tmp_path).parse(tmp_path)


def test_plates_in_omero_are_given_by_id_or_path():
    assert [str(plate_of(name)) for name in (7, "7", "/omero/plate_7", "/omero/plate_7_processed")] == [
        *["/omero/plate_7"] * 3,
        "/omero/plate_7_processed",
    ]
    for name in ("0", "/omero/plate_x", "/omero/plate_7/A01", "/omero", "/omero/"):
        with pytest.raises(PlateError):
            plate_of(name)
    for name in ("plate_7", "./7", "/data/omero/plate_7", "/omero2", Path("/data/7")):
        assert plate_of(name) is None
