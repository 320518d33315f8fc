"""The plan for a Snakefile, depending on what Snakemake was asked to do."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

from openhcs_omero import password
from openhcs_omero.core.command_versions import recall_commands, record_commands, resolve_commands
from openhcs_omero.core.config import read_config
from openhcs_omero.core.config_check import check_config, name_keys, retype
from openhcs_omero.core.failures import lost_server
from openhcs_omero.core.inspection import look, prepare
from openhcs_omero.core.notify import Channels
from openhcs_omero.core.orchestrator.live import web_of
from openhcs_omero.core.orchestrator.locks import check_lock
from openhcs_omero.core.orchestrator.snakemake_faults import Asked, asked, ignores_locks, refuse
from openhcs_omero.core.plan import LAST_RUN, Plan, plan_of_runs, recorded_plan, with_whole_results
from openhcs_omero.core.progress import status_of_results
from openhcs_omero.core.records import read_record
from openhcs_omero.core.run_page import about_html, report_html
from openhcs_omero.core.selection import choose_plates, recall_plates, record_plates, selects
from openhcs_omero.errors import ConfigError, OpenHCSError, not_written
from openhcs_omero.io.atomic import write_if_changed


def plan_of(workflow: Any, config: MutableMapping[str, Any], schema: str) -> Plan:
    """Make the plan for a configuration; if that fails, end Snakemake with a sentence that says why.

    A run inspects the plates and prepares them. A dry run inspects them and changes nothing. Commands that show the
    results of earlier runs, such as ``--report``, use the configuration of the last run and need no server.

    Parameters
    ----------
    workflow
        Snakemake's `workflow`.
    config
        Snakemake's `config`, which is updated: values from ``--config`` are converted to their YAML types, and commands
        that use the last run replace it by the configuration of that run.
    schema
        Path of the schema of the configuration.
    """
    password.read()  # removes it from the environment even if no plate is in OMERO: jobs must not inherit it
    what, given = asked(workflow), workflow.config_settings.config
    retype(config, given)
    name_keys(config)
    if what in (Asked.RECORDS, Asked.REPORT) and (last := read_record(LAST_RUN, dict[str, Any])):
        chosen = {key: config[key] for key in given if key in config}
        config.clear()
        config.update({**last, **chosen})
    with one_sentence():
        if what is Asked.JOB:
            recall_plates(config)
            recall_commands(config)
            return recorded_plan(config)
        check_config(config, Path(schema))
        if what is Asked.RUN:
            return _run(config, folder_of_config(workflow))
        if what is not Asked.PLAN and (not selects(config) or recall_plates(config)):
            plan = plan_of_runs(config)
            if what is Asked.REPORT and plan.settings.plates:
                # for the description of the workflow
                config["summary_page"] = report_html(status_of_results(plan), web_of(plan.settings), about_html(plan))
                plan = with_whole_results(plan)
            if plan.settings.plates or what is Asked.RULES:
                return plan
        if what is Asked.REPORT:
            raise ConfigError("there are no results to report on: run the workflow until a plate is published")
        if what is Asked.RULES:
            return plan_of_runs({**config, "plates": []})
        choose_plates(config)
        resolve_commands(config, folder_of_config(workflow))
        return look(config)


@contextlib.contextmanager
def one_sentence() -> Iterator[None]:
    """End Snakemake with one sentence about an error that a user can do something about."""
    try:
        yield
    except OpenHCSError as error:
        refuse(str(error))
    except Exception as error:
        if sentence := lost_server(error) or not_written(error):
            refuse(sentence)
        raise


def folder_of_config(workflow: Any) -> str:
    """The folder of the configuration file that was given, or else of the workflow's own."""
    given = workflow.config_settings.configfiles or workflow.configfiles
    return os.path.dirname(os.path.abspath(given[-1])) if given else os.getcwd()


def _run(config: MutableMapping[str, Any], folder: str) -> Plan:
    asked_for = choose_plates(config)
    if not ignores_locks():
        settings = read_config(config)
        check_lock(map(settings.folder, settings.plates))
    Channels(read_config(config).notify)  # a missing address is reported before anything runs
    resolve_commands(config, folder)
    plan = look(config, then=prepare)
    record_commands(config)
    record_plates(plan.settings.results, asked_for, config["plates"])
    write_if_changed(LAST_RUN, json.dumps(config))
    return plan
