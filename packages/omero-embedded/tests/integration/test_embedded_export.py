"""The export of images as OME-TIFF."""

from __future__ import annotations

import io

import numpy as np
import omero
import pytest
import tifffile
from omero.model.enums import UnitsLength


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32"])
def test_pixels_and_what_is_known_of_them(conn, dtype):
    shape = (3, 2, 4, 5, 6)  # TCZYX
    values = (np.arange(np.prod(shape)) % 251).reshape(shape).astype(dtype)
    planes = (values[t, c, z] for z in range(4) for c in range(2) for t in range(3))
    image = conn.createImageFromNumpySeq(planes, "näme & <more>", sizeZ=4, sizeC=2, sizeT=3)
    pixels = conn.getObject("Image", image.getId()).getPrimaryPixels()._obj
    pixels.physicalSizeX = omero.model.LengthI(0.5, UnitsLength.MICROMETER)
    conn.getUpdateService().saveObject(pixels)
    image = conn.getObject("Image", image.getId())
    with tifffile.TiffFile(io.BytesIO(image.exportOmeTiff())) as tiff:
        (series,) = tiff.series
        assert (series.axes, series.dtype) == ("TCZYX", np.dtype(dtype))
        assert (series.asarray() == values).all()
        about = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]
    assert about["Name"] == "näme & <more>"
    assert (about["Pixels"]["PhysicalSizeX"], about["Pixels"]["SizeC"]) == (0.5, 2)
    assert len(about["Pixels"]["Channel"]) == 2
    size, chunks = image.exportOmeTiff(bufsize=1000)
    assert len(b"".join(chunks)) == size


def test_xml_alone_and_refusals(conn, make_user):
    image = conn.createImageFromNumpySeq(iter([np.zeros((5, 6), np.uint8)]), "image").getId()
    exporter = conn.c.sf.createExporter()
    exporter.addImage(image)
    with pytest.raises(omero.ApiUsageException):
        exporter.read(0, 10)
    size = exporter.generateXml()
    xml = exporter.read(0, size).decode()
    assert 'SizeX="6"' in xml and 'Name="image"' in xml and "http://www.openmicroscopy.org/Schemas/OME/" in xml
    exporter.close()
    stranger = make_user().c.sf.createExporter()
    stranger.addImage(image)
    with pytest.raises(omero.ServerError):
        stranger.generateTiff()
    stranger.close()


@pytest.mark.embedded_only  # a real server writes XML of nothing
def test_nothing_is_not_exported(conn):
    exporter = conn.c.sf.createExporter()
    with pytest.raises(omero.ApiUsageException):
        exporter.generateXml()
    exporter.close()
