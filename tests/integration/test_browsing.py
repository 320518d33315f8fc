"""Looking around on a server and copying out of it: `ls` of screens, `get` of plates, wells and images."""

import signal

import numpy as np
import pytest
import tifffile
from omero.model import PlateI, ScreenI, ScreenPlateLinkI
from omero.rtypes import rstring
from test_cli import folder, plate, shell
from wire import add_well, make_plate, wire

from openhcs_omero.io.disk import DiskBackend
from openhcs_omero.microscopes.detect import handler_of
from openhcs_omero.omero import queries
from openhcs_omero.omero.annotations import save_text
from openhcs_omero.omero.browsing import list_screen, list_screens
from openhcs_omero.omero.derived import derive_plate
from openhcs_omero.omero.plate import load_plate
from openhcs_omero.omero.writing import write_well_images
from openhcs_omero.plates.image import NewImage

__all__ = ["folder", "plate", "shell", "wire"]


def make_screen(conn, name, *plates):
    screen = ScreenI()
    screen.name = rstring(name)
    made = queries.update(conn).saveAndReturnObject(screen).id.val
    for plate_id in plates:
        link = ScreenPlateLinkI()
        link.parent, link.child = ScreenI(made, False), PlateI(plate_id, False)
        queries.update(conn).saveObject(link)
    return made


def test_ls_of_everything(conn, shell):
    first, second, loose = (make_plate(conn, {"A01": 1}, name) for name in ("Day 1", "Day\n2", "Alone"))
    screen, empty = make_screen(conn, "Kinases", first, second), make_screen(conn, "Empty")
    derived = derive_plate(conn, load_plate(conn, first), "processed", {})
    [gathered] = [one.screen_id for one in list_screens(conn) if one.name == "Kinases [processed]"]
    listed = shell.lines("ls")
    assert listed == shell.lines("ls", "/omero") == shell.lines("ls", "/omero/")
    assert listed == [
        f"/omero/screen_{screen}  Kinases",
        f"  /omero/plate_{first}  Day 1",
        f"  /omero/plate_{second}  Day 2",
        f"/omero/screen_{empty}  Empty",
        f"/omero/screen_{gathered}  Kinases [processed]",
        f"  /omero/plate_{derived}  Day 1 [processed]  (/omero/plate_{first}_processed)",
        "no screen",
        f"  /omero/plate_{loose}  Alone",
    ]
    assert shell.lines("ls", f"screen_{screen}") == shell.lines("ls", f"/omero/screen_{screen}/") == listed[:3]
    assert "there is no screen 987654321" in shell.refusal("ls", "/omero/screen_987654321")


def test_ls_of_an_empty_server(shell):
    assert shell.lines("ls") == ["there are no screens and no plates that this user may see"]


def test_ls_makes_a_constant_number_of_calls(conn, wire):
    make_screen(conn, "a", make_plate(conn, {"A01": 1}))
    wire.start()
    list_screens(conn)
    before = len(wire.stop())
    screen = make_screen(conn, "b", *(make_plate(conn, {"A01": 0}) for _ in range(5)))
    wire.start()
    list_screens(conn)
    assert len(wire.stop()) == before
    wire.start()
    assert len(list_screen(conn, screen).plates) == 5
    assert len(wire.stop()) <= before


def test_get_of_a_plate(conn, shell, plate, folder, tmp_path):
    structure = load_plate(conn, plate)
    save_text(conn, "Plate", plate, "x.csv", b"a\n1\n")
    save_text(conn, "Well", structure.well("A01").well_db_id, "y.csv", b"b\n1\n")
    save_text(conn, "Image", structure.image("B02", 2).image_id, "z.json", b"{}")
    path = f"/omero/plate_{plate}"
    assert shell("get", path, tmp_path / "copy")[:2] == (0, "")
    copy = tmp_path / "copy" / f"plate_{plate}"
    copied = {str(file.relative_to(copy)) for file in copy.rglob("*") if file.is_file()}
    listed = [file.removeprefix(f"{path}/") for well in ("A01", "B02") for file in shell.lines("ls", f"{path}/{well}")]
    assert copied == {"x.csv", "openhcs_metadata.json", *listed} and {"A01/y.csv", "B02/B02_s002_z.json"} <= copied
    for file in folder.iterdir():
        plane = DiskBackend().load(copy / file.name[:3] / file.name)
        np.testing.assert_array_equal(plane, DiskBackend().load(file))
    assert (copy / "x.csv").read_bytes() == b"a\n1\n"
    again = handler_of(str(copy)).listing(str(copy))
    assert list(again.structure.wells) == ["A01", "B02"] and again.channel_names == ("channel 000", "channel 001")
    assert shell("get", f"{path}/B02", tmp_path / "there")[:2] == (0, "")
    assert len(list((tmp_path / "there/B02").iterdir())) == 5 and len(list((tmp_path / "there").iterdir())) == 1


