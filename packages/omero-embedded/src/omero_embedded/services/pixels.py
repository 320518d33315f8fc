"""IPixels: creating images with pixels, channel statistics, enumerations, and rendering settings."""

from __future__ import annotations

import omero
import sqlalchemy as sa
from omero.rtypes import rlong, unwrap

from omero_embedded.errors import given, refuse
from omero_embedded.hql.results import Results
from omero_embedded.kernel import Kernel
from omero_embedded.limits import MOST_CHANNELS, check
from omero_embedded.model import saving
from omero_embedded.model.access import Context
from omero_embedded.model.enumerations import BIT_SIZES
from omero_embedded.model.events import insert, new_event
from omero_embedded.model.loading import Loader
from omero_embedded.model.saving.checks import check_place
from omero_embedded.people.sessions import Session
from omero_embedded.services.registry import service

# The fields that a copy of an image keeps.
_OF_IMAGE = (
    "acquisitionDate",
    "experiment",
    "imagingEnvironment",
    "instrument",
    "objectiveSettings",
    "series",
    "stageLabel",
)
# The fields that a copy of pixels keeps.
_OF_PIXELS = ("dimensionOrder", "pixelsType", *(f"physicalSize{a}{b}" for a in "XYZ" for b in ("", "_unit")))
_DESCRIPTION = (
    "select p from Pixels p left outer join fetch p.pixelsType left outer join fetch p.channels c "
    "left outer join fetch c.logicalChannel lc left outer join fetch c.statsInfo "
    "left outer join fetch lc.photometricInterpretation left outer join fetch lc.illumination "
    "left outer join fetch lc.mode left outer join fetch lc.contrastMethod where p.id = :id"
)
_SETTINGS = (
    "select rdef from RenderingDef rdef left outer join fetch rdef.details.owner "
    "left outer join fetch rdef.quantization left outer join fetch rdef.model "
    "left outer join fetch rdef.waveRendering cb left outer join fetch cb.family "
    "left outer join fetch cb.spatialDomainEnhancement left outer join fetch rdef.projections proj "
    "left outer join fetch proj.axis left outer join fetch proj.type"
)


