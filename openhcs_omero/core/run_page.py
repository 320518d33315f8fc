"""The page of a run: plates with their state, numbers of wells, time left, Z', montage and links; steps and versions.

`index.html` in the folder of the results is written while the workflow runs (orchestrator/live.py), and opens the
Snakemake report. The page needs neither a network nor a server.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from openhcs_omero.core.plan import Plan
from openhcs_omero.core.status import PlateStatus, RunStatus, at, duration

NAME = "index.html"
REFRESH = 10  # seconds after which a browser reads the page of an active run again
MONTAGE = "montage"
COLUMNS = [
    *("Plate", "Name", "State", "Wells", "Done", "Running", "Failed", "Waiting", "Time left", "Z'", "Montage"),
    *("Derived plate", "Published", "Files", "Problem"),
]
NUMBERS = range(3, 9)

STYLE = """
.summary {font-family: system-ui, sans-serif; color: #222; font-size: 14px; line-height: 1.4}
.summary table {border-collapse: collapse; margin: 0.5em 0 1.5em}
.summary th, .summary td {border-bottom: 1px solid #ddd; padding: 4px 12px 4px 0; text-align: left; vertical-align: top}
.summary th[onclick] {cursor: pointer}
.summary th[onclick]::after {content: " \\2195"; color: #aaa}
.summary td.number {text-align: right; font-variant-numeric: tabular-nums}
.summary tr.bad td {background: #fdf1ee}
.summary tr.now td {background: #eef6fd}
.summary img {max-width: 90px; max-height: 60px}
.summary progress {width: 30em; max-width: 100%}
.summary pre {white-space: pre-wrap; max-width: 60em}
"""

# The report inserts the page as HTML, where scripts do not run, but handlers of events do
SORT = (
    "const column = this.cellIndex, body = this.closest('table').tBodies[0], up = this.dataset.up !== 'true';"
    "this.dataset.up = up; const text = row => row.cells[column].textContent;"
    "const order = new Intl.Collator('en', {numeric: true}).compare;"
    "[...body.rows].sort((a, b) => (up ? 1 : -1) * order(text(a), text(b))).forEach(row => body.append(row))"
)


def page_html(status: RunStatus, web: str | None, about: str) -> str:
    """The page of a run.

    Parameters
    ----------
    status
        The numbers.
    web
        The address of OMERO.web; None if it is not known.
    about
        What `about_html` returned.
    """
    refresh = "" if status.ended else f'<meta http-equiv="refresh" content="{REFRESH}">'
    title = f"{status.total('done')}/{status.total('wells')} wells"
    return (
        f'<!DOCTYPE html>\n<html lang="en"><meta charset="utf-8">{refresh}<title>{title}</title>\n'
        f"{_body(status, web, about)}\n</html>\n"
    )


def report_html(status: RunStatus, web: str | None, about: str) -> str:
    """The same as a part of the Snakemake report, which may be anywhere: without links to files."""
    plates = tuple(replace(plate, files=None) for plate in status.plates)
    return _body(replace(status, plates=plates, report=""), web, about)


def about_html(plan: Plan) -> str:
    """The steps, versions and configuration of the run that published a plate last; empty if no plate is published."""
    run = _last_run(plan)
    if not run:
        return ""
    steps = [
        [_text(number), _text(step["call"]), _text(step["channels"] or "all"), _text(_short(step["params"]))]
        for number, step in enumerate(run["steps"], 1)
    ]
    versions = {**run["versions"], **{name: v for step in run["steps"] for name, v in step["distributions"].items()}}
    parts = [
        "<h2>Steps</h2>",
        _table(["Step", "Function", "Channels", "Parameters"], [(row, "good") for row in steps]),
        "<h2>Versions</h2>",
        _table(["Software", "Version"], [([_text(name), _text(v)], "good") for name, v in versions.items()]),
        "<h2>Configuration</h2>",
        f"<pre>{_text(yaml.safe_dump(run['configuration'], sort_keys=False, allow_unicode=True))}</pre>",
    ]
    return "\n".join(parts)


def _body(status: RunStatus, web: str | None, about: str) -> str:
    finished, wells = status.total("done") + status.total("failed"), status.total("wells")
    report = f'<p><a href="{_address(status.report)}">Report of the screen</a></p>' if status.report else ""
    return "\n".join(
        [
            f'<div class="summary"><style>{STYLE}</style>',
            f"<h1>{_text(status.headline)}</h1>",
            f'<p><progress max="{wells}" value="{finished}"></progress></p><p>{_text(_when(status))}</p>{report}',
            _table(COLUMNS, [(_cells(plate, status, web), _kind(plate)) for plate in status.plates], NUMBERS),
            about,
            "</div>",
        ]
    )


def _when(status: RunStatus) -> str:
    if status.ended:
        return status.state
    return (
        f"The run is active since {at(status.begun)}. This page was written at {at(status.updated)}, and is written at "
        "least once a minute; if it is older, the run was killed. A well of a job in a queue counts as running."
    )


def _cells(plate: PlateStatus, status: RunStatus, web: str | None) -> list[str]:
    files = dict(plate.files or {})
    picture = files.pop(MONTAGE, None)
    montage = f'<a href="{_address(picture)}"><img src="{_address(picture)}" loading="lazy" alt="montage"></a>'
    links = [f'<a href="{_address(path)}">{_text(name)}</a>' for name, path in files.items()]
    counts = (plate.wells, plate.done, plate.running, plate.failed, plate.waiting)
    return [
        _link(web, plate.label, plate.source),
        _text(plate.name),
        _text(plate.state),
        *map(str, counts),
        "" if status.ended else duration(plate.seconds),
        "<br>".join(map(_text, plate.z_prime)),
        montage if picture else "",
        _link(web, plate.derived, plate.derived) if plate.derived is not None else "",
        "" if plate.published is None else at(plate.published),
        " ".join(links),
        _text(plate.problem),
    ]


def _kind(plate: PlateStatus) -> str:
    return "bad" if plate.problem or plate.failed else "now" if plate.running else "good"


def _last_run(plan: Plan) -> dict[str, Any]:
    found = [path for label in plan.settings.plates if (path := plan.settings.folder(label) / "run.yaml").exists()]
    if not found:
        return {}
    run: dict[str, Any] = yaml.safe_load(max(found, key=lambda path: path.stat().st_mtime).read_text())
    return run


def _table(columns: Sequence[str], rows: Iterable[tuple[Sequence[str], str]], numbers: Iterable[int] = ()) -> str:
    """A table that sorts by a column when its header is clicked; each row has cells and a kind."""
    right = set(numbers)
    head = "".join(f'<th onclick="{_text(SORT)}">{_text(name)}</th>' for name in columns)
    kinds = ["number" if number in right else "text" for number in range(len(columns))]
    body = "\n".join(
        f'<tr class="{kind}">' + "".join(f'<td class="{of}">{cell}</td>' for of, cell in zip(kinds, cells)) + "</tr>"
        for cells, kind in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"


def _link(web: str | None, text: Any, plate_id: int | None) -> str:
    """A link to a plate in OMERO.web, if that is known."""
    if web is None or plate_id is None:
        return _text(text)
    return f'<a href="{_text(web.rstrip("/"))}/webclient/?show=plate-{plate_id}">{_text(text)}</a>'


def _address(path: str | Path | None) -> str:
    return _text(quote(str(path)))


def _short(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in params.items())


def _text(value: object) -> str:
    return html.escape(str(value))
