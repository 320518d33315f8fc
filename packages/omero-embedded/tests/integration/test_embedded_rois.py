"""Regions: which pixels shapes cover, what their values are, and what was measured."""

import io

import numpy as np
import omero
import PIL.Image
import pytest
from models import new, plate, ref, rows, save
from omero.constants.namespaces import NSMEASUREMENT
from omero.constants.projection import ProjectionType
from omero.rtypes import rint, unwrap


@pytest.fixture
def stack(conn):
    """An image of 2 channels and 3 sections; its id, and its planes as (C, Z, Y, X)."""
    planes = np.random.default_rng(3).integers(0, 255, (2, 3, 6, 8)).astype("uint8")
    each = (planes[c, z] for z in range(3) for c in range(2))
    return conn.createImageFromNumpySeq(each, "stack", 3, 2, 1).getId(), planes


def stored(conn, image, *shapes):
    """Save a region, and return its id and its shapes' ids."""
    roi = new("Roi", image=ref("Image", image))
    for shape in shapes:
        roi.addShape(shape)
    made = save(conn, roi)
    return made.id.val, [shape.id.val for shape in made.copyShapes()]


def points(conn, shape):
    found = conn.getRoiService().getPoints(shape, conn.SERVICE_OPTS)
    return list(zip(found.x, found.y, strict=True))


def pixels_of(conn, image):
    return conn.getObject("Image", image).getPixelsId()


def test_pixels_of_shapes(conn, stack):
    """Which pixels, and their order, is what OMERO's SmartShape classes and GeomTool do."""
    turned = new("AffineTransform", a00=0.0, a10=1.0, a01=-1.0, a11=0.0, a02=9.0, a12=0.0)
    cases = [
        (new("Rectangle", x=1.5, y=2.0, width=2.5, height=1.0), [(1, 2), (2, 2), (3, 2)]),
        (new("Rectangle", x=4.0, y=4.0, width=2.0, height=1.0, transform=turned), [(4, 4), (4, 5)]),
        (new("Mask", x=2.0, y=1.0, width=2.0, height=1.0, bytes=b"\x80"), [(2, 1), (3, 1)]),  # its whole box
        (
            new("Ellipse", x=4.0, y=4.0, radiusX=2.0, radiusY=1.5),
            [(4, 2), *((x, y) for y in (3, 4) for x in (3, 4, 5))],
        ),
        (new("Point", x=5.7, y=-0.5), [(5, 0)]),
        (new("Label", x=5.7, y=4.0, textValue="l"), [(5, 4)]),
        (new("Line", x1=0.0, y1=0.0, x2=3.0, y2=1.0), [(0, 0), (1, 0), (2, 0), (3, 1)]),
        (new("Polyline", points="0,0 1,0 1,1"), [(0, 0), (1, 0), (1, 0), (1, 1)]),
        (new("Polygon", points="0,0 2,0 0,2"), [(0, 0), (1, 0), (0, 1)]),
        (new("Ellipse"), []),
    ]
    _, ids = stored(conn, stack[0], *(shape for shape, _ in cases))
    for oid, (_, expected) in zip(ids, cases, strict=True):
        assert sorted(points(conn, oid)) == sorted(expected)
    large = [new(cls, x=0.0, y=0.0, width=1e9, height=1e9) for cls in ("Mask", "Rectangle")]
    unknown = [new("Path", d="M 0 0 L 1 1"), new("Polygon", points="a b"), new("Polygon")]
    for kind, shapes in ((omero.ApiUsageException, large), (omero.InternalException, unknown)):
        for oid in stored(conn, stack[0], *shapes)[1]:
            with pytest.raises(kind):
                points(conn, oid)
    with pytest.raises(omero.InternalException):
        points(conn, -1)


def test_values_outside_of_an_image(conn, stack):
    """A column that isn't there is another error than a row or a section; a shape's channel is the first one's."""
    service, planes = conn.getRoiService(), stack[1]
    box = {"x": 1.0, "y": 2.0, "width": 3.0, "height": 2.0}
    outside = [
        (omero.ValidationException, box | {"x": 6.0}),
        (omero.ApiUsageException, box | {"y": 5.0}),
        (omero.ApiUsageException, box | {"theZ": 3}),
        (omero.InternalException, box | {"theC": 2}),
    ]
    for kind, values in outside:
        _, (oid,) = stored(conn, stack[0], new("Rectangle", **values))
        with pytest.raises(kind):
            service.getShapeStats(oid, conn.SERVICE_OPTS)
    _, ids = stored(conn, stack[0], new("Rectangle", **box, theZ=0, theC=1), new("Ellipse"))
    second, empty = service.getShapeStatsList(ids, conn.SERVICE_OPTS)
    assert list(second.sum) == [planes[0, 0, 2:4, 1:4].sum()]
    assert np.isnan(empty.mean).all() and list(empty.pointsCount) == [0, 0]
    nothing = service.getRoiStats(-1, conn.SERVICE_OPTS)
    assert nothing.combined is None and nothing.perShape == []


