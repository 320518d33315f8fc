"""omero2pandas, from the package index, reads a plate's table of measurements."""

from __future__ import annotations

import omero
import pytest
from omero.rtypes import rint, rstring

from openhcs_omero.omero.omero_tables import attach_table
from openhcs_omero.omero.plate import load_plate

omero2pandas = pytest.importorskip("omero2pandas")
pytestmark = pytest.mark.clients


@pytest.fixture
def plate(conn) -> int:
    made = omero.model.PlateI()
    made.name = rstring("plate")
    return conn.getUpdateService().saveAndReturnObject(made).id.val


def test_omero2pandas_reads_features(conn, plate):
    """The OMERO.table of a plate's features has the ids of plate and wells."""
    well = omero.model.WellI()
    well.row, well.column, well.plate = rint(0), rint(1), omero.model.PlateI(plate, False)
    well_id = conn.getUpdateService().saveAndReturnObject(well).id.val
    attached = attach_table(
        conn,
        load_plate(conn, plate, require_images=False),
        "wells.csv",
        "well,cells,area,class\nA02,7,1.5,µ\n".encode(),
    )
    [annotation] = conn.getObject("Plate", plate).listAnnotations("openmicroscopy.org/omero/bulk_annotations")
    assert annotation.getId() == attached
    got = omero2pandas.read_table(annotation_id=attached, omero_connector=conn)
    assert got.to_dict("records") == [
        {"Plate": plate, "Well": well_id, "Well Name": "A02", "cells": 7, "area": 1.5, "class": "µ"}
    ]
