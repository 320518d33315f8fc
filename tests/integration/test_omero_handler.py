"""The handler of plates in OMERO, over the wire."""

import numpy as np
import pytest
from omero.model import (
    ChannelI,
    DimensionOrderI,
    ImageI,
    LogicalChannelI,
    PixelsI,
    PixelsTypeI,
    PlateAcquisitionI,
    PlateI,
    WellI,
    WellSampleI,
)
from omero.rtypes import rint, rstring
from wire import SHAPE, block, make_plate, wire  # noqa: F401

from openhcs_omero.errors import OpenHCSError, PlateError
from openhcs_omero.io.base import StorageRegistry, storage_registry
from openhcs_omero.io.filemanager import FileManager
from openhcs_omero.io.omero_local import OMEROLocalBackend
from openhcs_omero.microscopes.base import Backend
from openhcs_omero.microscopes.detect import handler_of
from openhcs_omero.microscopes.omero import OMEROHandler
from openhcs_omero.omero import queries
from openhcs_omero.omero.plate import load_plate


@pytest.fixture
def handler(conn):
    return OMEROHandler(backend=OMEROLocalBackend(omero_conn=conn))


def test_the_contents_of_a_plate(conn, handler):
    plate_id = make_plate(conn, {"A01": 2, "B03": 2})
    for plate in (plate_id, str(plate_id), f"/omero/plate_{plate_id}"):
        assert list(handler.get_channel_values(plate)) == [0, 1]
        assert handler.get_z_index_values(plate) == [0, 1, 2]
        assert handler.get_timepoint_values(plate) == [0]
        assert handler.get_site_values(plate) == [1, 2]
        assert handler.get_well_values(plate) == ["A01", "B03"]
    assert handler.compatible_backends == [Backend.OMERO_LOCAL]
    assert handler.get_primary_backend(plate_id, FileManager()) == "omero_local"


def test_channels_have_names(conn, handler):
    plate_id = make_plate(conn, {"A01": 1})
    conn.setChannelNames("Plate", [plate_id], {1: "DAPI", 2: "FITC"})
    assert handler.get_channel_values(plate_id) == {0: "DAPI", 1: "FITC"}


def imaged_twice(conn):
    """A plate with two acquisitions, and their ids: one of each well's first site, one of its second and third."""
    plate_id = make_plate(conn, {"A01": 3, "B03": 3})
    runs = []
    for name in ("before wash", "after wash"):
        run = PlateAcquisitionI()
        run.name, run.plate = rstring(name), PlateI(plate_id, False)
        runs.append(queries.update(conn).saveAndReturnObject(run))
    samples = [image for _, image in load_plate(conn, plate_id).images()]
    for image in samples:
        sample = queries.query(conn).get("WellSample", image.well_sample_id)
        sample.plateAcquisition = PlateAcquisitionI(runs[image.site > 1].id.val, False)
        queries.update(conn).saveObject(sample)
    return plate_id, [run.id.val for run in runs]


def test_a_plate_with_several_acquisitions(conn):
    """A single acquisition can be read as a plate; all of them together can't."""
    plate_id, (before, after) = imaged_twice(conn)
    backend = OMEROLocalBackend(omero_conn=conn)
    with pytest.raises(
        PlateError,
        match=rf"it has the acquisitions {before} \(before wash\), {after} \(after wash\); "
        "choose one by `acquisition`",
    ):
        OMEROHandler(backend).structure(plate_id)
    whole = backend.plate_structure(plate_id)
    for choice, sites in ((before, [1]), ("before wash", [1]), (str(after), [2, 3]), ("after wash", [2, 3])):
        handler = OMEROHandler(backend, choice)
        assert handler.get_site_values(plate_id) == list(range(1, len(sites) + 1))
        for well in ("A01", "B03"):
            images = handler.structure(plate_id).wells[well].images
            assert [images[site].image_id for site in sorted(images)] == [
                whole.image(well, site).image_id for site in sites
            ]
            np.testing.assert_array_equal(
                handler.load_site(plate_id, well, len(sites), FileManager()),
                backend.load(f"/omero/plate_{plate_id}/{well}/{well}_s00{sites[-1]}.tif"),
            )
    with pytest.raises(PlateError, match=rf"has no acquisitions 'third': it has {before} \(before wash\), "):
        OMEROHandler(backend, "third").structure(plate_id)


def test_omero_is_queried_once(conn, handler, wire):  # noqa: F811
    """Any number of questions costs as many calls as the first one, whatever the size of the plate."""
    counts = []
    for wells in ({"A01": 1}, {f"{row}{column:02d}": 3 for row in "ABCD" for column in (1, 2, 3)}):
        plate_id = make_plate(conn, wells)
        wire.start()
        handler.get_channel_values(plate_id)
        calls = list(wire.calls)
        for ask in (handler.get_z_index_values, handler.get_timepoint_values, handler.get_channel_values):
            ask(plate_id)
        assert wire.stop() == calls
        counts.append(len([call for call in calls if not call.endswith("Service")]))  # services are created once
    assert counts == [4, 4]


