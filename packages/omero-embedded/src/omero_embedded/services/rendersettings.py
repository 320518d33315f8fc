"""IRenderingSettings: creating, resetting and copying rendering settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import omero
import sqlalchemy as sa

from omero_embedded.errors import refuse
from omero_embedded.kernel import Kernel
from omero_embedded.model import rows
from omero_embedded.model.access import Context
from omero_embedded.people.sessions import Session
from omero_embedded.rendering import settings
from omero_embedded.services.pixels import PixelsService
from omero_embedded.services.registry import service

# The steps from a container to the pixels in it: (table, known column, wanted column).
_PIXELS = ("Pixels", "image", "id")
_SAMPLES = ("WellSample", "well", "image")
_DATASET = (("DatasetImageLink", "parent", "child"), _PIXELS)
_PLATE = (("Well", "plate", "id"), _SAMPLES, _PIXELS)
WAYS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "Pixels": (),
    "Image": (_PIXELS,),
    "Dataset": _DATASET,
    "Project": (("ProjectDatasetLink", "parent", "child"), *_DATASET),
    "Plate": _PLATE,
    "PlateAcquisition": (("WellSample", "plateAcquisition", "image"), _PIXELS),
    "Well": (_SAMPLES, _PIXELS),
    "Screen": (("ScreenPlateLink", "parent", "child"), *_PLATE),
}


@service("::omero::api::IRenderingSettings")
class RenderingSettingsService:
    def __init__(self, kernel: Kernel, session: Session):
        self.kernel, self.session, self.store, self.schema = kernel, session, kernel.store, kernel.schema

    def sanityCheckPixels(self, ctx: Context, source, target):
        """Whether the settings of some pixels fit others: those with as many channels and the same type."""
        with self.store.read() as connection:
            one, other = (
                settings.load_source(self.store, connection, ctx, rows.id_of(pixels) or 0)
                for pixels in (source, target)
            )
        return _fit(one, other)

    def getRenderingSettings(self, ctx: Context, pixels):
        return PixelsService(self.kernel, self.session).retrieveRndSettings(ctx, pixels)

    def createNewRenderingDef(self, ctx: Context, pixels):
        """Save the default settings as new ones of the caller."""
        with self.store.write() as connection:
            source = settings.load_source(self.store, connection, ctx, rows.id_of(pixels) or 0)
            oid = settings.save_settings(connection, ctx, source, source.defaults())
        return PixelsService(self.kernel, self.session).loadRndSettings(ctx, oid)

    # -- back to the defaults ------------------------------------------------------------------------------------

    def resetDefaultsForPixels(self, ctx: Context, pixels):
        self._change(ctx, "Pixels", [pixels], _defaults)

    def resetDefaultsInImage(self, ctx: Context, image):
        self._change(ctx, "Image", [image], _defaults)

    def resetDefaultsInDataset(self, ctx: Context, dataset):
        return self._change(ctx, "Dataset", [dataset], _defaults)

    def resetDefaultsInSet(self, ctx: Context, kind, ids):
        """Reset the settings of images to the defaults, and return the ids of these images."""
        return self._change(ctx, kind, ids, _defaults)

    def resetMinMaxInSet(self, ctx: Context, kind, ids):
        """Set the windows of channels to their whole range, and keep the other settings."""
        return self._change(ctx, kind, ids, _whole_range)

    setOriginalSettingsForPixels = resetDefaultsForPixels
    setOriginalSettingsInImage = resetDefaultsInImage
    setOriginalSettingsInDataset = resetDefaultsInDataset
    setOriginalSettingsInSet = resetDefaultsInSet

    def resetDefaultsByOwnerInSet(self, ctx: Context, kind, ids):
        """Replace the caller's settings with those of the images' owners."""
        return self._change(
            ctx, kind, ids, lambda connection, source: settings.find_settings(connection, source, source.owner)
        )

    # -- copies --------------------------------------------------------------------------------------------------

    def applySettingsToSet(self, ctx: Context, source, kind, ids):
        """Copy settings to images. Return image ids: under True those that were set, under False the others."""
        with self.store.read() as connection:
            origin = settings.load_source(self.store, connection, ctx, source)
            given = settings.find_settings(connection, origin, ctx.user) or origin.defaults()
            images = self._images(connection, self._pixels(connection, kind, ids))

        def copied(_connection: sa.Connection, target: settings.PixelsSource) -> settings.RenderingSettings | None:
            if not _fit(origin, target):
                return None
            return replace(
                given, id=None, owner=None, z=min(given.z, target.shape[2] - 1), t=min(given.t, target.shape[0] - 1)
            )

        done = self._change(ctx, kind, ids, copied)
        return {True: done, False: [image for image in images if image not in done]}

    def applySettingsToProject(self, ctx: Context, source, project):
        return self.applySettingsToSet(ctx, source, "Project", [project])

    def applySettingsToDataset(self, ctx: Context, source, dataset):
        return self.applySettingsToSet(ctx, source, "Dataset", [dataset])

    def applySettingsToImages(self, ctx: Context, source, images):
        return self.applySettingsToSet(ctx, source, "Image", images)

    def applySettingsToImage(self, ctx: Context, source, image):
        return not self.applySettingsToSet(ctx, source, "Image", [image])[False]

    def applySettingsToPixels(self, ctx: Context, source, pixels):
        return not self.applySettingsToSet(ctx, source, "Pixels", [pixels])[False]

    # -- inner ---------------------------------------------------------------------------------------------------

    def _change(
        self,
        ctx: Context,
        kind: str,
        ids: list[int],
        make: Callable[[sa.Connection, settings.PixelsSource], settings.RenderingSettings | None],
    ) -> list[int]:
        """Save new settings for all pixels in containers, and return the ids of the images that got settings."""
        with self.store.write() as connection:
            done = []
            for pixels in self._pixels(connection, kind, ids):
                source = settings.load_source(self.store, connection, ctx, pixels)
                fresh = make(connection, source)
                if fresh is None:
                    continue
                own = settings.find_settings(connection, source, ctx.user)
                fresh.id, fresh.owner = (own.id, own.owner) if own else (None, None)
                settings.save_settings(connection, ctx, source, fresh)
                done.append(pixels)
            return self._images(connection, done)

    def _pixels(self, connection: sa.Connection, kind: str, ids: list[int]) -> list[int]:
        entity = self.schema.find(kind or "")
        if entity is None or entity.name not in WAYS:
            raise refuse(
                omero.ApiUsageException, f"{kind} contains no rendering settings: use one of {', '.join(WAYS)}."
            )
        for name, known, wanted in WAYS[entity.name]:
            columns = self.schema[name].table.c
            ids = list(
                connection.execute(
                    sa.select(columns[wanted]).where(rows.among(columns[known], ids)).order_by(columns.id)
                ).scalars()
            )
        return list(dict.fromkeys(ids))

    def _images(self, connection: sa.Connection, pixels: list[int]) -> list[int]:
        columns = self.schema["Pixels"].table.c
        found = connection.execute(sa.select(columns.image).where(rows.among(columns.id, pixels)).order_by(columns.id))
        return list(dict.fromkeys(found.scalars()))


def _defaults(_connection: sa.Connection, source: settings.PixelsSource) -> settings.RenderingSettings:
    return source.defaults()


def _whole_range(connection: sa.Connection, source: settings.PixelsSource) -> settings.RenderingSettings:
    fresh = source.defaults()
    kept = settings.find_settings(connection, source, source.owner) or fresh
    for channel, default in zip(kept.channels, fresh.channels):
        channel.start, channel.end = default.start, default.end
    return kept


def _fit(one: settings.PixelsSource, other: settings.PixelsSource) -> bool:
    return one.kind == other.kind and one.shape[1] == other.shape[1]
