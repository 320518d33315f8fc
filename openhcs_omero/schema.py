"""Check a configuration against a JSON schema, and say in one plain sentence what is wrong with it."""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from openhcs_omero.errors import ConfigError, brief

LOOKED_AT = 50  # collect at most this many errors; the first one, by its place, is reported


def check_schema(config: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Check a configuration against a JSON schema.

    Parameters
    ----------
    schema
        What JSON schema doesn't know: `expected`, beside `oneOf` or `pattern`, completes the sentence "it must be ...".

    Raises
    ------
    ConfigError
        One sentence about the first error: where it is, what the value is and what is expected.
    """
    errors = list(itertools.islice(_validator(schema).iter_errors(config), LOOKED_AT))
    errors.sort(key=lambda error: [str(part) for part in error.absolute_path])
    if errors:
        raise ConfigError(_sentence(errors[0]))


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

    def is_finite(_checker: Any, value: Any) -> bool:  # YAML has .nan and .inf, which no threshold can be
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

    types = Draft202012Validator.TYPE_CHECKER.redefine("number", is_finite)
    return extend(Draft202012Validator, {"pattern": pattern, "uniqueItems": unique}, type_checker=types)(schema)


def _sentence(error: Any) -> str:
    """A jsonschema ValidationError as one plain sentence."""
    if error.validator in ("anyOf", "oneOf"):
        error = _in_branch(error)
    where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error.absolute_path).lstrip(".")
    if where.startswith("notify"):  # where an address may have been written, which is not shown
        return (
            "the configuration's notify must be a list of channels like [slack], with letters, digits and _ in their "
            "names; an address belongs into the environment, see config/README.md"
        )
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
    if error.validator in ("oneOf", "pattern") and "expected" in error.schema:
        expected = f"must be {error.schema['expected']}"
    else:
        expected = _expected(error.validator, error.validator_value)
    return f"the configuration's {where or 'content'} is {brief(error.instance)}, but it {expected}"


def _expected(validator: str, value: Any) -> str:
    return {
        "type": lambda v: f"must be {_KINDS.get(str(v), v)}",
        "pattern": lambda v: "must consist of letters, digits, - and _",
        "minItems": lambda v: "must not be empty",
        "minLength": lambda v: "must not be empty",
        "maxItems": lambda v: f"must have at most {v} entries",
        "maxLength": lambda v: f"must have at most {v} characters",
        "uniqueItems": lambda v: "must not contain duplicates",
        "minimum": lambda v: f"must be at least {v}",
        "maximum": lambda v: f"must be at most {v}",
        "enum": lambda v: f"must be {' or '.join(map(str, v))}",
        "exclusiveMinimum": lambda v: f"must be above {v}",
        "minProperties": lambda v: "must not be empty",
        "maxProperties": lambda v: f"must have at most {v} keys",
    }[validator](value)


def _in_branch(error: Any) -> Any:
    """The error within the only alternative that is meant for a value of this type; the error itself if none is."""
    others = {found.schema_path[0] for found in error.context if found.schema_path[1] in ("type", "const", "enum")}
    inner = [found for found in error.context if found.schema_path[0] not in others]
    return inner[0] if inner else error


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
