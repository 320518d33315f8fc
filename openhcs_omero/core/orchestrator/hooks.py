"""What happens at the start and at the end of a run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence, Set
from typing import Any

from snakemake.logging import logger

from openhcs_omero.core.left_out import LeftOut
from openhcs_omero.core.notify import Channels, message_of
from openhcs_omero.core.orchestrator.jobs import Job
from openhcs_omero.core.orchestrator.live import live_page
from openhcs_omero.core.orchestrator.snakemake_faults import Asked, asked, refuse
from openhcs_omero.core.plan import Plan
from openhcs_omero.core.summary import about_screen, summary


class Hooks:
    """The hooks of a Snakefile. Snakemake calls them in runs, and for ``--touch``, which leaves the page as it is."""

    def __init__(self, workflow: Any, plan: Plan, left_out: LeftOut) -> None:
        self._workflow, self._plan, self._left_out = workflow, plan, left_out
        runs = asked(workflow) is Asked.RUN
        self._page = live_page(workflow, plan) if runs else None
        self._channels = Channels(plan.settings.notify if runs else ())

    def begin(self) -> None:
        """The run has locked its folder, and knows its jobs."""
        self._left_out.forget()
        if self._page is not None:
            self._page.begin(self._outdated())

    def leave_out(self, plates: Set[str], jobs: Sequence[Any]) -> bool:
        """Make the results of the screen without plates whose jobs failed; returns whether that can be done."""
        logs = [Job("failed", job.rule.name, None, job.wildcards_dict.get("well"), job.log, job.output) for job in jobs]
        failed = [job for job in logs if not all(map(os.path.exists, job.output))]
        return self._left_out.add(plates, str((failed or logs)[0]))

    def succeed(self) -> None:
        """Report the outcome of a run whose jobs all succeeded; if wells failed, Snakemake's exit code is not 0.

        A partial run (``--until`` and similar options) leaves some wells unprocessed, which is not a failure.
        """
        self._end(succeeded=True)
        text, failed = summary(self._plan)
        if failed:
            refuse(text)
        logger.info(text)

    def fail(self) -> None:
        """Report the outcome of a run in which jobs failed; Snakemake's exit code is already 1."""
        self._end(succeeded=False)
        about = [summary(self._plan)[0], about_screen(self._plan, self._left_out.failed)]
        logger.error("\n".join(filter(None, about)))

    def _end(self, succeeded: bool) -> None:
        status = self._page.end() if self._page is not None else None
        if status is not None and self._page is not None:
            for sentence in self._channels.send(*message_of(status, succeeded, self._page.path)):
                logger.warning(sentence)

    def _outdated(self) -> Iterator[tuple[str, str]]:
        """(plate, well) of the wells that the run will process."""
        for job in self._workflow.dag.needrun_jobs():
            places = job.wildcards_dict
            if "well" in places and places.get("plate") in self._plan.settings.plates:
                yield places["plate"], places["well"]
