"""The summary page of a run: plates with links into OMERO.web, wells done and failed, steps, versions, configuration.

It opens the Snakemake report, and it is written to `summary.html` in the folder of the results at the end of each run,
also of a run that failed. The page needs neither a network nor a server.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from openhcs_omero.core.plan import Plan
from openhcs_omero.core.records import DerivedPlate, read_record
from openhcs_omero.core.state import read_state
from openhcs_omero.core.summary import Outcome, outcomes
from openhcs_omero.io.atomic import write
from openhcs_omero.plates.paths import plate_of

NAME = "summary.html"
COLUMNS = ["Plate", "Name", "Derived plate", "Wells", "Done", "Failed", "Not processed", "Published", "Problem"]

STYLE = """
.summary {font-family: system-ui, sans-serif; color: #222; font-size: 14px; line-height: 1.4}
.summary table {border-collapse: collapse; margin: 0.5em 0 1.5em}
.summary th, .summary td {border-bottom: 1px solid #ddd; padding: 4px 12px 4px 0; text-align: left; vertical-align: top}
.summary th[onclick] {cursor: pointer}
.summary th[onclick]::after {content: " \\2195"; color: #aaa}
.summary td.number {text-align: right; font-variant-numeric: tabular-nums}
.summary tr.bad td {background: #fdf1ee}
.summary pre {white-space: pre-wrap; max-width: 60em}
"""

# The report inserts the page as HTML, where scripts do not run, but handlers of events do
SORT = (
    "const column = this.cellIndex, body = this.closest('table').tBodies[0], up = this.dataset.up !== 'true';"
    "this.dataset.up = up; const text = row => row.cells[column].textContent;"
    "const order = new Intl.Collator('en', {numeric: true}).compare;"
    "[...body.rows].sort((a, b) => (up ? 1 : -1) * order(text(a), text(b))).forEach(row => body.append(row))"
)


def summary_html(plan: Plan) -> str:
    """The summary of the runs of all plates, as HTML to insert into a page."""
    done = {outcome.label: outcome for outcome in outcomes(plan)}
    run = _last_run(plan)
    return "\n".join(
        [
            f'<div class="summary"><style>{STYLE}</style>',
            f"<h1>{_text(_headline(plan, done.values()))}</h1>",
            _plates(plan, done),
            *_run(run),
            "</div>",
        ]
    )


def write_summary_page(plan: Plan) -> None:
    """Write the summary as a page of its own."""
    head = '<!DOCTYPE html>\n<html lang="en"><meta charset="utf-8"><title>Summary</title>'
    write(plan.settings.results / NAME, f"{head}\n{summary_html(plan)}\n</html>\n")


def _headline(plan: Plan, done: Iterable[Outcome]) -> str:
    found = list(done)
    wells, good = sum(one.wells for one in found), sum(one.done for one in found)
    plates = len(plan.settings.plates)
    return f"{plates} plate{'' if plates == 1 else 's'}: {good} of {wells} wells are processed"


def _plates(plan: Plan, done: Mapping[str, Outcome]) -> str:
    rows = []
    for label, path in plan.settings.plates.items():
        outcome, folder, problem = done.get(label), plan.settings.folder(label), plan.problems.get(label, "")
        state, derived = read_state(folder), read_record(folder / "derived.json", DerivedPlate)
        place = plate_of(path)
        counts = [outcome.wells, outcome.done, len(outcome.failures), len(outcome.missing)] if outcome else [""] * 4
        bad = bool(problem or (outcome and (outcome.failures or outcome.missing)))
        cells = [
            _link(plan, label, place.plate_id if place and not place.output else None),
            _text(state.name if state else ""),
            _link(plan, derived.derived_plate, derived.derived_plate) if derived else "",
            *(f"{count}" for count in counts),
            _text(_time(folder / "annotations.json")),
            _text(problem),
        ]
        rows.append((cells, bad))
    return _table(COLUMNS, rows, numbers={3, 4, 5, 6})


def _run(run: Mapping[str, Any]) -> list[str]:
    """The steps, versions and configuration of the last run."""
    if not run:
        return []
    steps = [
        [_text(number), _text(step["call"]), _text(step["channels"] or "all"), _text(_short(step["params"]))]
        for number, step in enumerate(run["steps"], 1)
    ]
    versions = {**run["versions"], **{name: v for step in run["steps"] for name, v in step["distributions"].items()}}
    return [
        "<h2>Steps</h2>",
        _table(["Step", "Function", "Channels", "Parameters"], [(row, False) for row in steps]),
        "<h2>Versions</h2>",
        _table(["Software", "Version"], [([_text(name), _text(v)], False) for name, v in versions.items()]),
        "<h2>Configuration</h2>",
        f"<pre>{_text(yaml.safe_dump(run['configuration'], sort_keys=False, allow_unicode=True))}</pre>",
    ]


def _last_run(plan: Plan) -> dict[str, Any]:
    """The description of the run that published a plate last; empty if no plate is published."""
    found = [path for label in plan.settings.plates if (path := plan.settings.folder(label) / "run.yaml").exists()]
    if not found:
        return {}
    run: dict[str, Any] = yaml.safe_load(max(found, key=lambda path: path.stat().st_mtime).read_text())
    return run


def _table(columns: Sequence[str], rows: Iterable[tuple[Sequence[str], bool]], numbers: Iterable[int] = ()) -> str:
    """A table that sorts by a column when its header is clicked."""
    right = set(numbers)
    head = "".join(f'<th onclick="{_text(SORT)}">{_text(name)}</th>' for name in columns)
    kinds = ["number" if number in right else "text" for number in range(len(columns))]
    body = "\n".join(
        f'<tr class="{"bad" if bad else "good"}">'
        + "".join(f'<td class="{kind}">{cell}</td>' for kind, cell in zip(kinds, cells))
        + "</tr>"
        for cells, bad in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"


def _link(plan: Plan, text: Any, plate_id: Any) -> str:
    """A link to a plate in OMERO.web, if the configuration says where that is."""
    web = ((plan.settings.analysis or {}).get("analysis") or {}).get("web")
    if web is None or not isinstance(plate_id, int):
        return _text(text)
    return f'<a href="{_text(web.rstrip("/"))}/webclient/?show=plate-{plate_id}">{_text(text)}</a>'


def _time(path: Path) -> str:
    return f"{datetime.fromtimestamp(path.stat().st_mtime, UTC):%Y-%m-%d %H:%M} UTC" if path.exists() else ""


def _short(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in params.items())


def _text(value: object) -> str:
    return html.escape(str(value))
