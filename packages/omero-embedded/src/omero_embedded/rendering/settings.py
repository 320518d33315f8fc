"""Rendering settings in the database: each user's for some pixels, as a RenderingDef with its ChannelBindings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import omero
import sqlalchemy as sa

from omero_embedded.errors import refuse
from omero_embedded.files.pyramids import is_pyramid, level_part, level_sizes
from omero_embedded.files.store import Store
from omero_embedded.limits import MOST_PIXELS, check
from omero_embedded.model.access import Context
from omero_embedded.model.events import insert, new_event
from omero_embedded.model.loading import Loader
from omero_embedded.model.schema import schema
from omero_embedded.rendering.pictures import (
    ACTIVE_AT_FIRST,
    DTYPES,
    GREYSCALE,
    MAX_COLORED,
    RGB,
    ChannelSettings,
    RenderingSettings,
    default_colors,
    project_sections,
    render,
    type_range,
)

NANOMETRES = {"NANOMETER": 1.0, "MICROMETER": 1e3, "ANGSTROM": 0.1, "MILLIMETER": 1e6, "METER": 1e9}


@dataclass(frozen=True)
class PixelsSource:
    """The pixels of an image to render: their metadata and their values."""

    id: int
    path: Path
    kind: str  # the pixels type
    shape: tuple[int, int, int, int, int]  # (T, C, Z, Y, X)
    owner: int
    group: int
    colors: list[tuple[int, int, int, int]]
    tables: list[str | None]
    statistics: list[tuple[float, float] | None]  # smallest and largest value of each channel

    def plane(self, z: int, c: int, t: int) -> np.ndarray:
        """Read a plane (Y, X); parts that were never written are 0."""
        return self._read(z, 1, c, t)[0]

    def stack(self, c: int, t: int) -> np.ndarray:
        """Read a stack (Z, Y, X) of a channel."""
        return self._read(0, self.shape[2], c, t)

    def _read(self, z: int, count: int, c: int, t: int) -> np.ndarray:
        sizes_t, sizes_c, sizes_z, height, width = self.shape
        for name, value, size in (("z", z, sizes_z), ("c", c, sizes_c), ("t", t, sizes_t)):
            if not 0 <= value < size:
                raise refuse(omero.InternalException, f"{name} is {value}: it should be from 0 to {size - 1}.")
        check(count * height * width, MOST_PIXELS, "pixels")
        dtype = np.dtype(DTYPES.get(self.kind, ">f4"))
        skip = ((t * sizes_c + c) * sizes_z + z) * height * width * dtype.itemsize
        found = np.zeros(count * height * width, dtype)
        if self.path.exists():
            read = np.fromfile(self.path, dtype, found.size, offset=skip)
            found[: read.size] = read
        return found.reshape(count, height, width)

    def picture(self, settings: RenderingSettings, z: int, t: int, level: int = 0) -> np.ndarray:
        """Render a plane, or a level of a pyramid's, as (Y, X, 3), uint8."""
        planes = [self._at_level(self.plane(z, c, t), level) for c in settings.shown()]
        return render(settings, planes) if planes else self._at_level(self._black(), level)

    def cut(self, settings: RenderingSettings, axis: int, place: int, t: int) -> np.ndarray:
        """Render a cut through the sections: an XZ plane as (Z, X, 3) at axis 1, a ZY plane as (Y, Z, 3) at axis 2."""
        size = self.shape[2 + axis]
        if not 0 <= place < size:
            raise refuse(omero.InternalException, f"Index {place} out of bounds for length {size}")
        planes = [self.stack(c, t).take(place, axis) for c in settings.shown()]
        if axis == 2:
            planes = [plane.T for plane in planes]
        shape = (self.shape[2], self.shape[4]) if axis == 1 else (self.shape[3], self.shape[2])
        return render(settings, planes) if planes else np.zeros((*shape, 3), np.uint8)

    def _at_level(self, plane: np.ndarray, level: int) -> np.ndarray:
        width, height = level_sizes(self.shape[4], self.shape[3])[level]
        return level_part(plane, level, 0, 0, width, height) if level else plane

    def projection(self, settings: RenderingSettings, how: str, t: int, start: int, end: int, step: int) -> np.ndarray:
        """Render a projection of the sections `start` to `end`, inclusive, as (Y, X, 3), uint8."""
        if not 0 <= start <= end < self.shape[2] or step < 1:
            raise refuse(omero.ApiUsageException, f"There are no sections {start} to {end} in steps of {step}.")
        planes = [project_sections(self.stack(c, t), how, start, end, step) for c in settings.shown()]
        return render(settings, planes) if planes else self._black()

    def _black(self) -> np.ndarray:
        check(self.shape[3] * self.shape[4], MOST_PIXELS, "pixels")
        return np.zeros((*self.shape[3:], 3), np.uint8)

    def defaults(self) -> RenderingSettings:
        """Return OMERO's default settings."""
        depth, count = self.shape[2], self.shape[1]
        z = depth // 2
        channels = []
        for c in range(count):
            start, end = self.statistics[c] or self._range(z, c)
            channels.append(
                ChannelSettings(start, end, c < ACTIVE_AT_FIRST, self.colors[c], lookup_table=self.tables[c])
            )
        return RenderingSettings(z, 0, RGB if 1 < count < MAX_COLORED else GREYSCALE, channels)

    def _range(self, z: int, c: int) -> tuple[float, float]:
        """The window of a channel without statistics: the range of its first plane, or that of its type."""
        plane = self.plane(z, c, 0)
        low, high = float(plane.min()), float(plane.max())
        return (low, high) if np.isfinite((low, high)).all() and low < high else type_range(self.kind)


