"""A campaign: a workflow in which each plate is a run of its own, in a folder of its own, for thousands of plates.

Snakemake runs the plates, so many at the same time as it has cores, and remembers which are done.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping, MutableMapping, Sequence, Set
from pathlib import Path
from typing import Any

from snakemake.logging import logger

from openhcs_omero import password
from openhcs_omero.core import run_page
from openhcs_omero.core.config import IN_OMERO, read_config
from openhcs_omero.core.config_check import check_config, name_keys, retype
from openhcs_omero.core.inspection import connect_head
from openhcs_omero.core.orchestrator.campaign_page import RESULTS, CampaignPage
from openhcs_omero.core.orchestrator.live import web_of
from openhcs_omero.core.orchestrator.locks import check_lock
from openhcs_omero.core.orchestrator.planning import folder_of_config, one_sentence
from openhcs_omero.core.orchestrator.snakefile import find_profile, find_workflow
from openhcs_omero.core.orchestrator.snakemake_faults import Asked, asked, ignores_locks
from openhcs_omero.core.plan import LAST_RUN
from openhcs_omero.core.selection import choose_plates
from openhcs_omero.core.state import digest_of
from openhcs_omero.io.atomic import write_if_changed
from openhcs_omero.plates.paths import in_s3, plate_of

RUNS = Path("runs")
LIMITS = {"omero": 50, "jobs": 100, "submissions": 200}
"""What all runs may do together on a cluster: jobs that talk to OMERO, jobs in the queue, submissions in an hour."""

SCRIPT = """\
exec 9> {0}
flock --nonblock 9 || {{ echo "another run of this plate is active: wait for it"; exit 1; }}
if ls {1}/* > /dev/null 2>&1; then {command} --unlock; fi  # an earlier run was killed
exec {command}
"""
"""The shell script of a plate's run. The processes of a run hold the file that it locks until the last one ends."""


class Campaign:
    """The runs of a campaign.

    Parameters
    ----------
    workflow, config
        Snakemake's; the configuration is that of the workflow. `profile`, the Snakemake profile of the runs, is taken
        from it; without it, each run has one core of this machine.
    """

    def __init__(self, workflow: Any, config: MutableMapping[str, Any]) -> None:
        self._workflow = workflow
        password.read()  # the runs join the session of this process
        retype(config, workflow.config_settings.config)
        name_keys(config)
        self._profile, self._at_once = config.pop("profile", None), max(1, workflow.resource_settings.cores or 1)
        with one_sentence():
            check_config(config, find_workflow() / "workflow" / "schemas" / "config.schema.yaml")
            if asked(workflow) is Asked.RUN and not ignores_locks():
                check_lock([RUNS])  # before anything changes the configurations of its runs
            choose_plates(config)
            settings = read_config(config)
            if settings.in_omero and asked(workflow) is Asked.RUN:
                connect_head(settings.server())
            common = {"config_dir": folder_of_config(workflow), **config, "results": "results"}
            entries = zip(settings.plates, config["plates"])
            self.configs = {label: _absolute({**common, "plates": [entry]}) for label, entry in entries}
            self._failed: set[str] = set()
            self._settings = settings
            self._page = CampaignPage(RUNS, list(self.configs), web_of(settings))
            if asked(workflow) is Asked.RUN:
                write_if_changed(LAST_RUN, json.dumps({**config, "results": str(RUNS)}))  # for `openhcs-omero status`
                for label, own in self.configs.items():
                    write_if_changed(self._configfile(label), json.dumps(own, indent=1))
                    write_if_changed(self.script(label), self._command(label))

    def begin(self) -> None:
        """The campaign has locked its folder."""
        due = (job.wildcards_dict.get("plate") for job in self._workflow.dag.needrun_jobs())
        self._page.begin({plate for plate in due if plate})

    def end(self) -> None:
        """The campaign ends; Snakemake has said what failed."""
        try:
            self._page.end()
        except OSError as error:  # a full disk, for instance, must not hide what the campaign did
            logger.warning(f"The page of the campaign could not be written: {error}")
        logger.info(f"Page: {RUNS / run_page.NAME}")

    @property
    def successful(self) -> list[str]:
        """The plates whose runs have not failed."""
        return [plate for plate in self.configs if plate not in self._failed]

    def leave_out(self, plates: Set[str], _jobs: Sequence[Any]) -> bool:
        """Gather the wells of all plates without waiting for these; returns whether there is anything to gather."""
        self._failed |= plates
        return bool(self.successful or self.tables)

    @property
    def tables(self) -> list[str]:
        """The table of wells of each plate that is done, also of those with failed wells."""
        left_out = self.left_out
        folders = {plate: RUNS / plate / RESULTS / self._settings.folder(plate).name for plate in self.configs}
        return [
            str(folder / self._settings.screen_source) for plate, folder in folders.items() if plate not in left_out
        ]

    @property
    def left_out(self) -> Mapping[str, str]:
        """Why plates have no table: their runs have not published one."""
        why = {}
        for plate in self.configs:
            status = self._page.plate(plate)
            if status.published is None:
                why[plate] = status.problem or f"its run did not come to its end: see {RUNS / plate / 'run.log'}"
        return why

    def script(self, plate: str) -> Path:
        """The shell script of a plate's run."""
        return RUNS / plate / "run.sh"

    def record(self, plate: str) -> str:
        """A value that changes if the configuration of a plate's run does."""
        return digest_of(self.configs[plate])

    def _configfile(self, plate: str) -> Path:
        return RUNS / plate / "config.json"

    def _command(self, plate: str) -> str:
        if self._profile is None:
            options = ["--cores", "1"]
        else:
            omero, jobs, submissions = (max(1, limit // self._at_once) for limit in LIMITS.values())
            options = ["--profile", str(find_profile(self._profile)), "--workflow-profile", "none"]
            options += ["--resources", f"omero={omero}", "--jobs", str(jobs)]
            options += ["--max-jobs-per-timespan", f"{submissions}/1h"]
        paths = os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")]))
        words = [
            *("env", f"PYTHONPATH={paths}", sys.executable, "-m", "snakemake"),
            *("--snakefile", str(find_workflow() / "Snakefile"), "--directory", str(RUNS / plate)),
            *("--replace-workflow-config", "--configfile", str(self._configfile(plate).resolve())),
            *("--keep-going", "--rerun-incomplete", *options),
        ]
        active, locks = RUNS / plate / "active", RUNS / plate / ".snakemake" / "locks"
        return SCRIPT.format(*map(shlex.quote, map(str, (active, locks))), command=shlex.join(words))


def _absolute(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration whose paths do not depend on the folder of the run."""
    [entry] = config["plates"]
    changed = {**config}
    if isinstance(entry, Mapping):
        changed["plates"] = [_with_paths({**entry, "path": _place(entry["path"])})]
    else:
        changed["plates"] = [_place(entry)]
    if "ca" in (config.get("omero") or {}):
        changed["omero"] = {**config["omero"], "ca": os.path.abspath(config["omero"]["ca"])}
    return _with_paths(changed)


def _with_paths(config: Mapping[str, Any]) -> dict[str, Any]:
    given = config.get("plate_map")
    return {**config, **({"plate_map": os.path.abspath(given)} if given not in (None, IN_OMERO) else {})}


def _place(path: int | str) -> int | str:
    return path if plate_of(path) or in_s3(str(path)) else os.path.abspath(os.path.expanduser(str(path)))
