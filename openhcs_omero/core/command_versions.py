"""Versions and files of commands: found once by the process that plans a run, and recorded for its jobs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openhcs_omero.core.command import Command, read_command
from openhcs_omero.core.records import read_record
from openhcs_omero.errors import ConfigError
from openhcs_omero.io.atomic import write_if_changed

NAME = "commands.json"


@dataclass(frozen=True)
class _Record:
    """The folder of the configuration file, and the version and files of each command, by position of its step."""

    config_dir: str
    commands: dict[int, dict[str, Any]]


def _commands(config: Mapping[str, Any]) -> Iterator[tuple[int, MutableMapping[str, Any], Command]]:
    folder = Path(config.get("config_dir", "."))
    for position, entry in enumerate(config["steps"], 1):
        if "command" in entry:
            yield position, entry, read_command(entry, folder)


def has_commands(config: Mapping[str, Any]) -> bool:
    """Whether any step of a configuration is a command."""
    return any("command" in entry for entry in config["steps"])


def resolve_commands(config: MutableMapping[str, Any], folder: str) -> None:
    """Write the versions of commands as text into a configuration, and the SHA-256 beside the files they depend on.

    Parameters
    ----------
    config
        The configuration.
    folder
        The folder of the configuration file, which becomes `config_dir` unless the configuration has that key.

    Raises
    ------
    ConfigError
        If a command for a version fails, a file can't be read, or a file has another SHA-256 than the configuration
        says.
    """
    if has_commands(config):
        config.setdefault("config_dir", folder)
    for position, entry, command in _commands(config):
        found = Command(**{**vars(command), "files": dict.fromkeys(command.files)}).resolved()
        for name, expected in command.files.items():
            if expected is not None and expected.lower() != found["files"][name]:
                raise ConfigError(
                    f"step {position} ({command.program}) expects the SHA-256 {expected} of {command.folder / name}, "
                    f"which has {found['files'][name]}: it is another file, or a damaged one"
                )
        entry.update({key: value for key, value in found.items() if value})


def record_commands(config: Mapping[str, Any]) -> None:
    """Record what `resolve_commands` found for the jobs of a run."""
    if has_commands(config):
        commands = {position: command.resolved() for position, _, command in _commands(config)}
        record = {"config_dir": config["config_dir"], "commands": commands}
        write_if_changed(Path(config.get("results", "results")) / NAME, json.dumps(record, indent=1))


def recall_commands(config: MutableMapping[str, Any]) -> None:
    """Write into the configuration of a job what the process that planned the run found."""
    if not has_commands(config):
        return
    record = read_record(Path(config.get("results", "results")) / NAME, _Record)
    if record is None:
        raise ConfigError(
            f"{config.get('results', 'results')} has no usable {NAME}, which a run of the workflow writes: run it first"
        )
    config["config_dir"] = record.config_dir
    for position, found in record.commands.items():
        config["steps"][position - 1].update({key: value for key, value in found.items() if value})
