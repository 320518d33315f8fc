"""How results were made: a short note on everything that a run writes, and a full description in run.yaml."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import yaml

from openhcs_omero.core.config import Settings, Step
from openhcs_omero.core.failures import Failure
from openhcs_omero.core.steps.loading import load_step
from openhcs_omero.core.steps.source import step_record
from openhcs_omero.version import __version__

RUN_VARIABLE = "OPENHCS_OMERO_RUN"
BEGUN_VARIABLE = "OPENHCS_OMERO_BEGUN"


def begin_run() -> None:
    """Set the id and the start time of this run in the environment, where its jobs find them."""
    os.environ.setdefault(RUN_VARIABLE, uuid.uuid4().hex)
    os.environ.setdefault(BEGUN_VARIABLE, _now())


def marks(settings: Settings) -> dict[str, str]:
    """The notes for everything that is written: the run, the version of the code and a hash of the configuration."""
    what = [settings.output, settings.wells, [[s.call, s.name, s.channels, s.params] for s in settings.steps]]
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    return {"run": os.environ.get(RUN_VARIABLE, "unknown"), "version": __version__, "config": digest[:16]}


def step_marks(settings: Settings) -> dict[str, str]:
    """The notes on a derived plate, meant for people: each step with its channels and params."""
    notes = {}
    for step in settings.steps:
        given = ", ".join(f"{name}={value!r}" for name, value in step.keywords().items())
        notes[f"step {step.position}"] = f"{step.call}({given})" + (f" as {step.name}" if step.name else "")
    return notes


def describe_run(
    config: Mapping[str, Any],
    settings: Settings,
    label: str,
    server: str | None,
    wells: Sequence[str],
    failures: Sequence[Failure],
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Describe how a plate's results were made: the content of run.yaml.

    Parameters
    ----------
    config
        The configuration that was used.
    settings
        The settings read from it.
    label
        Label of the plate.
    server
        Version of the OMERO server; None for results in a folder.
    wells
        The wells that have results.
    failures
        The wells that failed.
    notes
        Sentences about what was filled or left out, and about what is not in OMERO as it is in the tables.
    """
    versions = {"openhcs_omero": __version__, "snakemake": version("snakemake"), "python": platform.python_version()}
    if server:
        versions["omero_server"] = server
    about = {
        "run": os.environ.get(RUN_VARIABLE, "unknown"),
        "begun": os.environ.get(BEGUN_VARIABLE),
        "finished": _now(),
        "plate": settings.plates[label],
        "output": settings.output,
        "versions": versions,
        "steps": [_step(step) for step in settings.steps],
        "notes": list(notes),
        "wells": {"processed": list(wells), "failed": [asdict(failure) for failure in failures]},
        "configuration": config,
    }
    described: dict[str, Any] = json.loads(json.dumps(about))
    return described


def _step(step: Step) -> dict[str, Any]:
    """The record of a step. For a command, its program and version stand where others have distributions."""
    record = step_record(step, load_step(step))
    if step.command is not None and record["params"]["version"]:
        record["distributions"] = {step.command.program: record["params"]["version"]}
    return record


def as_yaml(run: Mapping[str, Any]) -> str:
    """Format a description of a run as YAML."""
    return yaml.safe_dump(run, sort_keys=False, allow_unicode=True, width=120)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
