"""IRepositoryInfo: disk space."""

from __future__ import annotations

import shutil

from omero_embedded.kernel import Kernel
from omero_embedded.model.access import Context
from omero_embedded.people.sessions import Session
from omero_embedded.services.registry import service


@service("::omero::api::IRepositoryInfo")
class RepositoryInfoService:
    """Describes the disk of the data folder."""

    def __init__(self, kernel: Kernel, session: Session):
        self.folder = kernel.store.folder

    def getUsedSpaceInKilobytes(self, ctx: Context):
        return shutil.disk_usage(self.folder).used // 1024

    def getFreeSpaceInKilobytes(self, ctx: Context):
        return shutil.disk_usage(self.folder).free // 1024

    def getUsageFraction(self, ctx: Context):
        usage = shutil.disk_usage(self.folder)
        return usage.used / usage.total

    def sanityCheckRepository(self, ctx: Context):
        """Do nothing: files are created and removed with their rows."""

    def removeUnusedFiles(self, ctx: Context):
        """Do nothing: files are removed with their rows."""
