"""Checks of a configuration: its types, its schema, and what no schema can say. Errors are one sentence each."""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

from openhcs_omero.core.command import check_commands
from openhcs_omero.errors import ConfigError
from openhcs_omero.schema import check_schema


def retype(config: MutableMapping[str, Any], given: Mapping[str, Any]) -> None:
    """Convert the values in a configuration that came from `--config` to the types that YAML gives them."""
    for key, value in given.items():
        if isinstance(value, Mapping) and isinstance(config.get(key), MutableMapping):
            retype(config[key], value)
        elif key in config and config[key] == value:
            config[key] = typed(value)


def typed(value: Any) -> Any:
    """Convert a value of `--config` to its YAML type: Snakemake reads the 7 in plates=[7] as text."""
    import yaml

    if isinstance(value, Mapping):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    try:
        meant = yaml.safe_load(value) if isinstance(value, str) else value
    except yaml.YAMLError:
        return value
    return meant if isinstance(meant, bool | int | float | None) else value


def name_keys(config: Mapping[str, Any]) -> None:
    """Give the key `on` of `rois` its name again: YAML 1.1 reads it as true."""
    rois = config.get("rois")
    if isinstance(rois, MutableMapping) and True in rois:
        rois["on"] = rois.pop(True)


def check_config(config: Mapping[str, Any], schema: Path) -> None:
    """Check a configuration against the JSON schema in a YAML file.

    Raises
    ------
    ConfigError
        One sentence about the first error: where it is, what the value is and what is expected.
    """
    import yaml

    check_schema(config, yaml.safe_load(schema.read_text()))
    try:
        json.dumps(config)
    except TypeError as error:
        raise ConfigError(
            f"the configuration and the params of steps can only hold numbers, text, lists and dicts: {error}"
        ) from None
    check_keys(config)
    check_commands(config)
    for number, step in enumerate(config["steps"]):
        if step.get("keep") and "scratch" not in config:
            raise ConfigError(
                f"the configuration's steps[{number}] has `keep: true`, but there is no `scratch`: name the folder for "
                "kept images"
            )


def check_keys(value: Any) -> None:
    """Check that all keys of nested dicts are text: values reach their steps as JSON, which allows no other keys.

    Raises
    ------
    ConfigError
        For the first key that is not text.
    """
    for part in value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ():
        check_keys(part)
    for key in value if isinstance(value, Mapping) else ():
        if not isinstance(key, str):
            raise ConfigError(
                f"the configuration has the key {key!r} in {dict(value)!r}, but keys must be text: write "
                f"'{key}', and convert it in the step"
            )
