"""IScript: this server has no scripts and can't run any."""

from __future__ import annotations

import omero

from omero_embedded.errors import refuse
from omero_embedded.kernel import Kernel
from omero_embedded.model.access import Context
from omero_embedded.people.sessions import Session
from omero_embedded.services.registry import service


@service("::omero::api::IScript")
class ScriptService:
    """Answers clients that list scripts and lookup tables with empty lists; the rest is unsupported."""

    def __init__(self, kernel: Kernel, session: Session):
        pass

    def getScripts(self, ctx: Context):
        return []

    def getUserScripts(self, ctx: Context, accepts):
        return []

    def getScriptsByMimetype(self, ctx: Context, mimetype):
        return []

    def getScriptID(self, ctx: Context, path):
        return -1

    def getScriptWithDetails(self, ctx: Context, script):
        return {}

    def canRunScript(self, ctx: Context, script):
        return False

    def getParams(self, ctx: Context, script):
        return None

    def getScriptText(self, ctx: Context, script):
        return ""

    def deleteScript(self, ctx: Context, script):
        raise refuse(omero.ApiUsageException, f"No script with id {script} on server.")
