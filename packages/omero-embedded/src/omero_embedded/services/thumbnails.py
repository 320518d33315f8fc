"""ThumbnailStore: small pictures of images. They are rendered for each call, and not stored."""

from __future__ import annotations

from collections.abc import Callable

import omero
from omero.rtypes import unwrap

from omero_embedded.errors import refuse
from omero_embedded.kernel import Kernel
from omero_embedded.limits import MOST_THUMBNAIL, check, check_bytes
from omero_embedded.model.access import Context
from omero_embedded.people.sessions import Session
from omero_embedded.rendering import pictures, settings
from omero_embedded.services.registry import StatefulService, service

LONGEST, SIZE = 48, 96  # the defaults
QUALITY = 0.85
Size = Callable[[int, int], tuple[int, int]]  # from an image's width and height to its thumbnail's


@service("::omero::api::ThumbnailStore")
class ThumbnailService(StatefulService):
    def __init__(self, kernel: Kernel, session: Session):
        super().__init__(kernel, session)
        self.store, self.schema = kernel.store, kernel.schema
        self._source: settings.PixelsSource | None = None
        self._settings: settings.RenderingSettings | None = None

    def setPixelsId(self, ctx: Context, pixels):
        """Choose the pixels; return whether there are rendering settings for them."""
        with self.store.read() as connection:
            try:
                self._source = settings.load_source(self.store, connection, ctx, pixels)
            except omero.ValidationException as missing:
                raise refuse(omero.ResourceError, missing.message) from None
            self._settings = settings.find_settings(connection, self._source, ctx.user)
        return self._settings is not None

    def setRenderingDefId(self, ctx: Context, oid):
        with self.store.read() as connection:
            self._settings = settings.visible_settings(connection, ctx, self.source, oid)

    def getRenderingDefId(self, ctx: Context):
        if self._settings is None or self._settings.id is None:
            raise refuse(omero.ApiUsageException, "No rendering def")
        return self._settings.id

    def resetDefaults(self, ctx: Context):
        """Save the default settings for the pixels as the caller's."""
        fresh = self.source.defaults()
        with self.store.write() as connection:
            own = settings.find_settings(connection, self.source, ctx.user)
            if own is not None:
                fresh.id, fresh.owner = own.id, own.owner
            settings.save_settings(connection, ctx, self.source, fresh)
        self._settings = fresh

    @property
    def source(self) -> settings.PixelsSource:
        if self._source is None:
            raise refuse(omero.ApiUsageException, "Thumbnail service not ready: Pixels not set.")
        return self._source

    # -- of the chosen pixels ------------------------------------------------------------------------------------

    def getThumbnail(self, ctx: Context, width, height):
        """Render a JPEG of exactly this size."""
        return self._of_chosen(_exactly(width, height))

    getThumbnailDirect = getThumbnail
    getThumbnailWithoutDefault = getThumbnail

    def getThumbnailByLongestSide(self, ctx: Context, size):
        """Render a JPEG in the proportions of the image, whose longer side has this size."""
        return self._of_chosen(_longest(size))

    getThumbnailByLongestSideDirect = getThumbnailByLongestSide

    def getThumbnailForSectionDirect(self, ctx: Context, z, t, width, height):
        return self._of_chosen(_exactly(width, height), (z, t))

    def getThumbnailForSectionByLongestSideDirect(self, ctx: Context, z, t, size):
        return self._of_chosen(_longest(size), (z, t))

    def _of_chosen(self, size: Size, section: tuple[int, int] | None = None) -> bytes:
        if self._settings is None:
            self._settings = self.source.defaults()
        return _thumbnail(self.source, self._settings, size, section)

    # -- of many -------------------------------------------------------------------------------------------------

    def getThumbnailSet(self, ctx: Context, width, height, pixels):
        return self._of_many(ctx, pixels, _exactly(width, height))

    def getThumbnailByLongestSideSet(self, ctx: Context, size, pixels):
        return self._of_many(ctx, pixels, _longest(size))

    def _of_many(self, ctx: Context, pixels: list[int], size: Size) -> dict[int, bytes]:
        """Render thumbnails by the id of the pixels; pixels that the caller doesn't see are left out."""
        made: dict[int, bytes] = {}
        total = 0
        for oid in dict.fromkeys(pixels):
            try:
                with self.store.read() as connection:
                    source = settings.load_source(self.store, connection, ctx, oid)
                    found = settings.find_settings(connection, source, ctx.user)
            except omero.ValidationException:
                continue
            made[oid] = _thumbnail(source, found or source.defaults(), size, None)
            total += len(made[oid])
            check_bytes(total)
        return made

    # -- storage: nothing is stored, so nothing is in progress ------------------------------------------------------

    def isInProgress(self, ctx: Context):
        return False

    def thumbnailExists(self, ctx: Context, width, height):
        return False

    def createThumbnail(self, ctx: Context, width, height):
        self.source  # noqa: B018  (asks for pixels to be chosen)

    def createThumbnails(self, ctx: Context):
        self.source  # noqa: B018

    def createThumbnailsByLongestSideSet(self, ctx: Context, size, pixels):
        """Do nothing: thumbnails are rendered for each call."""


def _thumbnail(
    source: settings.PixelsSource, shown: settings.RenderingSettings, size: Size, section: tuple[int, int] | None
) -> bytes:
    z, t = section or (shown.z, shown.t)
    width, height = size(source.shape[4], source.shape[3])
    check(width * height, MOST_THUMBNAIL, "pixels of a thumbnail")
    return pictures.jpeg(pictures.resize(source.picture(shown, z, t), width, height), QUALITY)


def _exactly(width, height) -> Size:
    asked = tuple(SIZE if side is None else unwrap(side) for side in (width, height))
    if min(asked) < 1:
        raise refuse(omero.ApiUsageException, f"There is no thumbnail of {asked[0]} x {asked[1]} pixels.")
    return lambda *_: (asked[0], asked[1])


def _longest(size) -> Size:
    side = LONGEST if size is None else unwrap(size)
    if side < 1:
        raise refuse(omero.ApiUsageException, f"There is no thumbnail of {side} pixels.")

    def scaled(width: int, height: int) -> tuple[int, int]:
        factor = side / max(width, height)
        return max(1, int(width * factor)), max(1, int(height * factor))

    return scaled
