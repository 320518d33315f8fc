"""The plan that a Snakefile works with, by what Snakemake was asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

from snakemake.logging import logger

from openhcs_omero import password
from openhcs_omero.core.config import check_config, retype
from openhcs_omero.core.failures import lost_server
from openhcs_omero.core.orchestrator.snakemake_faults import Asked, asked, refuse
from openhcs_omero.core.plan import Plan, look, plan_of_runs, prepare, recorded_plan
from openhcs_omero.core.records import read_record
from openhcs_omero.core.summary import summary
from openhcs_omero.errors import ConfigError, OpenHCSError
from openhcs_omero.io.atomic import write_if_changed

LAST_RUN = Path(".snakemake", "openhcs_omero.json")
"""The configuration of the last run in a working directory."""


def plan_of(workflow: Any, config: MutableMapping[str, Any], schema: str) -> Plan:
    """The plan of a configuration; if there is none, Snakemake ends with a sentence that says why.

    A run looks at the plates and prepares them. A dry run looks at them, and changes nothing. Commands that show what
    runs have left, such as ``--report``, go by the configuration of the last run, and need no server.

    Parameters
    ----------
    config
        Snakemake's `config`. Values of ``--config`` get their types, and commands that go by the last run put its
        configuration here.
    schema
        Path of the schema of the configuration.
    """
    password.read()  # out of the environment, also if no plate is in OMERO: jobs must not inherit it
    what, given = asked(workflow), workflow.config_settings.config
    retype(config, given)
    if what in (Asked.RECORDS, Asked.REPORT) and (last := read_record(LAST_RUN, dict[str, Any])):
        chosen = {key: config[key] for key in given if key in config}
        config.clear()
        config.update({**last, **chosen})
    try:
        if what is Asked.JOB:
            return recorded_plan(config)
        check_config(config, Path(schema))
        if what in (Asked.RUN, Asked.PLAN):
            return _run(config) if what is Asked.RUN else look(config)
        plan = plan_of_runs(config)
        if plan.settings.plates or what is Asked.RULES:
            return plan
        if what is Asked.REPORT:
            raise ConfigError("there are no results to report on: run the workflow first")
        return look(config)
    except OpenHCSError as error:
        refuse(str(error))
    except Exception as error:
        if lost := lost_server(error):
            refuse(lost)
        raise


def end_of_run(plan: Plan) -> None:
    """Say what came out of a run whose jobs all ended well; if wells failed, Snakemake's exit code is not 0.

    Parts of a run (``--until`` and the like) leave wells that are not processed, which is no failure.
    """
    text, failed = summary(plan)
    if failed:
        refuse(text)
    logger.info(text)


def end_of_failed_run(plan: Plan) -> None:
    """Say what came out of a run in which jobs failed; Snakemake's exit code is 1 anyway."""
    logger.error(summary(plan)[0])


def _run(config: Mapping[str, Any]) -> Plan:
    plan = look(config, then=prepare)
    write_if_changed(LAST_RUN, json.dumps(config))
    return plan
