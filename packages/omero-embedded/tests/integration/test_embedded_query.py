"""IQuery over the wire, as clients use it: the gateway's own queries, a plate's structure, what is refused."""

from __future__ import annotations

import pytest

omero = pytest.importorskip("omero.gateway").omero

from omero.model import ImageI, PixelsI, PlateI, WellI, WellSampleI  # noqa: E402
from omero.rtypes import rint, rlong, rstring, unwrap  # noqa: E402
from omero.sys import ParametersI  # noqa: E402

STRUCTURE = (
    "select w.row, w.column, w.id, index(ws), ws.id, i.id, px.id, px.sizeX, px.sizeY, px.sizeZ, px.sizeC, px.sizeT, "
    "pt.value, px.sha1, ev.id, ev.time, pa.id from Well w join w.wellSamples ws join ws.image i join i.pixels px "
    "join px.pixelsType pt join i.details.updateEvent ev left outer join ws.plateAcquisition pa "
    "where w.plate.id = :id order by w.row, w.column, index(ws)"
)


def new_image(query, name):
    image, pixels = ImageI(), PixelsI()
    image.name = rstring(name)
    for field, size in zip("XYZCT", (6, 4, 1, 1, 1), strict=True):
        setattr(pixels, f"size{field}", rint(size))
    pixels.sha1, pixels.pixelsType, pixels.dimensionOrder = rstring("Pending..."), *query
    image.addPixels(pixels)
    return image


def make_plate(conn, name, rows, columns, sites):
    """A plate with every well filled; its id."""
    query = conn.c.sf.getQueryService()
    kinds = (
        query.findByString("PixelsType", "value", "uint16"),
        query.findByString("DimensionOrder", "value", "XYZCT"),
    )
    update = conn.c.sf.getUpdateService()
    plate = PlateI()
    plate.name = rstring(name)
    plate = update.saveAndReturnObject(plate)
    for row in range(rows):
        wells = []
        for column in range(columns):
            well = WellI()
            well.plate, well.row, well.column = PlateI(plate.id.val, False), rint(row), rint(column)
            for site in range(sites):
                sample = WellSampleI()
                sample.image = new_image(kinds, f"{row} {column} {site}")
                well.addWellSample(sample)
            wells.append(well)
        update.saveArray(wells)
    return plate.id.val


@pytest.fixture
def plate(conn):
    return make_plate(conn, "plate", 2, 3, 2)


def test_structure(conn, plate):
    query = conn.c.sf.getQueryService()
    found = query.projection(STRUCTURE, ParametersI().addId(plate))
    assert [unwrap(row[0:2] + row[3:4]) for row in found] == [
        [row, column, site] for row in range(2) for column in range(3) for site in range(2)
    ]
    kinds = [type(cell).__name__ for cell in found[0]]
    assert kinds == [
        "RIntI",
        "RIntI",
        "RLongI",
        "RIntI",
        *["RLongI"] * 3,
        *["RIntI"] * 5,
        "RStringI",
        "RStringI",
        "RLongI",
        "RTimeI",
        "NoneType",
    ]


def test_fetched_graph(conn, plate):
    hql = (
        "select w from Well w join fetch w.plate join fetch w.wellSamples ws join fetch ws.image i "
        "join fetch i.pixels p join fetch p.pixelsType where w.plate.id = :id"
    )
    wells = conn.c.sf.getQueryService().findAllByQuery(hql, ParametersI().addId(plate))
    assert len(wells) == 6 and {id(well.plate) for well in wells} == {id(wells[0].plate)}
    for well in wells:
        for index, sample in enumerate(well.copyWellSamples()):
            assert sample.well is well and sample.image.name.val == f"{well.row.val} {well.column.val} {index}"
            assert sample.image.getPrimaryPixels().pixelsType.value.val == "uint16"
            assert sample.image.copyWellSamples() == [sample]


def test_every_wrapper_finds_its_objects(conn, plate):
    """Every query that getObjects makes is understood, whatever is asked for; a plate's are found, and counted."""
    make_plate(conn, "other", 1, 1, 1)
    wells = {well.getId(): well for well in conn.getObject("Plate", plate).listChildren()}
    images = {sample.getImage().getId() for well in wells.values() for sample in well.listChildren()}
    opts = {
        "limit": 5,
        "owner": 0,
        "order_by": "obj.id",
        "load_images": True,
        "load_channels": True,
        "load_shapes": True,
        "load_experimenters": False,
        "load_experimentergroups": False,
        "experimenter": 0,
        "experimentergroup": 0,
        "dataset": 1,
        "project": 1,
        "image": 1,
        "plate": plate,
        "well": min(wells),
        "screen": 1,
        "plateacquisition": 1,
        "orphaned": True,
    }
    found = {}
    for kind in (
        "Project",
        "Dataset",
        "Image",
        "Screen",
        "Plate",
        "PlateAcquisition",
        "Well",
        "Experimenter",
        "ExperimenterGroup",
        "OriginalFile",
        "Fileset",
        "Annotation",
        "TagAnnotation",
        "FileAnnotation",
        "MapAnnotation",
        "Roi",
        "Shape",
    ):
        list(conn.getObjects(kind, [1, 2]))
        for name, value in opts.items():
            found[kind, name] = [wrapper.getId() for wrapper in conn.getObjects(kind, opts={name: value})]
            text, params = conn.buildCountQuery(kind, opts={name: value})
            [[count]] = unwrap(conn.getQueryService().projection(text, params, conn.SERVICE_OPTS))
            assert len(found[kind, name]) == (min(count, 5) if name == "limit" else count), (kind, name)
    assert len(wells) == 6 and sorted(found["Well", "plate"]) == sorted(wells)
    assert found["Plate", "well"] == [plate] and plate in found["Plate", "plate"]
    assert len(images) == 12 and images < set(found["Image", "plate"])  # getObjects knows no images of a plate