@pytest.fixture
def described(conn):
    """The id of a plate whose only image has names of channels, colors and pixel sizes, and its pixels."""
    pixels = np.arange(2 * 3 * 4 * 5, dtype="uint16").reshape(1, 2, 3, 4, 5)
    image = NewImage("a", pixels, ("DAPI", "GFP µ"), ((0, 0, 255), None), (2.0, 0.5, 0.25))
    [written] = write_well_images(conn, [image], "test", queries.current_group(conn))
    plate_id = make_plate(conn, {"B01": 0})
    add_well(conn, plate_id, "A01", written.image_id)
    return plate_id, pixels


def test_images_as_ome_tiff(shell, described, tmp_path):
    plate_id, pixels = described
    path = f"/omero/plate_{plate_id}"
    assert shell("get", path, tmp_path / "plate", "--format", "ome-tiff")[0] == 0
    assert shell.lines("get", f"{path}/A01/A01_s001.tif", tmp_path / "site.ome.tif") == []
    assert shell.lines("get", f"{path}/A01/A01_s001.tif", tmp_path, "--format", "ome-tiff") == []
    for file in (f"plate/plate_{plate_id}/A01/A01_s001.ome.tif", "site.ome.tif", "A01_s001.ome.tif"):
        with tifffile.TiffFile(tmp_path / file) as tiff:
            about = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
            np.testing.assert_array_equal(tiff.asarray(), pixels[0])
        assert [channel["Name"] for channel in about["Channel"]] == ["DAPI", "GFP µ"]
        assert about["Channel"][0]["Color"] == 0x0000FFFF and "Color" not in about["Channel"][1]
        assert [about[f"PhysicalSize{axis}"] for axis in "ZYX"] == [2.0, 0.5, 0.25]
        np.testing.assert_array_equal(DiskBackend().load(tmp_path / file), pixels)
    assert shell.lines("get", f"{path}/A01/A01_s001_z001_c001.tif", tmp_path / "plane.ome.tif") == []
    with tifffile.TiffFile(tmp_path / "plane.ome.tif") as tiff:
        assert tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]["Channel"]["Name"] == "GFP µ"
        np.testing.assert_array_equal(tiff.asarray(), pixels[0, 1, 1])


def test_a_killed_get_leaves_no_half_file(conn, shell, tmp_path):
    plate_id = make_plate(conn, {f"A{column:02d}": 1 for column in range(1, 9)}, shape=(1, 2, 1, 512, 512))
    process = shell.start("get", f"/omero/plate_{plate_id}", tmp_path / "copy")
    while process.poll() is None and not list(tmp_path.glob("copy/*/*/*.tif")):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    files = list(tmp_path.glob("copy/*/*/*.tif"))
    assert files
    for file in files:
        assert DiskBackend().load(file).shape == (512, 512)
    assert shell("get", f"/omero/plate_{plate_id}", tmp_path / "copy")[0] == 0
    assert len(list(tmp_path.glob("copy/*/*/*.tif"))) == 16


def test_refusals_of_get(shell, plate, tmp_path):
    path = f"/omero/plate_{plate}"
    (tmp_path / "file").write_text("")
    assert "there is a file with that name" in shell.refusal("get", path, tmp_path / "file")
    assert "is a path in OMERO" in shell.refusal("get", path, "/omero/copy")
    assert "is a path in OMERO" in shell.refusal("get", f"{path}/A01/A01_s001.tif", "/omero/x.tif")
    assert "no well 'H12'" in shell.refusal("get", f"{path}/H12", tmp_path / "x")
    assert "copied as it is" in shell.refusal("get", f"{path}/x.csv", tmp_path / "x", "--format", "ome-tiff")
    assert not list(tmp_path.glob("x*"))
