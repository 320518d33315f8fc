"""Channels that the configuration names, and their numbers in each plate.

The same name may be another channel of another plate. Jobs and functions of steps get numbers only.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from openhcs_omero.core.config import Settings, Step
from openhcs_omero.core.state import recorded_state
from openhcs_omero.core.steps.checks import Steps, fits, hints_of
from openhcs_omero.core.steps.loading import load_step
from openhcs_omero.errors import ConfigError

Names = Sequence[str | None]
"""The names of a plate's channels, by number."""

_PARAM = re.compile(r"(.+_)?channels?")


def uses_names(steps: Steps) -> bool:
    """Whether any step names a channel."""
    named: list[str] = []

    def number(name: str) -> int:
        named.append(name)
        return 0

    for step, function in steps:
        with_numbers(step, function, number)
    return bool(named)


def in_columns(columns: Iterable[str]) -> bool:
    """Whether a column may have the name of a channel in place of its number, as ``spots_cGFP`` does."""
    return any(re.search(r"_c(?!\d)", column) for column in columns)


def with_numbers(step: Step, function: Callable[..., Any], number: Callable[[str], int]) -> Step:
    """Replace the names of channels in a step by numbers.

    Channels stand in `channels`, and in params whose name is ``channel``, or ends in ``_channel`` or ``_channels``, if
    the function takes numbers there.

    Parameters
    ----------
    step, function
        The step with its function.
    number
        Returns the number of a channel, given its name.
    """

    def numbered(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(map(numbered, value))
        return number(value) if isinstance(value, str) else value

    params = {
        name: numbered(value) if _PARAM.fullmatch(name) and not fits(value, _expected(function, name)) else value
        for name, value in step.params.items()
    }
    return replace(step, channels=step.channels and numbered(step.channels), params=params)


def _expected(function: Callable[..., Any], name: str) -> Any:
    """The annotation of a parameter, or int if its default is a number."""
    parameter = inspect.signature(function).parameters.get(name)
    number = parameter is not None and isinstance(parameter.default, int)
    return hints_of(function).get(name, int if number else Any)


def numbered_steps(steps: Steps, label: str, names: Names) -> Steps:
    """Replace the names of channels by their numbers in a plate.

    Raises
    ------
    ConfigError
        If the plate has no such channel, several of that name, or if a channel is given twice.
    """
    return tuple((_numbered(step, function, label, names), function) for step, function in steps)


def _numbered(step: Step, function: Callable[..., Any], label: str, names: Names) -> Step:
    def number(name: str) -> int:
        places = [place for place, other in enumerate(names) if other == name]
        if len(places) != 1:
            count = "several channels" if places else "no channel"
            raise ConfigError(f"{step} names channel {name!r}, but plate {label} has {count} of that name: {known}")
        return places[0]

    listed = ", ".join(f"{place} {name or '(no name)'}" for place, name in enumerate(names))
    known = f"its channels are {listed}" if listed else "it has no channels"
    found = with_numbers(step, function, number)
    if found.channels and len(set(found.channels)) < len(found.channels):
        raise ConfigError(f"{step} has the channels {list(step.channels or ())}, one of them twice: {known}")
    return found


def numbered_settings(settings: Settings, label: str) -> Settings:
    """The settings for a plate with the numbers of its channels, which the run recorded for its jobs."""
    steps = tuple((step, load_step(step)) for step in settings.steps)
    if not uses_names(steps):
        return settings
    names = recorded_state(settings.folder(label)).channel_names
    return replace(settings, steps=tuple(step for step, _ in numbered_steps(steps, label, names)))