def test_the_gateways_other_queries(conn, plate):
    wrapper = conn.getObject("Plate", plate)
    image = next(iter(next(wrapper.listChildren()).listChildren())).getImage()
    assert wrapper.getNumberOfFields() == (0, 1) and wrapper.getGridSize() == {"rows": 2, "columns": 3}
    assert image.getAuthor() == "First Last" and image.getROICount() == 0 and image.getProject() is None
    assert list(image.getImportedImageFiles()) == [] and image.getThumbVersion() is None
    assert [found.getId() for found in conn.listOrphans("Plate")] == [plate] and not list(conn.listOrphans("Image"))
    assert next(iter(conn.findExperimenters("root"))).getName() == "root"
    assert not list(conn.getObjectsByMapAnnotations("Plate", key="a*", value="*b", ns="n"))
    assert set(conn.countAnnotations("Plate", [plate]).values()) == {0}
    for ids in ([plate], [plate, 1]):
        assert list(conn.listOrphanedAnnotations("Plate", ids, anntype="Tag", ns=["none"])) == []


def test_another_group(conn, root, plate):
    query = root.c.sf.getQueryService()
    names = "select p.name from Plate p where p.id = :id"
    assert query.projection(names, ParametersI().addId(plate)) == []
    assert unwrap(query.projection(names, ParametersI().addId(plate), {"omero.group": "-1"})) == [["plate"]]
    group = str(conn.getGroupFromContext().getId())
    assert unwrap(query.projection(names, ParametersI().addId(plate), {"omero.group": group})) == [["plate"]]
    with pytest.raises(omero.SecurityViolation):
        query.get("Plate", plate)


@pytest.mark.parametrize(
    ("function", "value"),
    [
        ("ascii(p.name)", ord("p")),
        ("octet_length(p.name)", 5),
        ("bit_length(p.name)", 40),
        ("degrees(radians(p.id))", None),
        ("trunc(2.7)", 2.0),
        ("char_length(p.name)", 5),
        ("year(now()) - year(p.details.creationEvent.time)", 0),
    ],
)
def test_functions_of_the_database(conn, plate, function, value):
    hql = f"select {function} from Plate p where p.id = :id"
    ((found,),) = unwrap(conn.getQueryService().projection(hql, ParametersI().addId(plate)))
    assert found == pytest.approx(plate if value is None else value)


def test_spread_of_values(conn, plate):
    hql = "select %s(w.column) from Well w where w.plate.id = :id"
    found = {}
    for name in ("stddev", "variance", "count"):
        ((found[name],),) = unwrap(conn.getQueryService().projection(hql % name, ParametersI().addId(plate)))
    assert found["stddev"] ** 2 == pytest.approx(found["variance"]) and found["variance"] == pytest.approx(0.8)
    one = unwrap(
        conn.getQueryService().projection(
            "select stddev(p.id) from Plate p where p.id = :id", ParametersI().addId(plate)
        )
    )
    assert one == [[]]  # of one value there is no spread


@pytest.mark.parametrize(
    ("hql", "kind"),
    [
        ("select p from Plait p", omero.QueryException),
        ("select p.nome from Plate p", omero.QueryException),
        ("select p from Plate p where", omero.QueryException),
        ("delete from Plate", omero.ApiUsageException),
        ("select nosuch(p.id) from Plate p", omero.ApiUsageException),
        ("select p from Plate p where p.id = :i", omero.InternalException),
        ("select p from Plate p where p.id = :missing", omero.ApiUsageException),
        ("select p from Plate p where p.name = :id", omero.InternalException),
    ],
)
def test_refusals(conn, hql, kind):
    with pytest.raises(kind) as error:
        conn.c.sf.getQueryService().projection(hql, ParametersI({"i": rint(1), "id": rlong(1)}))
    assert error.value.message and "Traceback" not in error.value.message


@pytest.mark.slow
def test_a_large_plate(conn):
    """384 wells with 9 sites each. How many SQL statements that takes is counted in unit/test_saving.py."""
    pid = make_plate(conn, "large", 16, 24, 9)
    query, params = conn.c.sf.getQueryService(), ParametersI().addId(pid)
    assert len(query.projection(STRUCTURE, params)) == 3456
    wells = query.findAllByQuery(
        "select w from Well w join fetch w.wellSamples ws join fetch ws.image where w.plate.id = :id", params
    )
    assert len(wells) == 384 and sum(well.sizeOfWellSamples() for well in wells) == 3456
