"""The handler of plates in OMERO, over the wire."""

import numpy as np
import pytest
from wire import SHAPE, block, make_plate, wire  # noqa: F401

from openhcs_omero.errors import OpenHCSError, PlateError
from openhcs_omero.io.base import StorageRegistry, storage_registry
from openhcs_omero.io.filemanager import FileManager
from openhcs_omero.io.omero_local import OMEROLocalBackend
from openhcs_omero.microscopes.base import Backend
from openhcs_omero.microscopes.detect import handler_of
from openhcs_omero.microscopes.omero import OMEROHandler


@pytest.fixture
def handler(conn):
    return OMEROHandler(backend=OMEROLocalBackend(omero_conn=conn))


def test_what_a_plate_has(conn, handler):
    plate_id = make_plate(conn, {"A01": 2, "B03": 2})
    for plate in (plate_id, str(plate_id), f"/omero/plate_{plate_id}"):
        assert list(handler.get_channel_values(plate)) == [0, 1]
        assert handler.get_z_index_values(plate) == [0, 1, 2]
        assert handler.get_timepoint_values(plate) == [0]
        assert handler.get_site_values(plate) == [1, 2]
        assert handler.get_well_values(plate) == ["A01", "B03"]
    assert handler.compatible_backends == [Backend.OMERO_LOCAL]
    assert handler.get_primary_backend(plate_id, FileManager()) == "omero_local"


def test_channels_have_their_names(conn, handler):
    plate_id = make_plate(conn, {"A01": 1})
    conn.setChannelNames("Plate", [plate_id], {1: "DAPI", 2: "FITC"})
    assert handler.get_channel_values(plate_id) == {0: "DAPI", 1: "FITC"}


def test_omero_is_asked_once(conn, handler, wire):  # noqa: F811
    """Any number of questions costs as many calls as the first one, on a plate of any size."""
    counts = []
    for wells in ({"A01": 1}, {f"{row}{column:02d}": 3 for row in "ABCD" for column in (1, 2, 3)}):
        plate_id = make_plate(conn, wells)
        wire.start()
        handler.get_channel_values(plate_id)
        calls = list(wire.calls)
        for ask in (handler.get_z_index_values, handler.get_timepoint_values, handler.get_channel_values):
            ask(plate_id)
        assert wire.stop() == calls
        counts.append(len([call for call in calls if not call.endswith("Service")]))  # services are got once
    assert counts == [3, 3]


def test_sites_are_read(conn, handler):
    plate_id = make_plate(conn, {"A01": 1, "B03": 2})
    files = FileManager(StorageRegistry({"omero_local": handler.backend}))
    image = handler.load_site(plate_id, "B03", 2, files)
    assert image.shape == SHAPE
    np.testing.assert_array_equal(image, block(12))
    with pytest.raises(PlateError, match="no site 3"):
        handler.load_site(plate_id, "B03", 3, files)


def test_plates_that_are_not_there(handler):
    with pytest.raises(OpenHCSError, match="there is no plate 999999"):
        handler.get_channel_values(999999)


def test_it_is_chosen_for_plates_in_omero(handler, monkeypatch):
    monkeypatch.setitem(storage_registry.data, "omero_local", handler.backend)
    chosen = handler_of(7)
    assert isinstance(chosen, OMEROHandler)
    assert chosen.backend is handler.backend
    assert isinstance(handler_of("/omero/plate_7_processed"), OMEROHandler)
