"""Importing folders of TIFFs as plates."""

import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import tifffile
from plate_folders import images_of, write_cellvoyager, write_phenix
from wire import Killed, count, images_in_no_well, wire

from openhcs_omero.core.records import WellRecord, recorded_listing
from openhcs_omero.errors import PlateError
from openhcs_omero.io.omero_local import OMEROLocalBackend
from openhcs_omero.microscopes.detect import handler_of
from openhcs_omero.microscopes.importing import import_folder
from openhcs_omero.microscopes.omero import OMEROHandler
from openhcs_omero.omero import plate_import
from openhcs_omero.omero.pixels import read_metadata, read_site
from openhcs_omero.omero.plate import load_plate

__all__ = ["wire"]

TRANSFLUOR = Path(__file__).parents[3] / "shared/data/transfluor"


def pixels(well, site, channel, dtype="uint16"):
    return (np.arange(24).reshape(4, 6) + sum(map(ord, well)) + 50 * site + 100 * channel).astype(dtype)


def fill(folder, wells=("A01", "A02", "P24"), sites=2, channels=2):
    """Write ImageXpress files whose pixels identify well, site and channel."""
    for well in wells:
        for site in range(1, sites + 1):
            for channel in range(1, channels + 1):
                tifffile.imwrite(folder / f"run_{well}_s{site}_w{channel}.tif", pixels(well, site, channel))
    return folder