def test_values_of_shapes(conn, stack):
    image, planes = stack
    roi, ids = stored(
        conn,
        image,
        new("Rectangle", x=1.0, y=2.0, width=3.0, height=2.0, theZ=1, theT=0),
        new("Rectangle", x=1.0, y=2.0, width=3.0, height=2.0),
    )
    service = conn.getRoiService()
    under = planes[:, :, 2:4, 1:4].astype(float)
    (section, found) = service.getShapeStatsRestricted(ids, 2, 0, [1, 0], conn.SERVICE_OPTS)
    for z, stats in ((1, section), (2, found)):  # a shape's own section goes first
        assert list(stats.channelIds) == [0, 1] and list(stats.pointsCount) == [6, 6]
        assert np.allclose(stats.mean, under[:, z].mean(axis=(1, 2)))
        assert np.allclose(stats.stdDev, under[:, z].std(axis=(1, 2), ddof=1))
    whole = service.getShapeStats(ids[1], conn.SERVICE_OPTS)
    assert np.allclose(whole.sum, under.sum(axis=(1, 2, 3))) and list(whole.pointsCount) == [18, 18]
    assert list(whole.min) == under.min(axis=(1, 2, 3)).tolist()
    assert list(whole.max) == under.max(axis=(1, 2, 3)).tolist()
    of_roi = service.getRoiStats(roi, conn.SERVICE_OPTS)
    assert (of_roi.roiId, of_roi.imageId, of_roi.pixelsId) == (roi, image, pixels_of(conn, image))
    assert [one.shapeId for one in of_roi.perShape] == ids
    for bad in (([], 0, 0, [0]), (ids, 3, 0, [0]), (ids, 0, 0, [2]), (ids, 0, 0, [])):
        with pytest.raises(omero.ApiUsageException):
            service.getShapeStatsRestricted(*bad, conn.SERVICE_OPTS)


def test_measurements(conn):
    made = save(conn, plate(wells=1, sites=1))
    ((image,),) = rows(conn, "select s.image.id from WellSample s where s.well.plate.id = :id", id=made.id.val)
    service, options = conn.getRoiService(), omero.api.RoiOptions()
    roi, _ = stored(conn, image, new("Point", x=1.0))
    assert service.getRoiMeasurements(image, options, conn.SERVICE_OPTS) == []
    table = new("FileAnnotation", ns=NSMEASUREMENT, file=new("OriginalFile", name="t", path="/"))
    link = save(conn, new("PlateAnnotationLink", parent=made.proxy(), child=table))
    assert service.getRoiMeasurements(image, options, conn.SERVICE_OPTS) == []
    save(conn, new("RoiAnnotationLink", parent=ref("Roi", roi), child=link.child.proxy()))
    (found,) = service.getRoiMeasurements(image, options, conn.SERVICE_OPTS)
    assert found.id.val == link.child.id.val
    measured = service.getMeasuredRoisMap(image, [found.id.val], options, conn.SERVICE_OPTS)
    assert [one.id.val for one in measured[found.id.val].rois] == [roi]


@pytest.mark.parametrize(
    ("how", "calculate"),
    [
        (ProjectionType.MAXIMUMINTENSITY, lambda stack: stack.max(axis=0)),
        (ProjectionType.SUMINTENSITY, lambda stack: stack[:2].astype(int).sum(axis=0)),  # the last section is left out
        (ProjectionType.MEANINTENSITY, lambda stack: stack[:2].mean(axis=0)),
    ],
)
def test_projected_stacks(conn, stack, how, calculate):
    image, planes = stack
    service = conn.c.sf.getProjectionService()
    kind = next(one for one in conn.getEnumerationEntries("PixelsType") if one.getValue() == "float")._obj
    data = service.projectStack(pixels_of(conn, image), kind, how, 0, 1, 1, 0, 2, conn.SERVICE_OPTS)
    assert np.allclose(np.frombuffer(data, ">f4").reshape(6, 8), calculate(planes[1]))
    for bad in ((0, 1, 1, 0, 3), (0, 2, 1, 0, 2), (1, 0, 1, 0, 2), (0, 0, 0, 0, 2), (0, 0, 1, -1, 2)):
        with pytest.raises(omero.ValidationException):
            service.projectStack(pixels_of(conn, image), kind, how, *bad, conn.SERVICE_OPTS)


