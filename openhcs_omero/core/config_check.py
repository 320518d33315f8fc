"""Checks of a configuration: its types, its schema, and what no schema can say. Errors are one sentence each."""

from __future__ import annotations

import difflib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from openhcs_omero.core.command import check_commands
from openhcs_omero.errors import ConfigError, brief

LOOKED_AT = 50  # collect at most this many errors; the first one, by its place, is reported


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

    errors = list(itertools.islice(_validator(yaml.safe_load(schema.read_text())).iter_errors(config), LOOKED_AT))
    errors.sort(key=lambda error: [str(part) for part in error.absolute_path])
    if errors:
        raise ConfigError(_sentence(errors[0]))
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


def _validator(schema: Mapping[str, Any]) -> Any:
    """A JSON schema validator that matches patterns against whole texts and checks uniqueness in linear time."""
    from jsonschema import Draft202012Validator, ValidationError
    from jsonschema.validators import extend

    def pattern(_validator: Any, pattern: str, value: Any, _schema: Any) -> Iterator[Any]:
        if isinstance(value, str) and not re.fullmatch(pattern.removesuffix("$"), value):  # "$" lets a newline pass
            yield ValidationError(f"{value!r} does not match {pattern!r}")

    def unique(_validator: Any, wanted: bool, items: Any, _schema: Any) -> Iterator[Any]:
        if wanted and isinstance(items, list):  # the type check rejects items of other types
            plain = [(isinstance(item, bool), item) for item in items if isinstance(item, str | int | float)]
            if len(set(plain)) < len(plain):
                yield ValidationError("the items are not unique")

    return extend(Draft202012Validator, {"pattern": pattern, "uniqueItems": unique})(schema)


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


def _sentence(error: Any) -> str:
    """A jsonschema ValidationError as one plain sentence."""
    where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error.absolute_path).lstrip(".")
    if where.startswith("notify"):  # where an address may have been written, which is not shown
        return (
            "the configuration's notify must be a list of channels like [slack], with letters, digits and _ in their "
            "names; an address belongs into the environment, see config/README.md"
        )
    if error.validator == "anyOf":
        error = error.context[0]
    if error.validator == "not":
        return (
            f"the configuration's {where} has both {' and '.join(error.validator_value['required'])}: keep one of them"
        )
    if error.validator == "dependentRequired":
        key = next(
            key
            for key, others in error.validator_value.items()
            if key in error.instance and not {*others} & {*error.instance}
        )
        return (
            f"the configuration's {where} has {key!r}, which is only for steps with {error.validator_value[key][0]!r}"
        )
    if error.validator == "additionalProperties":
        known = sorted(error.schema["properties"])
        unknown = next(key for key in error.instance if key not in known)
        meant = difflib.get_close_matches(str(unknown)[:100], known, n=1)
        advice = f"did you mean {meant[0]!r}?" if meant else f"known are {', '.join(known)}"
        return f"the configuration has an unknown key {brief(unknown)}{f' in {where}' if where else ''}: {advice}"
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        return f"the configuration lacks {missing!r}{f' in {where}' if where else ''}; config/README.md explains it"
    expected = {
        "type": lambda v: f"must be {_KINDS.get(str(v), v)}",
        "pattern": lambda v: (
            "must " + ("have the form module:function" if ":" in v else "consist of letters, digits, - and _")
        ),
        "minItems": lambda v: "must not be empty",
        "minLength": lambda v: "must not be empty",
        "maxItems": lambda v: f"must have at most {v} entries",
        "maxLength": lambda v: f"must have at most {v} characters",
        "uniqueItems": lambda v: "must not contain duplicates",
        "minimum": lambda v: f"must be at least {v}",
        "maximum": lambda v: f"must be at most {v}",
        "enum": lambda v: f"must be {' or '.join(v)}",
        "oneOf": lambda v: "must be all, or a list of wells and ranges like [A01, B01-B12]",
    }[error.validator](error.validator_value)
    return f"the configuration's {where or 'content'} is {brief(error.instance)}, but it {expected}"


_KINDS = {
    "array": "a list like [1, 2]",
    "object": "a mapping of keys to values",
    "string": "text",
    "integer": "a whole number",
    "boolean": "true or false",
    "number": "a number",
    "['integer', 'string', 'object']": "an id, a path in OMERO or a folder",
    "['string', 'object']": "text, or {command: ...} for the command that prints it",
    "['string', 'null']": "a SHA-256, or nothing",
    "['array', 'object']": "a list of paths, or a mapping of paths to their SHA-256",
    "['integer', 'string']": "an id, a path in OMERO or a folder",
    "['string', 'integer']": "a number or a name",
}
