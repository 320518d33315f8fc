"""Saving without the wire: every class of the model, and the number of SQL statements."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("sqlalchemy")
omero = pytest.importorskip("omero")

import sqlalchemy as sa  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from omero.rtypes import rbool, rdouble, rint, rlong, rstring, rtime  # noqa: E402
from omero_embedded.files.store import Store  # noqa: E402
from omero_embedded.hql.results import Results  # noqa: E402
from omero_embedded.model import rows, saving  # noqa: E402
from omero_embedded.model.access import PRIVILEGES, Context  # noqa: E402
from omero_embedded.model.deleting import delete  # noqa: E402
from omero_embedded.model.graphs import ChildOptions  # noqa: E402
from omero_embedded.model.loading import Loader  # noqa: E402
from omero_embedded.model.schema import schema  # noqa: E402
from omero_embedded.people.bootstrap import bootstrap  # noqa: E402

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
LONGS = st.integers(-(2**63), 2**63 - 1)
VALUES = {
    "text": TEXTS.map(rstring),
    "int": st.integers(-(2**31), 2**31 - 1).map(rint),
    "long": LONGS.map(rlong),
    "double": st.floats(allow_nan=False).map(rdouble),
    "bool": st.booleans().map(rbool),
    "time": LONGS.map(rtime),
    "map": st.lists(st.builds(omero.model.NamedValue, TEXTS, TEXTS), max_size=5),
    "strings": st.lists(TEXTS, max_size=3),
    "bytes": st.binary(max_size=20),
}
# What stands alone: classes that need nothing else but enumerations.
ALONE = [
    entity.name
    for entity in schema().entities.values()
    if not (entity.abstract or entity.is_enum)
    and all(one.nullable or schema()[one.target].is_enum for one in entity.fields.values() if one.kind == "ref")
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = Store(tmp_path_factory.mktemp("store"))
    bootstrap(made)
    yield made
    made.close()


def root():
    """What a call of the administrator runs as; one for every call."""
    return Context(
        0, "root", 0, True, frozenset({0, 1}), frozenset(), {0: "rw----", 1: "rwr-r-"}, privileges=PRIVILEGES
    )


def enumeration(name):
    """A stored value of an enumeration, unloaded."""
    return schema()[name].new(0, loaded=False)


@st.composite
def objects(draw):
    """A new object of some class with some of its fields set."""
    entity = schema()[draw(st.sampled_from(ALONE))]
    made = entity.new()
    for one in entity.fields.values():
        if one.name in ("version", "repo") or (one.nullable and draw(st.booleans())):
            continue
        if one.kind in VALUES:
            setattr(made, one.name, draw(VALUES[one.kind]))
        elif one.kind == "unit":
            kind = getattr(omero.model.enums, "Units" + one.target)
            unit = kind.valueOf(draw(st.integers(0, len(kind._enumerators) - 1)))
            setattr(made, one.name, getattr(omero.model, one.target + "I")(draw(st.floats(allow_nan=False)), unit))
    return made


def with_enumerations(connection, obj):
    """Fill required enumerations with a stored value."""
    entity = schema().of(obj)
    for one in rows.fields_of(entity.name, "ref"):
        if not one.nullable:
            oid = connection.execute(sa.select(sa.func.max(schema()[one.target].table.c.id))).scalar()
            setattr(obj, one.name, schema()[one.target].new(oid, loaded=False))
    return obj


def content(obj):
    """Everything that an object says of itself."""
    entity = schema().of(obj)
    maps = {one.name: rows.pairs_of(obj, one) for one in rows.fields_of(entity.name, "map")}
    row = {
        key: value or None if isinstance(value, (list, bytes)) else value
        for key, value in rows.row_of(entity, obj).items()
    }
    return entity.name, row, maps


@given(objects())
@settings(max_examples=300)
def test_what_is_saved_is_what_is_loaded(store, obj):
    with store.engine.connect().execution_options(writer=True) as connection:
        before = content(with_enumerations(connection, obj))
        (saved,) = saving.save(connection, root(), [obj])
        loaded = Loader(connection, root()).get(schema().of(saved), [saved.id.val])[saved.id.val]
        assert content(loaded) == before
        event = rows.id_of(saved.details.updateEvent)
        (again,) = saving.save(connection, root(), [loaded])
        assert rows.id_of(again.details.updateEvent) == event
        connection.rollback()


def plate(wells, sites=3):
    made = omero.model.PlateI()
    made.name = rstring("plate")
    for column in range(wells):
        well = omero.model.WellI()
        well.row, well.column = rint(0), rint(column)
        for _ in range(sites):
            sample, image, pixels = omero.model.WellSampleI(), omero.model.ImageI(), omero.model.PixelsI()
            image.name = rstring("image")
            for size in ("sizeX", "sizeY", "sizeZ", "sizeC", "sizeT"):
                setattr(pixels, size, rint(1))
            pixels.sha1, pixels.pixelsType = rstring("Pending..."), omero.model.PixelsTypeI()
            pixels.pixelsType.value = rstring("uint8")
            pixels.dimensionOrder = omero.model.DimensionOrderI()
            pixels.dimensionOrder.value = rstring("XYCZT")
            channel = omero.model.ChannelI()
            channel.logicalChannel, channel.statsInfo = omero.model.LogicalChannelI(), omero.model.StatsInfoI()
            channel.statsInfo.globalMin, channel.statsInfo.globalMax = rdouble(0), rdouble(math.inf)
            pixels.addChannel(channel)
            image.addPixels(pixels)
            sample.image = image
            well.addWellSample(sample)
        made.addWell(well)
    return made


class Statements(list):
    """The SQL statements of a store while it is used as a context."""

    def __init__(self, store):
        super().__init__()
        self.engine = store.engine

    def __enter__(self):
        sa.event.listen(self.engine, "before_cursor_execute", self._note)
        return self

    def __exit__(self, *_):
        sa.event.remove(self.engine, "before_cursor_execute", self._note)

    def _note(self, connection, cursor, statement, parameters, context, executemany):
        self.append(statement)


@pytest.mark.parametrize("how", ["save", "save again", "delete"])
def test_a_large_plate_takes_as_many_statements_as_a_small_one(store, how):
    counts = []
    for wells in (1, 20):
        with store.write() as connection:
            if how == "save":
                with Statements(store) as seen:
                    saving.save(connection, root(), [plate(wells)])
            else:
                (saved,) = saving.save(connection, root(), [plate(wells)])
                with Statements(store) as seen:
                    if how == "save again":
                        saving.save(connection, root(), [saved])
                    else:
                        gone = delete(connection, root(), {"Plate": [saved.id.val]}, ChildOptions())
                        assert len(gone["ome.model.core.Channel"]) == wells * 3
        counts.append(len(seen))
    assert counts[0] == counts[1] < 300


@pytest.mark.parametrize(
    ("query", "per_well"),
    [
        ("select w.row, ws.id, i.name from Well w join w.wellSamples ws join ws.image i where w.plate.id = :id", 3),
        ("select w from Well w join fetch w.wellSamples ws join fetch ws.image where w.plate.id = :id", 1),
        ("select p from Plate p left join fetch p.wells w left join fetch w.wellSamples where p.id = :id", 0),
    ],
)
def test_a_large_plate_is_queried_in_as_many_statements_as_a_small_one(store, query, per_well):
    counts = []
    for wells in (1, 20):
        with store.write() as connection:
            (saved,) = saving.save(connection, root(), [plate(wells)])
        with store.read() as connection, Statements(store) as seen:
            results = Results(connection, root(), query, {"id": rlong(saved.id.val)}, (0, None))
            answer = results.objects() if results.plan.selects_entity else results.projected()
        assert len(answer) == (per_well * wells or 1)
        counts.append(len(seen))
    assert counts[0] == counts[1] < 30


def test_a_shape_that_is_removed_from_a_roi_is_deleted(store):
    """As in OMERO's own examples. Saving a region whose shapes are not loaded keeps them."""
    roi = omero.model.RoiI()
    for number in range(3):
        shape = omero.model.PointI()
        shape.x = shape.y = rdouble(number)
        roi.addShape(shape)
    with store.write() as connection:
        (saved,) = saving.save(connection, root(), [roi])

    def found(fetch=""):
        query = f"select r from Roi r {fetch} where r.id = :id"
        with store.read() as connection:
            return Results(connection, root(), query, {"id": rlong(saved.id.val)}).objects()[0]

    def shapes():
        with store.read() as connection:
            query = "select s.id from Shape s where s.roi.id = :id order by s.id"
            return [row[0].val for row in Results(connection, root(), query, {"id": rlong(saved.id.val)}).projected()]

    first, second, third = shapes()
    loaded = found("join fetch r.shapes")
    loaded.removeShape(loaded.copyShapes()[1])
    unloaded = found()
    unloaded.name = omero.rtypes.rstring("renamed")
    for changed in (loaded, unloaded):
        with store.write() as connection:
            if changed is unloaded:
                changed.details.updateEvent = None
            saving.save(connection, root(), [changed])
        assert shapes() == [first, third] and second not in shapes()


def test_a_failed_save_leaves_no_trace(store):
    def counted():
        with store.read() as connection:
            return {
                table.name: connection.execute(sa.select(sa.func.count()).select_from(table)).scalar()
                for table in store.schema.metadata.sorted_tables
            }

    before = counted()
    nameless = omero.model.PlateI()
    with pytest.raises(omero.ValidationException, match="name"), store.write() as connection:
        saving.save(connection, root(), [plate(2), nameless])
    twice = plate(1)
    twice.addWell(plate(1).copyWells()[0])
    with pytest.raises(omero.ValidationException, match="already"), store.write() as connection:
        saving.save(connection, root(), [twice])
    assert counted() == before
