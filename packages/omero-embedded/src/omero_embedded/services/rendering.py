"""RenderingEngine: the settings of one image, and pictures of its planes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import omero
import omero.romio
import sqlalchemy as sa
from omero.rtypes import unwrap

from omero_embedded.errors import refuse
from omero_embedded.files.pyramids import LEVELS, TILE, choose_level, is_pyramid, level_sizes
from omero_embedded.kernel import Kernel
from omero_embedded.model.access import Context
from omero_embedded.model.loading import Loader
from omero_embedded.people.sessions import Session
from omero_embedded.rendering import pictures, settings
from omero_embedded.rendering.pictures import ChannelSettings, RenderingSettings
from omero_embedded.services.pixels import PixelsService
from omero_embedded.services.registry import StatefulService, service

COMPRESSION = 0.85
RESOLUTIONS = [2**bits - 1 for bits in range(1, 9)]
METHODS = {"MAXIMUMINTENSITY": "maximum", "MEANINTENSITY": "mean", "SUMINTENSITY": "sum"}


@service("::omero::api::RenderingEngine")
class RenderingService(StatefulService):
    """Clients call lookupPixels, lookupRenderingDef or loadRenderingDef, and load; then they ask for pictures."""

    def __init__(self, kernel: Kernel, session: Session):
        super().__init__(kernel, session)
        self.store, self.schema = kernel.store, kernel.schema
        self._source: settings.PixelsSource | None = None
        self._settings: RenderingSettings | None = None
        self._quality = COMPRESSION
        self._level = 0  # of a pyramid; level 0 has the whole planes

    # -- opening -------------------------------------------------------------------------------------------------

    def lookupPixels(self, ctx: Context, pixels):
        with self.store.read() as connection:
            self._source = settings.load_source(self.store, connection, ctx, pixels)
        self._settings, self._level = None, 0

    def lookupRenderingDef(self, ctx: Context, pixels):
        """Choose the caller's settings, or those of the pixels' owner; return whether there are any."""
        with self.store.read() as connection:
            self._settings = settings.find_settings(connection, self.source, ctx.user)
        return self._settings is not None

    def loadRenderingDef(self, ctx: Context, oid):
        with self.store.read() as connection:
            self._settings = settings.visible_settings(connection, ctx, self.source, oid)

    def load(self, ctx: Context):
        self.shown  # noqa: B018  (asks for settings to be chosen)

    @property
    def source(self) -> settings.PixelsSource:
        if self._source is None:
            raise refuse(omero.ApiUsageException, "RenderingEngine not ready: Pixels object not set.")
        return self._source

    @property
    def shown(self) -> RenderingSettings:
        """Return the current settings."""
        self.source  # noqa: B018
        if self._settings is None:
            raise refuse(omero.ApiUsageException, "RenderingEngine not ready: RenderingDef object not set.")
        return self._settings

    def _channel(self, index: int) -> ChannelSettings:
        if not 0 <= index < len(self.shown.channels):
            raise refuse(omero.ApiUsageException, f"There is no channel {index}.")
        return self.shown.channels[index]

    def getRenderingDefId(self, ctx: Context):
        if self._settings is None or self._settings.id is None:
            raise refuse(omero.ApiUsageException, "No rendering def")
        return self._settings.id

    def getPixels(self, ctx: Context):
        return PixelsService(self.kernel, self.session).retrievePixDescription(ctx, self.source.id)

    # -- pictures ------------------------------------------------------------------------------------------------

    def renderCompressed(self, ctx: Context, plane):
        return pictures.jpeg(self._picture(plane), self._quality)

    def renderAsPackedInt(self, ctx: Context, plane):
        return pictures.packed(self._picture(plane))

    def render(self, ctx: Context, plane):
        picture = self._picture(plane)
        return omero.romio.RGBBuffer(
            [picture[..., band].tobytes() for band in range(3)], picture.shape[1], picture.shape[0]
        )

    def renderProjectedCompressed(self, ctx: Context, method, t, step, start, end):
        return pictures.jpeg(self._projection(method, t, step, start, end), self._quality)

    def renderProjectedAsPackedInt(self, ctx: Context, method, t, step, start, end):
        return pictures.packed(self._projection(method, t, step, start, end))

    def _picture(self, plane) -> np.ndarray:
        """Render a PlaneDef as (height, width, 3); of an XY plane, its region clipped to the plane."""
        if plane.slice in (omero.romio.XZ, omero.romio.ZY):
            axis, place = (1, plane.y) if plane.slice == omero.romio.XZ else (2, plane.x)
            return self.source.cut(self.shown, axis, place, plane.t)
        if plane.slice != omero.romio.XY:
            raise refuse(omero.ApiUsageException, f"Wrong slice identifier: {plane.slice}.")
        picture = self.source.picture(self.shown, plane.z, plane.t, self._level)
        region = plane.region
        if region is None:
            return picture
        if min(region.x, region.y) < 0 or min(region.width, region.height) < 1:
            raise refuse(
                omero.ApiUsageException,
                f"There is no region of {region.width} x {region.height} at {region.x}, {region.y}.",
            )
        part = picture[region.y : region.y + region.height, region.x : region.x + region.width]
        if not part.size:
            raise refuse(omero.InternalException, f"The region at {region.x}, {region.y} is not within the plane.")
        return np.ascontiguousarray(part)

    def _projection(self, method, t: int, step: int, start: int, end: int) -> np.ndarray:
        return self.source.projection(self.shown, METHODS[method.name], t, start, end, step)

    def setCompressionLevel(self, ctx: Context, quality):
        self._quality = quality

    def getCompressionLevel(self, ctx: Context):
        return self._quality

    def setOverlays(self, ctx: Context, table, image, colors):
        raise refuse(omero.ApiUsageException, "Overlays are not drawn here.")

    # -- what is shown -------------------------------------------------------------------------------------------

    def getModel(self, ctx: Context):
        return self._enumeration(ctx, "RenderingModel", self.shown.model)

    def setModel(self, ctx: Context, model):
        self.shown.model = self._value(ctx, "RenderingModel", model)

    def getDefaultZ(self, ctx: Context):
        return self.shown.z

    def setDefaultZ(self, ctx: Context, z):
        self.shown.z = z

    def getDefaultT(self, ctx: Context):
        return self.shown.t

    def setDefaultT(self, ctx: Context, t):
        self.shown.t = t

    def getAvailableModels(self, ctx: Context):
        return self._enumerations(ctx, "RenderingModel")

    def getAvailableFamilies(self, ctx: Context):
        return self._enumerations(ctx, "Family")

    def setQuantumStrategy(self, ctx: Context, resolution):
        if resolution not in RESOLUTIONS:
            raise refuse(omero.ApiUsageException, f"Unsupported bit resolution: {resolution}.")
        self.shown.resolution = resolution

    def setCodomainInterval(self, ctx: Context, start, end):
        if not 0 <= start < end <= pictures.DEPTH:
            raise refuse(omero.ApiUsageException, f"The codomain {start} to {end} is not within 0 to 255.")
        self.shown.cd_start, self.shown.cd_end = start, end

    def getQuantumDef(self, ctx: Context):
        made = omero.model.QuantumDefI()
        made.cdStart, made.cdEnd = omero.rtypes.rint(self.shown.cd_start), omero.rtypes.rint(self.shown.cd_end)
        made.bitResolution = omero.rtypes.rint(self.shown.resolution)
        return made

    # -- channels ------------------------------------------------------------------------------------------------

    def setActive(self, ctx: Context, index, active):
        self._channel(index).active = active

    def isActive(self, ctx: Context, index):
        return self._channel(index).active

    def setChannelWindow(self, ctx: Context, index, start, end):
        channel = self._channel(index)
        if not start <= end:
            raise refuse(omero.ApiUsageException, f"A window can't begin at {start} and end at {end}.")
        channel.start, channel.end = start, end

    def getChannelWindowStart(self, ctx: Context, index):
        return self._channel(index).start

    def getChannelWindowEnd(self, ctx: Context, index):
        return self._channel(index).end

    def setRGBA(self, ctx: Context, index, red, green, blue, alpha):
        if not all(0 <= part <= pictures.DEPTH for part in (red, green, blue, alpha)):
            raise refuse(omero.ApiUsageException, "The parts of a color are from 0 to 255.")
        self._channel(index).color = (red, green, blue, alpha)

    def getRGBA(self, ctx: Context, index):
        return list(self._channel(index).color)

    def setQuantizationMap(self, ctx: Context, index, family, coefficient, noise_reduction):
        channel = self._channel(index)
        channel.family = self._value(ctx, "Family", family)
        channel.coefficient, channel.noise_reduction = coefficient, noise_reduction

    def getChannelFamily(self, ctx: Context, index):
        return self._enumeration(ctx, "Family", self._channel(index).family)

    def getChannelCurveCoefficient(self, ctx: Context, index):
        return self._channel(index).coefficient

    def getChannelNoiseReduction(self, ctx: Context, index):
        return self._channel(index).noise_reduction

    def getChannelStats(self, ctx: Context, index):
        self._channel(index)
        return list(self.source.statistics[index] or pictures.type_range(self.source.kind))

    def setChannelLookupTable(self, ctx: Context, index, name):
        self._channel(index).lookup_table = name or None  # Ice makes an empty string of null

    def getChannelLookupTable(self, ctx: Context, index):
        return self._channel(index).lookup_table

    def addCodomainMapToChannel(self, ctx: Context, context, index):
        if isinstance(context, omero.romio.ReverseIntensityMapContext):
            self._channel(index).inverted = True

    def removeCodomainMapFromChannel(self, ctx: Context, context, index):
        if isinstance(context, omero.romio.ReverseIntensityMapContext):
            self._channel(index).inverted = False

    def addCodomainMap(self, ctx: Context, context):
        for index in range(len(self.shown.channels)):
            self.addCodomainMapToChannel(ctx, context, index)

    def removeCodomainMap(self, ctx: Context, context):
        for index in range(len(self.shown.channels)):
            self.removeCodomainMapFromChannel(ctx, context, index)

    def updateCodomainMap(self, ctx: Context, context):
        """Do nothing: a reversed intensity has no parameters."""

    def getCodomainMapContext(self, ctx: Context, index):
        return [omero.model.ReverseIntensityContextI()] if self._channel(index).inverted else []

    def updateSettings(self, ctx: Context, given):
        """Take over what is set in a RenderingDef, and leave the rest as it is."""
        if given is None:
            return
        quantum = given.quantization
        self._apply(ctx, self.setModel, given.model)
        self._apply(ctx, self.setDefaultZ, unwrap(given.defaultZ))
        self._apply(ctx, self.setDefaultT, unwrap(given.defaultT))
        if quantum is not None and quantum.isLoaded():
            self._apply(ctx, self.setQuantumStrategy, unwrap(quantum.bitResolution))
            self._apply(ctx, self.setCodomainInterval, unwrap(quantum.cdStart), unwrap(quantum.cdEnd))
        for index, one in enumerate(given.copyWaveRendering()[: len(self.shown.channels)]):
            if one is not None:
                self._update_channel(ctx, index, one)

    def _update_channel(self, ctx: Context, index: int, given) -> None:
        self._apply(ctx, self.setActive, index, unwrap(given.active))
        self._apply(ctx, self.setChannelWindow, index, unwrap(given.inputStart), unwrap(given.inputEnd))
        curve = (given.family, unwrap(given.coefficient), unwrap(given.noiseReduction))
        self._apply(ctx, self.setQuantizationMap, index, *curve)
        color = (unwrap(one) for one in (given.red, given.green, given.blue, given.alpha))
        self._apply(ctx, self.setRGBA, index, *color)
        self._apply(ctx, self.setChannelLookupTable, index, unwrap(given.lookupTable))
        for one in given.copySpatialDomainEnhancement():
            if isinstance(one, omero.model.ReverseIntensityContext):
                self._channel(index).inverted = True

    @staticmethod
    def _apply(ctx: Context, change: Callable, *values) -> None:
        """Change something, if all of its values are given."""
        if None not in values:
            change(ctx, *values)

    # -- keeping -------------------------------------------------------------------------------------------------

    def saveCurrentSettings(self, ctx: Context):
        with self.store.write() as connection:
            settings.save_settings(connection, ctx, self.source, self.shown)

    def saveAsNewSettings(self, ctx: Context):
        self.shown.id = None
        with self.store.write() as connection:
            return settings.save_settings(connection, ctx, self.source, self.shown)

    def resetDefaultSettings(self, ctx: Context, save):
        """Return to the default settings. Return the id of the saved settings; 0 if they are not saved."""
        fresh = self.source.defaults()
        with self.store.read() as connection:
            own = settings.find_settings(connection, self.source, ctx.user)
        if own is not None:
            fresh.id, fresh.owner = own.id, own.owner
        self._settings = fresh
        if not save:
            return 0
        with self.store.write() as connection:
            return settings.save_settings(connection, ctx, self.source, fresh)

    # -- the pixels ----------------------------------------------------------------------------------------------

    def isPixelsTypeSigned(self, ctx: Context):
        return not self.source.kind.startswith(("uint", "bit"))

    def getPixelsTypeUpperBound(self, ctx: Context, index):
        return pictures.type_range(self.source.kind)[1]

    def getPixelsTypeLowerBound(self, ctx: Context, index):
        return pictures.type_range(self.source.kind)[0]

    def requiresPixelsPyramid(self, ctx: Context):
        return is_pyramid(*self.source.shape[:2:-1])

    def getResolutionLevels(self, ctx: Context):
        return LEVELS if self.requiresPixelsPyramid(ctx) else 1

    def getResolutionLevel(self, ctx: Context):
        return self.getResolutionLevels(ctx) - 1 - self._level

    def setResolutionLevel(self, ctx: Context, level):
        self._level = choose_level(level, self.getResolutionLevels(ctx))

    def getResolutionDescriptions(self, ctx: Context):
        sizes = level_sizes(*self.source.shape[:2:-1])[: self.getResolutionLevels(ctx)]
        return [omero.api.ResolutionDescription(width, height) for width, height in sizes]

    def getTileSize(self, ctx: Context):
        height, width = self.source.shape[3:]
        return [TILE, TILE] if self.requiresPixelsPyramid(ctx) else [width, height]

    # -- enumerations --------------------------------------------------------------------------------------------

    def _enumerations(self, ctx: Context, name: str) -> list:
        entity = self.schema[name]
        with self.store.read() as connection:
            ids = connection.execute(sa.select(entity.table.c.id).order_by(entity.table.c.id)).scalars().all()
            return list(Loader(connection, ctx).get(entity, ids).values())

    def _enumeration(self, ctx: Context, name: str, value: str):
        return next(one for one in self._enumerations(ctx, name) if one.value.val == value)

    def _value(self, ctx: Context, name: str, given) -> str:
        """Return the value of an enumeration object that a client sent, loaded or not."""
        if given is not None:
            for one in self._enumerations(ctx, name):
                if one.id.val == (given.id.val if given.id is not None else None) or (
                    given.isLoaded() and given.value is not None and given.value.val == one.value.val
                ):
                    return one.value.val
        raise refuse(omero.ApiUsageException, f"That is not a {name}.")
