"""OMERO.tables through ezomero and omero2pandas, as they come from the package index."""

from __future__ import annotations

import numpy as np
import omero
import pytest
from omero.rtypes import rstring

ezomero = pytest.importorskip("ezomero")
omero2pandas = pytest.importorskip("omero2pandas")
pandas = pytest.importorskip("pandas")
pytestmark = pytest.mark.clients


@pytest.fixture
def plate(conn) -> int:
    made = omero.model.PlateI()
    made.name = rstring("plate")
    return conn.getUpdateService().saveAndReturnObject(made).id.val


@pytest.fixture
def frame():
    return pandas.DataFrame(
        {
            "label": ["nucleus", "zwei", "é", ""],
            "cells": np.array([1, -2, 3, 1 << 40]),
            "area": [1.5, -0.25, np.inf, 1e-9],
            "good": [True, False, True, True],
        }
    )


def test_ezomero_posts_and_gets_a_table(conn, plate, frame):
    annotation = ezomero.post_table(conn, frame, "Plate", plate, title="features")
    got = ezomero.get_table(conn, annotation)
    pandas.testing.assert_frame_equal(got[list(frame.columns)], frame, check_dtype=False)  # it sorts by kind
    (attached,) = ezomero.get_file_annotation_ids(conn, "Plate", plate)
    assert attached == annotation


def test_omero2pandas_both_ways(conn, plate, frame):
    annotation = omero2pandas.upload_table(
        frame, "features", parent_id=plate, parent_type="Plate", omero_connector=conn
    )
    names = omero2pandas.get_table_columns(annotation_id=annotation, omero_connector=conn)
    assert list(names) == list(frame.columns)
    assert omero2pandas.get_table_size(annotation_id=annotation, omero_connector=conn) == (4, 4)
    got = omero2pandas.read_table(annotation_id=annotation, omero_connector=conn)
    pandas.testing.assert_frame_equal(got.reset_index(drop=True), frame, check_dtype=False)
    part = omero2pandas.read_table(
        annotation_id=annotation, column_names=("cells", "good"), rows=[1, 3], omero_connector=conn
    )
    assert part["cells"].tolist() == [-2, 1 << 40] and part["good"].tolist() == [False, True]
    some = omero2pandas.read_table(annotation_id=annotation, query="(cells > 0) & (area < 2)", omero_connector=conn)
    assert some["label"].tolist() == ["nucleus"]  # it asks for the rows up to -1, which leaves the last one out


def test_omero2pandas_downloads(conn, plate, frame, tmp_path):
    annotation = omero2pandas.upload_table(
        frame, "features", parent_id=plate, parent_type="Plate", omero_connector=conn
    )
    target = tmp_path / "features.csv"
    omero2pandas.download_table(str(target), annotation_id=annotation, omero_connector=conn)
    got = pandas.read_csv(target, keep_default_na=False)
    assert got["cells"].tolist() == frame["cells"].tolist() and got["label"].tolist() == frame["label"].tolist()