def test_projected_image(conn, stack):
    image, planes = stack
    oid = conn.c.sf.getProjectionService().projectPixels(
        pixels_of(conn, image), None, ProjectionType.MAXIMUMINTENSITY, 0, 0, [1], 1, 0, 2, "flat", conn.SERVICE_OPTS
    )
    made = conn.getObject("Image", oid)
    assert (made.getName(), made.getSizeZ(), made.getSizeC(), made.getPixelsType()) == ("flat", 1, 1, "uint8")
    assert (made.getPrimaryPixels().getPlane() == planes[1].max(axis=0)).all()
    assert made.getPrimaryPixels().getMethodology() == "MAXIMUM_INTENSITY_PROJECTION"


def test_more_pixels_of_an_image(conn, stack):
    image, _ = stack
    made = (
        conn.getPixelsService()
        .copyAndResizePixels(
            pixels_of(conn, image), rint(5), None, None, None, [1], "by hand", False, conn.SERVICE_OPTS
        )
        .val
    )
    assert rows(
        conn,
        "select p.image.id, p.sizeX, p.sizeY, p.sizeZ, p.sizeC, p.methodology, p.relatedTo.id "
        "from Pixels p where p.id = :id",
        id=made,
    ) == [[image, 5, 6, 3, 1, "by hand", pixels_of(conn, image)]]
    assert pixels_of(conn, image) != made
    with pytest.raises(omero.ApiUsageException):
        conn.getPixelsService().copyAndResizePixels(made, None, None, None, None, [3], "", False, conn.SERVICE_OPTS)


def test_folders_come_with_the_regions_of_an_image_only(conn, stack):
    roi, _ = stored(conn, stack[0], new("Point", x=1.0))
    folder = save(conn, new("Folder", name="f"))
    save(conn, new("FolderRoiLink", parent=folder.proxy(), child=ref("Roi", roi)))
    service = conn.getRoiService()
    (of_image,) = service.findByImage(stack[0], None).rois
    (alone,) = service.findByRoi(roi, None).rois
    assert [link.parent.name.val for link in of_image.copyFolderLinks()] == ["f"]
    assert not alone._folderLinksLoaded and len(alone.copyShapes()) == 1


def test_the_table_of_an_annotation(conn):
    table = conn.c.sf.sharedResources().newTable(1, "t")
    table.initialize([omero.grid.LongColumn("n", "", [])])
    table.addData([omero.grid.LongColumn("n", "", [7])])
    file = table.getOriginalFile()
    table.close()
    annotation = save(conn, new("FileAnnotation", file=file.proxy())).id.val
    opened = conn.getRoiService().getTable(annotation)
    assert opened.read([0], 0, 1).columns[0].values == [7]
    opened.close()
    with pytest.raises(omero.ApiUsageException):
        conn.getRoiService().getTable(-1)


def test_masks_from_a_picture(conn):
    """RoiI.uploadMask of OMERO.server: a region for each color but black, with one bit for each pixel."""
    picture = np.zeros((3, 4, 3), "uint8")
    picture[1, 1:3] = picture[2, 2] = (255, 0, 0)
    picture[0, 3] = (0, 255, 0)
    file = io.BytesIO()
    PIL.Image.fromarray(picture).save(file, "PNG")
    image = conn.createImageFromNumpySeq(iter([np.zeros((3, 4), "uint8")]), "masked").getId()
    service = conn.getRoiService()
    service.uploadMask(image, 0, 0, file.getvalue())
    masks = [roi.copyShapes()[0] for roi in service.findByImage(image, None).rois]
    found = {tuple(unwrap(getattr(m, name)) for name in ("x", "y", "width", "height")): m for m in masks}
    assert {place: mask.bytes for place, mask in found.items()} == {(1, 1, 2, 2): b"\xd0", (3, 0, 1, 1): b"\x80"}
    assert all(mask.locked.val and mask.theZ.val == 0 for mask in masks)
    with pytest.raises(omero.InternalException):
        service.uploadMask(image, 0, 0, b"no picture")
