"""Descriptions of steps as tables in a terminal, and as a page of the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console, Group, RenderableType
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from openhcs_omero.core.steps.catalog import Description, StepParam

_SHOWN = ("name", "default_text", "unit")


def print_list(steps: Iterable[Description]) -> None:
    """Print the steps with their params, units and defaults."""
    table = Table("step", "what it does", "param", "default", "unit", box=None, padding=(0, 2, 0, 0))
    for step in steps:
        names, defaults, units = ("\n".join(getattr(param, of) for param in step.params) for of in _SHOWN)
        _add(table, step.name, step.summary, names, defaults, units)
        table.add_row()
    console = Console()
    console.print(table)
    console.print("openhcs-omero steps NAME shows all about one of them, or about your own as module:function.")


def print_step(step: Description) -> None:
    """Print all about a step."""
    table = Table("param", "default", "type", "unit", "limits", "meaning", box=None, padding=(0, 2, 0, 0))
    for param in step.params:
        _add(table, param.name, param.default_text, param.type, param.unit, param.limits, param.description)
    columns = Table("column", "unit", "statistic", "description", box=None, padding=(0, 2, 0, 0))
    for name, about in step.features.items():
        _add(columns, name, *(about.get(key, "") for key in ("unit", "statistic", "description")))
    parts: list[RenderableType] = [Markdown(step.summary), Markdown(step.details), Markdown(step.returns)]
    Console().print(Group(Text(f"call: {step.call}\n"), *_spaced([*parts[:2], table, parts[2], columns])))


def _add(table: Table, *cells: str) -> None:
    table.add_row(*map(Text, cells))  # in a str, rich takes [nuclei] for a style


def _spaced(parts: Iterable[RenderableType]) -> Iterator[RenderableType]:
    for part in parts:
        yield part
        yield ""


def markdown(steps: Iterable[Description]) -> str:
    """The documentation of steps as Markdown."""
    return "\n".join(_section(step) for step in steps)


def _section(step: Description) -> str:
    text = [f"## {step.name}", f"`{step.call}`", step.summary, f"![{step.name}](../images/steps/{step.name}.png)"]
    text += [step.details, "**Params**" if step.params else "It has no params."]
    if step.params:
        rows = ["| Param | Default | Unit | Values | Meaning |", "| --- | --- | --- | --- | --- |"]
        text.append("\n".join([*rows, *map(_row, step.params)]))
    text += ["It takes `channels`." if step.takes_channels else "It has no `channels`.", "**Results**", step.returns]
    return "\n\n".join(part for part in text if part) + "\n"


def _row(param: StepParam) -> str:
    values = " ".join(part for part in (f"`{param.type.replace(' | ', ' or ')}`", param.limits) if part)
    return f"| `{param.name}` | `{param.default_text}` | {param.unit} | {values} | {param.description} |"