@pytest.mark.slow
def test_a_large_plate_takes_as_few_calls(conn, wire):  # noqa: F811
    """For 384 wells of 9 sites, the handler needs four calls and the backend three."""
    plate_id = save_large_plate(conn)
    wire.start()
    backend = OMEROLocalBackend(omero_conn=conn)
    handler = OMEROHandler(backend)
    assert handler.get_channel_values(plate_id) == {0: "channel 0", 1: "channel 1"}
    assert handler.get_z_index_values(plate_id) == handler.get_timepoint_values(plate_id) == [0]
    assert handler.get_site_values(plate_id) == list(range(1, 10)) and len(handler.get_well_values(plate_id)) == 384
    structure = backend.plate_structure(plate_id)
    structure.check_types()
    assert len(list(structure.images())) == 3456 and len(structure.fingerprint()) == 64
    assert all(backend.exists(f"/omero/plate_{plate_id}/{well}/{well}_s009.tif") for well in structure.wells)
    assert len(asked(wire)) == 4
    assert len(backend.list_files(f"/omero/plate_{plate_id}")) == 2 * 3456
    assert len(asked(wire)) == 7
    handler.refresh(plate_id)
    assert len(handler.get_well_values(plate_id)) == 384
    assert len(asked(wire)) == 9
    assert handler.get_channel_values(plate_id) == {0: "channel 0", 1: "channel 1"}
    assert len(asked(wire)) == 11
    wire.stop()


def asked(wire):  # noqa: F811
    """The calls made, without those that create services and get the user, once per session."""
    return [call for call in wire.calls if not call.endswith("Service") and call != "getEventContext"]


def new_image(name):
    """An unsaved image of 3 x 2 pixels with two channels, without pixel data."""
    pixels = PixelsI()
    pixels.sizeX, pixels.sizeY, pixels.sizeZ, pixels.sizeC, pixels.sizeT = map(rint, (3, 2, 1, 2, 1))
    pixels.sha1, pixels.pixelsType, pixels.dimensionOrder = rstring("Pending..."), PixelsTypeI(), DimensionOrderI()
    pixels.pixelsType.value, pixels.dimensionOrder.value = rstring("uint16"), rstring("XYCZT")
    for number in range(2):
        channel = ChannelI()
        channel.logicalChannel = LogicalChannelI()
        channel.logicalChannel.name = rstring(f"channel {number}")
        pixels.addChannel(channel)
    image = ImageI()
    image.name = rstring(name)
    image.addPixels(pixels)
    return image


def new_well(plate_id, row, column, sites):
    """An unsaved well of a plate."""
    well = WellI()
    well.plate, well.row, well.column = PlateI(plate_id, False), rint(row), rint(column)
    for site in range(sites):
        sample = WellSampleI()
        sample.image = new_image(f"site {site}")
        well.addWellSample(sample)
    return well


def save_large_plate(conn):
    plate = PlateI()
    plate.name = rstring("large")
    plate_id = conn.getUpdateService().saveAndReturnObject(plate, conn.SERVICE_OPTS).id.val
    for row in range(16):
        wells = [new_well(plate_id, row, column, sites=9) for column in range(24)]
        conn.getUpdateService().saveArray(wells, conn.SERVICE_OPTS)
    return plate_id


def test_a_plate_that_changes(conn, handler):
    """The handler and its backend use what they know until they are refreshed."""
    plate_id = make_plate(conn, {"A01": 1})
    paths = [plate_id, str(plate_id), f"/omero/plate_{plate_id}", f"/omero/plate_{plate_id}/"]
    files = handler.backend.list_files(paths[2])
    assert all(handler.get_well_values(path) == ["A01"] for path in paths)
    conn.getUpdateService().saveObject(new_well(plate_id, 1, 1, sites=1), conn.SERVICE_OPTS)
    assert all(handler.get_well_values(path) == ["A01"] for path in paths)
    assert handler.backend.list_files(paths[2]) == files
    for path in paths:
        handler.refresh(path)
        assert all(handler.get_well_values(path) == ["A01", "B02"] for path in paths)
    queries.delete(conn, queries.current_group(conn), Plate=[plate_id])
    assert handler.backend.exists(paths[2])
    handler.backend.refresh(plate_id)
    assert not handler.backend.exists(paths[2])
    for wrong in ("/data/plate", f"/omero/plate_{plate_id}/A01"):
        with pytest.raises(PlateError, match="expected"):
            handler.refresh(wrong)


def test_sites_are_read(conn, handler):
    plate_id = make_plate(conn, {"A01": 1, "B03": 2})
    files = FileManager(StorageRegistry({"omero_local": handler.backend}))
    image = handler.load_site(plate_id, "B03", 2, files)
    assert image.shape == SHAPE
    np.testing.assert_array_equal(image, block(12))
    with pytest.raises(PlateError, match="no site 3"):
        handler.load_site(plate_id, "B03", 3, files)


def test_plates_that_do_not_exist(handler):
    with pytest.raises(OpenHCSError, match="there is no plate 999999"):
        handler.get_channel_values(999999)


def test_the_handler_is_chosen_for_plates_in_omero(handler, monkeypatch):
    monkeypatch.setitem(storage_registry.data, "omero_local", handler.backend)
    chosen = handler_of(7)
    assert isinstance(chosen, OMEROHandler)
    assert chosen.backend is handler.backend
    assert isinstance(handler_of("/omero/plate_7_processed"), OMEROHandler)
