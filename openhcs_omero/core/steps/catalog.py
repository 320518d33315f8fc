"""What steps do and take, from their signatures and docstrings: for people, for forms and for the documentation."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from openhcs_omero.core.config import Step
from openhcs_omero.core.features import declared_features
from openhcs_omero.core.steps.checks import hints_of, type_text
from openhcs_omero.core.steps.loading import LEADING, import_function
from openhcs_omero.errors import StepError
from openhcs_omero.processing import STEPS


@dataclass(frozen=True)
class StepParam:
    """A parameter of a step.

    Parameters
    ----------
    type
        As people write it, such as ``list[int] | None``.
    default
        The default; `inspect.Parameter.empty` if the param has to be given.
    unit, limits, description
        Text; empty where nothing is declared.
    schema
        JSON schema of the values.
    """

    name: str
    type: str
    default: Any
    unit: str
    limits: str
    description: str
    schema: Mapping[str, Any]

    @property
    def default_text(self) -> str:
        """The default as YAML has it; "required" if there is none."""
        if self.default is inspect.Parameter.empty:
            return "required"
        if isinstance(self.default, tuple | list):
            return f"[{', '.join(map(str, self.default))}]"
        if isinstance(self.default, bool) or self.default is None:
            return {True: "true", False: "false", None: "null"}[self.default]
        return f"{self.default:g}" if isinstance(self.default, int | float) else str(self.default)


@dataclass(frozen=True)
class Description:
    """A step.

    Parameters
    ----------
    call
        "module:function".
    summary, details, returns
        The first sentence of its docstring, the rest of its text, and what it says about the results.
    params
        The params of the configuration; `channels` is not one of them.
    takes_channels
        Whether the step can be limited to channels.
    features
        The declared columns: unit, description and statistic, by name.
    """

    call: str
    summary: str
    details: str
    returns: str
    params: tuple[StepParam, ...]
    takes_channels: bool
    features: Mapping[str, Mapping[str, str]]

    @property
    def name(self) -> str:
        return self.call.partition(":")[2]

    def as_json(self) -> dict[str, Any]:
        """The description, with a JSON schema of the key `params` of the step's entry in a configuration."""
        required = [param.name for param in self.params if param.default is inspect.Parameter.empty]
        return {
            "name": self.name,
            "call": self.call,
            "summary": self.summary,
            "details": self.details,
            "returns": self.returns,
            "takes_channels": self.takes_channels,
            "params": {
                "type": "object",
                "additionalProperties": False,
                "required": required,
                "properties": {param.name: dict(param.schema) for param in self.params},
            },
            "features": {name: dict(about) for name, about in self.features.items()},
        }


def describe_steps() -> list[Description]:
    """Describe the steps that come with this package."""
    return [describe(call) for call in STEPS]


def find_step(name: str) -> Description:
    """Describe a step by the name of its function, for one that comes with this package, or by its "module:function".

    Raises
    ------
    StepError
        If there is no such step.
    """
    if ":" in name:
        return describe(name)
    for call in STEPS:
        if call.endswith(f":{name}"):
            return describe(call)
    known = ", ".join(call.partition(":")[2] for call in STEPS)
    raise StepError(f"there is no step {name!r}: known are {known}, and your own as module:function")


def describe(call: str) -> Description:
    """Describe the step "module:function"; raises StepError if it can't be imported."""
    step = Step(1, call, None, None, {})
    function = import_function(step)
    parameters = inspect.signature(function).parameters
    if tuple(parameters)[:3] != LEADING[:3]:
        raise StepError(f"{call} is no step: a step is f({', '.join(LEADING[:3])}, backend='disk', **params)")
    text, sections = _docstring(function)
    summary, _, details = text.partition("\n\n")
    about, hints = dict(_entries(sections.get("Parameters", ""))), hints_of(function)
    params = tuple(
        _param(parameter, hints.get(name, Any), about.get(name, ""))
        for name, parameter in parameters.items()
        if name not in (*LEADING, "channels")
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    )
    returned = "\n\n".join(dict.fromkeys(entry for _, entry in _entries(sections.get("Returns", ""))))
    try:
        features = declared_features(step, function) or {}
    except StepError:  # they depend on params that have to be given
        features = {}
    return Description(call, _joined(summary), _joined(details), returned, params, "channels" in parameters, features)


def _param(parameter: inspect.Parameter, hint: Any, description: str) -> StepParam:
    from pydantic import PydanticUserError, TypeAdapter

    try:
        schema = TypeAdapter(hint).json_schema()
    except PydanticUserError:  # a type that JSON has not
        schema = {}
    unit, default = _unit(hint), parameter.default
    schema |= {"description": description} if description else {}
    schema |= {"unit": unit} if unit else {}
    if default is not parameter.empty:
        schema["default"] = list(default) if isinstance(default, tuple) else default
    return StepParam(parameter.name, type_text(hint), default, unit, _limits(schema), description, schema)


def _unit(hint: Any) -> str:
    """The unit in an annotation, as `annotated_types.Unit` or inside of a union."""
    found = [one.unit for one in getattr(hint, "__metadata__", ()) if hasattr(one, "unit")]
    return found[0] if found else next(filter(None, map(_unit, typing.get_args(hint))), "")


def _limits(schema: Mapping[str, Any]) -> str:
    """The limits of numbers in a schema, such as "above 0" or "1 to 100"."""
    for part in (schema, *schema.get("anyOf", ())):
        low, high, above = (part.get(key) for key in ("minimum", "maximum", "exclusiveMinimum"))
        if above is not None:
            return f"above {above:g}"
        if low is not None:
            return f"at least {low:g}" if high is None else f"{low:g} to {high:g}"
    return ""


def _docstring(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """The text of a docstring in NumPy style before its sections, and the sections by title."""
    text, *rest = re.split(r"^(\w[\w ]*)\n-{3,}\n", inspect.getdoc(function) or "", flags=re.MULTILINE)
    return text.strip(), {title: body.strip("\n") for title, body in zip(rest[::2], rest[1::2])}


def _entries(section: str) -> Iterator[tuple[str, str]]:
    """The names in a section, and the text about each; "a, b" are two names with one text."""
    for heading, body in re.findall(r"^(\S.*)\n((?:(?:[ \t]+.*)?(?:\n|\Z))*)", section, flags=re.MULTILINE):
        for name in heading.partition(":")[0].split(","):
            yield name.strip(), _joined(body)


def _joined(text: str) -> str:
    """A text without the line breaks within paragraphs."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))