@service("::omero::api::IPixels")
class PixelsService:
    def __init__(self, kernel: Kernel, session: Session):
        self.kernel, self.schema = kernel, kernel.schema

    def createImage(self, ctx: Context, size_x, size_y, size_z, size_t, channels, pixels_type, name, description):
        """Create an image with pixels and channels, without pixel data, and return the image's id."""
        check_place(ctx, "Image")
        if min(size_x, size_y, size_z, size_t) < 1:
            raise refuse(omero.ApiUsageException, f"A size is below 1: {size_x} x {size_y} x {size_z} x {size_t}.")
        check(len(channels or ()), MOST_CHANNELS, "channels")
        if not channels or pixels_type is None:
            raise refuse(omero.ValidationException, "Pixels need a type and at least one channel.")
        with self.kernel.store.write() as connection:
            event = new_event(connection, ctx)

            def add(kind: str, **values) -> int:
                return insert(connection, ctx, self.schema[kind], values, event)

            image = add("Image", name=name, description=description, series=0)
            pixels = add(
                "Pixels",
                image=image,
                image_index=0,
                sizeX=size_x,
                sizeY=size_y,
                sizeZ=size_z,
                sizeC=len(channels),
                sizeT=size_t,
                sha1="Pending...",
                pixelsType=self._enumeration(connection, "PixelsType", pixels_type),
                dimensionOrder=self._value_id(connection, "DimensionOrder", "XYZCT"),
            )
            for index in range(len(channels)):
                add("Channel", pixels=pixels, pixels_index=index, logicalChannel=add("LogicalChannel"))
        return rlong(image)

    def copyAndResizeImage(self, ctx: Context, image, size_x, size_y, size_z, size_t, channels, name, copy_stats):
        """Create an image like another, with some channels and other sizes, without pixel data; return its id."""
        check_place(ctx, "Image")
        table = self.schema["Pixels"].table
        with self.kernel.store.write() as connection:
            source = self._row(connection, ctx, "Image", image)
            found = connection.execute(
                sa.select(table.c.id).where(table.c.image == image).order_by(table.c.image_index)
            ).scalar()
            new = insert(
                connection,
                ctx,
                self.schema["Image"],
                {**{column: source[column] for column in _OF_IMAGE}, "name": name},
                new_event(connection, ctx),
            )
            self._copy_pixels(
                connection,
                ctx,
                found or -1,
                (size_x, size_y, size_z, size_t),
                channels,
                copy_stats,
                {"image": new, "image_index": 0},
            )
        return rlong(new)

    def copyAndResizePixels(
        self, ctx: Context, pixels, size_x, size_y, size_z, size_t, channels, methodology, copy_stats
    ):
        """Create further pixels of an image like others of it, without pixel data, and return their id."""
        check_place(ctx, "Pixels")
        table = self.schema["Pixels"].table
        with self.kernel.store.write() as connection:
            source = self._row(connection, ctx, "Pixels", pixels)
            last = connection.execute(
                sa.select(sa.func.max(table.c.image_index)).where(table.c.image == source["image"])
            ).scalar()
            made = self._copy_pixels(
                connection,
                ctx,
                pixels,
                (size_x, size_y, size_z, size_t),
                channels,
                copy_stats,
                {"image_index": (last or 0) + 1, "methodology": methodology},
            )
        return rlong(made)

    def _copy_pixels(
        self,
        connection: sa.Connection,
        ctx: Context,
        source: int,
        asked: tuple,
        channels,
        copy_stats: bool,
        changes: dict,
    ) -> int:
        """Insert pixels like others, with other sizes (X, Y, Z, T) where they are given, and return their id."""
        pixels = self._row(connection, ctx, "Pixels", source)
        sizes = {f"size{axis}": size.val for axis, size in zip("XYZT", asked) if size is not None}
        check(len(channels or ()), MOST_CHANNELS, "channels")
        if wrong := [f"{name}: {size} <= 0" for name, size in sizes.items() if size < 0]:
            raise refuse(omero.ValidationException, wrong[0])
        if not channels:
            raise refuse(omero.ValidationException, "Channel List is not null but size == 0")
        if outside := [place for place, c in enumerate(channels) if not 0 <= c < pixels["sizeC"]]:
            raise refuse(omero.ValidationException, f"channel: {outside[0]} out of bounds")
        if 0 in sizes.values():
            raise refuse(omero.ApiUsageException, f"A size is below 1: {sizes}.")
        kept = {column: pixels[column] for column in (*_OF_PIXELS, *(f"size{axis}" for axis in "XYZT"), "image")}
        values = {**kept, **sizes, "sizeC": len(channels), "sha1": "Pending...", "relatedTo": source, **changes}
        event = new_event(connection, ctx)
        made = insert(connection, ctx, self.schema["Pixels"], values, event)
        for index, channel in enumerate(channels):
            self._copy_channel(connection, ctx, source, channel, (made, index), copy_stats)
        return made

    def _copy_channel(
        self,
        connection: sa.Connection,
        ctx: Context,
        source: int,
        channel: int,
        place: tuple[int, int],
        copy_stats: bool,
    ) -> None:
        """Insert a channel like another one, which shares the logical channel with it, at a place in some pixels."""
        table, stats = self.schema["Channel"].table, self.schema["StatsInfo"]
        row = connection.execute(
            sa.select(table.c.logicalChannel, table.c.statsInfo).where(
                (table.c.pixels == source) & (table.c.pixels_index == channel)
            )
        ).one()
        event = new_event(connection, ctx)
        values = {"pixels": place[0], "pixels_index": place[1], "logicalChannel": row.logicalChannel}
        if copy_stats:
            if row.statsInfo is None:
                raise refuse(omero.InternalException, f"Channel {channel} of the pixels {source} has no statistics.")
            known = self._row(connection, ctx, "StatsInfo", row.statsInfo)
            copied = {name: known[name] for name in ("globalMin", "globalMax")}
            values["statsInfo"] = insert(connection, ctx, stats, copied, event)
        insert(connection, ctx, self.schema["Channel"], values, event)

    def _row(self, connection: sa.Connection, ctx: Context, kind: str, oid: int) -> dict:
        """Read a row that the caller may see; as in OMERO, for pixels there is only one error."""
        table = self.schema[kind].table
        row = connection.execute(sa.select(table).where(table.c.id == oid)).mappings().first()
        if row is None:
            wrong = omero.InternalException if kind == "Pixels" else omero.ValidationException
            raise refuse(wrong, f"There is no {kind} {oid}.")
        if not ctx.may_see(row["_owner"], row["_group"]):
            wrong = omero.InternalException if kind == "Pixels" else omero.SecurityViolation
            raise refuse(wrong, f"Cannot read {self.schema[kind].java}:Id_{oid}")
        return dict(row)

    def setChannelGlobalMinMax(self, ctx: Context, pixels, channel, low, high):
        """Save the smallest and the largest value of a channel."""
        table, stats = self.schema["Channel"].table, self.schema["StatsInfo"]
        with self.kernel.store.write() as connection:
            row = connection.execute(
                sa.select(table.c.id, table.c.statsInfo, table.c._owner, table.c._group).where(
                    (table.c.pixels == pixels) & (table.c.pixels_index == channel)
                )
            ).first()
            if row is None or not ctx.may_see(row._owner, row._group):
                raise refuse(omero.InternalException, f"There is no channel {channel} in the pixels {pixels}.")
            if not ctx.may_edit(row._owner, row._group):
                raise refuse(omero.SecurityViolation, f"{ctx.user_name} may not change the pixels {pixels}.")
            values = {"globalMin": low, "globalMax": high}
            event = new_event(connection, ctx)
            if row.statsInfo is None:
                made = insert(connection, ctx, stats, {**values, "_owner": row._owner, "_group": row._group}, event)
                connection.execute(
                    table.update().where(table.c.id == row.id).values(statsInfo=made, _updateEvent=event)
                )
            else:
                connection.execute(
                    stats.table.update().where(stats.table.c.id == row.statsInfo).values(**values, _updateEvent=event)
                )

    def retrievePixDescription(self, ctx: Context, pixels):
        """Load pixels with type, channels, and the parts of the channels; None if the caller sees none."""
        found = self._objects(ctx, _DESCRIPTION, {"id": rlong(pixels)})
        return found[0] if found else None

    def _objects(self, ctx: Context, hql: str, values: dict) -> list:
        with self.kernel.store.read() as connection:
            return Results(connection, ctx, hql, values).objects()

    # -- enumerations --------------------------------------------------------------------------------------------

    def getBitDepth(self, ctx: Context, pixels_type):
        return BIT_SIZES[pixels_type.value.val]

    def getAllEnumerations(self, ctx: Context, name):
        entity = self.schema.find(name)
        if entity is None:
            raise refuse(omero.ApiUsageException, f"{name} does not specify a valid class.")
        with self.kernel.store.read() as connection:
            ids = connection.execute(sa.select(entity.table.c.id).order_by(entity.table.c.id)).scalars().all()
            return list(Loader(connection, ctx).get(entity, ids).values())

    def getEnumeration(self, ctx: Context, name, value):
        return next((one for one in self.getAllEnumerations(ctx, name) if one.value.val == value), None)

    def _enumeration(self, connection: sa.Connection, name: str, given) -> int:
        """Find the id of an enumeration object that a client sent."""
        return given.id.val if given.id is not None else self._value_id(connection, name, unwrap(given.value))

    def _value_id(self, connection: sa.Connection, name: str, value: str) -> int:
        table = self.schema[name].table
        found = connection.execute(sa.select(table.c.id).where(table.c.value == value)).scalar()
        if found is None:
            raise refuse(omero.ValidationException, f"{name} has no value {value}.")
        return found

    # -- rendering settings --------------------------------------------------------------------------------------

    def retrieveRndSettings(self, ctx: Context, pixels):
        """Load the caller's settings of an image, or those of the owner; None if there are neither."""
        found = self.retrieveRndSettingsFor(ctx, pixels, ctx.user)
        if found is not None:
            return found
        table = self.schema["Pixels"].table
        with self.kernel.store.read() as connection:
            row = connection.execute(sa.select(table.c._owner, table.c._group).where(table.c.id == pixels)).first()
        if row is None:
            raise refuse(omero.ValidationException, f"There is no Pixels {pixels}.")
        if not ctx.may_see(*row):
            raise refuse(omero.SecurityViolation, f"Cannot read ome.model.core.Pixels:Id_{pixels}")
        return self.retrieveRndSettingsFor(ctx, pixels, row._owner) if row._owner != ctx.user else None

    def retrieveRndSettingsFor(self, ctx: Context, pixels, user):
        found = self.retrieveAllRndSettings(ctx, pixels, user)
        return found[0] if found else None

    def retrieveAllRndSettings(self, ctx: Context, pixels, user):
        """Load the settings of a user, or of all if that is negative; those that were changed last come first."""
        values, owned = {"pixels": rlong(pixels)}, ""
        if user >= 0:
            values["owner"], owned = rlong(user), "and rdef.details.owner.id = :owner "
        order = "order by rdef.details.updateEvent.id desc"
        return self._objects(ctx, f"{_SETTINGS} where rdef.pixels.id = :pixels {owned}{order}", values)

    def loadRndSettings(self, ctx: Context, oid):
        found = self._objects(ctx, f"{_SETTINGS} where rdef.id = :id", {"id": rlong(oid)})
        return found[0] if found else None

    def saveRndSettings(self, ctx: Context, settings):
        given(settings)
        with self.kernel.store.write() as connection:
            saving.save_ids(connection, ctx, [settings])