def load_source(store: Store, connection: sa.Connection, ctx: Context, pixels: int) -> PixelsSource:
    """Load pixels that the caller may see; raise a ValidationException if there are none."""
    known = schema()
    table, kinds = known["Pixels"].table, known["PixelsType"].table
    row = (
        connection.execute(
            sa.select(table, kinds.c.value.label("kind"))
            .join(kinds, table.c.pixelsType == kinds.c.id)
            .where(table.c.id == pixels)
        )
        .mappings()
        .first()
    )
    if row is None or not ctx.may_see(row["_owner"], row["_group"]):
        raise refuse(omero.ValidationException, f"There are no pixels {pixels}.")
    channel, logical, stats = (known[name].table for name in ("Channel", "LogicalChannel", "StatsInfo"))
    found = connection.execute(
        sa.select(
            channel.c.red,
            channel.c.green,
            channel.c.blue,
            channel.c.alpha,
            channel.c.lookupTable,
            logical.c.emissionWave,
            logical.c.emissionWave_unit,
            stats.c.globalMin,
            stats.c.globalMax,
        )
        .outerjoin(logical, channel.c.logicalChannel == logical.c.id)
        .outerjoin(stats, channel.c.statsInfo == stats.c.id)
        .where(channel.c.pixels == pixels)
        .order_by(channel.c.pixels_index)
    ).all()
    missing = row["sizeC"] - len(found)
    stored: list = [None if None in one[:4] else tuple(one[:4]) for one in found] + [None] * missing
    waves = [None if one[5] is None else one[5] * NANOMETRES.get(one[6], 1.0) for one in found] + [None] * missing
    statistics = [None if None in one[7:] else (one[7], one[8]) for one in found] + [None] * missing
    path_of = store.pyramid_path if is_pyramid(row["sizeX"], row["sizeY"]) else store.pixels_path
    return PixelsSource(
        pixels,
        path_of(pixels),
        row["kind"],
        tuple(row["size" + axis] for axis in "TCZYX"),
        row["_owner"],
        row["_group"],  # type: ignore[arg-type]
        default_colors(stored, waves),
        [one[4] for one in found] + [None] * missing,
        statistics,
    )


def find_settings(connection: sa.Connection, source: PixelsSource, user: int) -> RenderingSettings | None:
    """Load the newest settings of a user for pixels, or else those of the pixels' owner."""
    table = schema()["RenderingDef"].table
    for owner in dict.fromkeys((user, source.owner)):
        oid = connection.execute(
            sa.select(table.c.id)
            .where((table.c.pixels == source.id) & (table.c._owner == owner))
            .order_by(table.c.id.desc())
        ).scalar()
        if oid is not None:
            return load_settings(connection, oid)
    return None


def load_settings(connection: sa.Connection, oid: int) -> RenderingSettings | None:
    """Load the settings of a rendering definition."""
    table, model, quantum = (schema()[name].table for name in ("RenderingDef", "RenderingModel", "QuantumDef"))
    row = connection.execute(
        sa.select(
            table.c.id,
            table.c.defaultZ,
            table.c.defaultT,
            table.c.compression,
            table.c._owner,
            model.c.value,
            quantum.c.cdStart,
            quantum.c.cdEnd,
            quantum.c.bitResolution,
        )
        .join(model, table.c.model == model.c.id)
        .join(quantum, table.c.quantization == quantum.c.id)
        .where(table.c.id == oid)
    ).first()
    if row is None:
        return None
    return RenderingSettings(
        row.defaultZ,
        row.defaultT,
        row.value,
        _load_channels(connection, oid),
        row.cdStart,
        row.cdEnd,
        row.bitResolution,
        1.0 if row.compression is None else row.compression,
        row._owner,
        row.id,
    )


