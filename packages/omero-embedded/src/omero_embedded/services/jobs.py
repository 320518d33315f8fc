"""JobHandle: there are no jobs, so it can only be closed."""

from __future__ import annotations

from omero_embedded.services.registry import StatefulService, service


@service("::omero::api::JobHandle")
class JobService(StatefulService):
    pass