def test_a_folder_becomes_a_plate(conn, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(plate_import, "BATCH", 200)  # bytes; a well has 192
    plate_id = import_folder(conn, fill(tmp_path), name="screen", progress=lambda done, of: told.append((done, of)))
    plate = load_plate(conn, plate_id)
    assert (plate.name, plate.rows, plate.columns) == ("screen", 16, 24)
    assert list(plate.wells) == ["A01", "A02", "P24"] and plate.max_sites == 2
    for well, image in plate.images():
        site = read_site(conn, image)
        assert site.shape == (1, 2, 1, 4, 6)
        for channel in (1, 2):
            assert np.array_equal(site[0, channel - 1, 0], pixels(well, image.site, channel))
    image = plate.image("A01", 1)
    assert read_metadata(conn, [image])[image.image_id].channel_names == ("channel 0", "channel 1")
    assert told == [(0, 6), (4, 6), (6, 6)]
    assert images_in_no_well(conn) == []


def _phenix(folder):
    """Write a Phenix folder whose fields have times and positions, and return its index."""
    write_phenix(folder, images_of(["A01", "B02"], shape=(1, 2, 1, 4, 6)))
    index = folder / "Images" / "Index.idx.xml"
    for site, x, second in ((1, "1.5E-4", 20), (2, "-2E-4", 10)):
        taken = f"<AbsTime>2026-11-05T10:00:{second}.5000000+02:00</AbsTime>"
        where = f'<PositionX Unit="m">{x}</PositionX><PositionY Unit="m">3E-5</PositionY>'
        before, after = f"(<FieldID>{site}</FieldID>.*?)", r'<PositionX Unit="m">0</PositionX>'
        index.write_text(re.sub(before + after, rf"\1{where}{taken}", index.read_text()))


def _cellvoyager(folder):
    """Write the same as a CellVoyager folder."""
    write_cellvoyager(folder, images_of(["A01", "B02"], shape=(1, 2, 1, 4, 6)))
    path = folder / "MeasurementData.mlf"
    for site, x, second in ((1, "150", 20), (2, "-200", 10)):
        before, after = f'(bts:FieldIndex="{site}" [^>]*?)', 'bts:X="0" bts:Y="0"'
        made = f'bts:X="{x}" bts:Y="30" bts:Time="2026-11-05T10:00:{second}.5+02:00"'
        path.write_text(re.sub(before + after, rf"\1{made}", path.read_text()))


@pytest.mark.parametrize("write", [_phenix, _cellvoyager])
def test_when_and_where_fields_were_taken(conn, tmp_path, write):
    write(tmp_path / "p")
    handler = handler_of(tmp_path / "p")
    here = handler.listing(tmp_path / "p")
    start = datetime(2026, 11, 5, 8, tzinfo=UTC).timestamp()
    dates = {(well, site): start + second for well in ("A01", "B02") for site, second in ((1, 20.5), (2, 10.5))}
    records = {well: WellRecord.of(str(tmp_path), here, well) for well in ("A01", "B02")}
    assert handler.read_dates(recorded_listing(records, str(tmp_path))) == dates

    plate_id = import_folder(conn, tmp_path / "p")
    omero_handler = OMEROHandler(OMEROLocalBackend(omero_conn=conn))
    there = omero_handler.listing(plate_id)
    assert omero_handler.read_dates(there) == dates
    for listing, by in ((here, handler), (there, omero_handler)):
        found = {site: about.recorded for site, about in by.read_metadata(listing, "B02").items()}
        x, y = zip(*(found[site].position for site in (1, 2)))
        assert [value for value, _ in x] == pytest.approx([150, -200]) and y[0][0] == pytest.approx(30)
        assert {unit for _, unit in (*x, *y)} == {"MICROMETER"}
        assert [found[site].date / 1000 for site in (1, 2)] == [dates["B02", 1], dates["B02", 2]]


def test_the_folder_names_the_plate(conn, tmp_path):
    folder = tmp_path / "my screen"
    folder.mkdir()
    plate = load_plate(conn, import_folder(conn, fill(folder, ["A01"])))
    assert (plate.name, plate.rows, plate.columns) == ("my screen", 8, 12)


def test_importing_twice_gives_two_plates(conn, tmp_path):
    fill(tmp_path)
    assert len({import_folder(conn, tmp_path) for _ in range(2)}) == 2
    assert count(conn, "Plate", "Image") == {"Plate": 2, "Image": 12}


@pytest.mark.skipif(not TRANSFLUOR.is_dir(), reason="the real images are not there")
def test_the_real_plate_is_imported(conn):
    plate = load_plate(conn, import_folder(conn, TRANSFLUOR))
    assert (plate.name, plate.rows, plate.columns) == ("transfluor", 16, 24)
    assert list(plate.wells) == [f"O{column:02d}" for column in range(1, 25)]
    assert all(len(well.images) == 3 for well in plate.wells.values())
    [file] = TRANSFLUOR.glob("*_O08f02d2.TIF")
    assert np.array_equal(read_site(conn, plate.image("O08", 3))[0, 0, 0], tifffile.imread(file))


@pytest.mark.parametrize("spoil", ["name", "size", "broken"])
def test_a_bad_folder_creates_nothing(conn, wire, tmp_path, spoil):
    fill(tmp_path)
    bad = tmp_path / ("overview.tif" if spoil == "name" else "run_P24_s2_w2.tif")
    if spoil == "broken":
        bad.write_bytes(b"no TIFF")
    else:
        tifffile.imwrite(bad, np.zeros((4, 7), "uint16"))
    wire.start()
    with pytest.raises(PlateError, match=bad.name):
        import_folder(conn, tmp_path)
    assert wire.stop() == []


def test_a_file_that_breaks_during_the_import(conn, tmp_path):
    fill(tmp_path)

    def break_it(done, of):
        (tmp_path / "run_P24_s2_w2.tif").write_bytes(b"no TIFF")

    with pytest.raises(PlateError, match=r"run_P24_s2_w2\.tif can't be read"):
        import_folder(conn, tmp_path, progress=break_it)
    assert count(conn, "Plate", "Image", "Annotation") == {"Plate": 0, "Image": 0, "Annotation": 0}


def test_killed_while_importing(conn, wire, tmp_path):
    fill(tmp_path, ["A01", "A02"], sites=1, channels=1)
    other = tmp_path / "other"
    other.mkdir()
    import_folder(conn, fill(other, ["A01"], sites=1))
    for point in range(60):
        wire.start(dies_at=point)
        try:
            import_folder(conn, tmp_path)
            break
        except Killed:
            wire.stop()
        assert count(conn, "Plate") == {"Plate": 1 + point}  # no partial plate
        plate = load_plate(conn, import_folder(conn, tmp_path))
        assert list(plate.wells) == ["A01", "A02"] and images_in_no_well(conn) == []
    wire.stop()
    assert point > 10


def test_a_user_without_permission_can_not_import(root, make_user, tmp_path):
    owner = make_user("rwr---")
    conn = make_user()
    conn.SERVICE_OPTS.setOmeroGroup(str(owner.getEventContext().groupId))
    with pytest.raises(PlateError, match="this user may not"):
        import_folder(conn, fill(tmp_path))