def _load_channels(connection: sa.Connection, oid: int) -> list[ChannelSettings]:
    """Load the channels of a rendering definition, in order."""
    binding, family, map_context = (schema()[name].table for name in ("ChannelBinding", "Family", "CodomainMapContext"))
    found = (
        connection.execute(
            sa.select(binding, family.c.value.label("curve"))
            .join(family, binding.c.family == family.c.id)
            .where(binding.c.renderingDef == oid)
            .order_by(binding.c.renderingDef_index)
        )
        .mappings()
        .all()
    )
    inverted = set(
        connection.execute(
            sa.select(map_context.c.channelBinding).where(
                map_context.c["class"] == "ReverseIntensityContext",
                map_context.c.channelBinding.in_([one["id"] for one in found]),
            )
        ).scalars()
    )
    return [
        ChannelSettings(
            one["inputStart"],
            one["inputEnd"],
            bool(one["active"]),
            (one["red"], one["green"], one["blue"], one["alpha"]),
            one["curve"],
            one["coefficient"],
            bool(one["noiseReduction"]),
            one["id"] in inverted,
            one["lookupTable"],
        )
        for one in found
    ]


def visible_settings(connection: sa.Connection, ctx: Context, source: PixelsSource, oid: int) -> RenderingSettings:
    """Load settings by id; raise a ValidationException if the caller sees none, or they are for other pixels."""
    seen = Loader(connection, ctx).get(schema()["RenderingDef"], [oid])
    found = load_settings(connection, oid) if seen else None
    if found is None or len(found.channels) != source.shape[1]:
        raise refuse(omero.ValidationException, f"There are no rendering settings {oid} for these pixels.")
    return found


def save_settings(connection: sa.Connection, ctx: Context, source: PixelsSource, settings: RenderingSettings) -> int:
    """Save settings as the caller's own. They replace those with the same id if these are the caller's."""
    if ctx.is_critical(source.owner, source.group):
        raise refuse(
            omero.ReadOnlyGroupSecurityViolation,
            f"The pixels {source.id} are another user's in a private "
            f"group: {ctx.user_name} may not keep settings for them.",
        )
    if not ctx.may_display(source.owner, source.group):
        raise refuse(omero.SecurityViolation, f"{ctx.user_name} may not save settings for the pixels {source.id}.")
    known = schema()
    event = new_event(connection, ctx)
    place = {"_owner": ctx.user, "_group": source.group}
    values = {
        "defaultZ": settings.z,
        "defaultT": settings.t,
        "compression": settings.compression,
        "model": _value_id(connection, "RenderingModel", settings.model),
    }
    quantum = {"cdStart": settings.cd_start, "cdEnd": settings.cd_end, "bitResolution": settings.resolution}
    table = known["RenderingDef"].table
    if settings.id is not None and settings.owner == ctx.user:
        oid = settings.id
        row = connection.execute(sa.select(table.c.quantization, table.c.version).where(table.c.id == oid)).one()
        connection.execute(
            table.update().where(table.c.id == oid).values(**values, version=(row.version or 0) + 1, _updateEvent=event)
        )
        stored = known["QuantumDef"].table
        connection.execute(stored.update().where(stored.c.id == row.quantization).values(**quantum))
        _remove_bindings(connection, oid)
    else:
        made = insert(connection, ctx, known["QuantumDef"], {**quantum, **place}, event)
        oid = insert(
            connection,
            ctx,
            known["RenderingDef"],
            {**values, **place, "pixels": source.id, "quantization": made, "version": 0},
            event,
        )
    for index, channel in enumerate(settings.channels):
        _insert_binding(connection, ctx, channel, {**place, "renderingDef": oid, "renderingDef_index": index}, event)
    settings.id, settings.owner = oid, ctx.user
    return oid


def _insert_binding(connection: sa.Connection, ctx: Context, channel: ChannelSettings, place: dict, event: int) -> None:
    red, green, blue, alpha = channel.color
    oid = insert(
        connection,
        ctx,
        schema()["ChannelBinding"],
        {
            **place,
            "family": _value_id(connection, "Family", channel.family),
            "coefficient": channel.coefficient,
            "inputStart": channel.start,
            "inputEnd": channel.end,
            "active": channel.active,
            "noiseReduction": channel.noise_reduction,
            "red": red,
            "green": green,
            "blue": blue,
            "alpha": alpha,
            "lookupTable": channel.lookup_table,
        },
        event,
    )
    if channel.inverted:
        insert(
            connection,
            ctx,
            schema()["ReverseIntensityContext"],
            {
                "_owner": place["_owner"],
                "_group": place["_group"],
                "channelBinding": oid,
                "channelBinding_index": 0,
                "reverse": True,
            },
            event,
        )


def _remove_bindings(connection: sa.Connection, oid: int) -> None:
    binding, context = schema()["ChannelBinding"].table, schema()["CodomainMapContext"].table
    own = sa.select(binding.c.id).where(binding.c.renderingDef == oid)
    connection.execute(context.delete().where(context.c.channelBinding.in_(own)))
    connection.execute(binding.delete().where(binding.c.renderingDef == oid))


def _value_id(connection: sa.Connection, name: str, value: str) -> int:
    table = schema()[name].table
    found = connection.execute(sa.select(table.c.id).where(table.c.value == value)).scalar()
    if found is None:
        raise refuse(omero.ValidationException, f"{name} has no value {value}.")
    return found
