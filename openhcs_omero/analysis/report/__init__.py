"""The report: one HTML file to decide by, with its data and its JavaScript inside."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from openhcs_omero.analysis.report.charts import chart_specs
from openhcs_omero.analysis.report.data import Links, report_data
from openhcs_omero.analysis.screen import Answers
from openhcs_omero.analysis.settings import AnalysisSettings
from openhcs_omero.io.atomic import write

__all__ = ["Links", "write_report"]


def write_report(
    answers: Answers,
    settings: AnalysisSettings,
    path: Path,
    links: Links | None = None,
    thumbnails: Mapping[tuple[str, str], bytes] | None = None,
    outlines: Mapping[str, bytes] | None = None,
) -> None:
    """Write the report.

    Parameters
    ----------
    links
        Where the wells' images are, if they are in OMERO.
    thumbnails
        (plate, well) -> PNG: pictures that the report holds itself, of hits for instance. Other thumbnails come from
        OMERO.web, if there are links.
    outlines
        Plate -> JPEG: its best and worst wells with outlines of their objects.
    """
    page = _template("page.html")
    data = report_data(answers, settings, links, thumbnails or {}, outlines or {})
    parts = {
        "/*STYLE*/": _template("page.css"),
        "/*VEGA*/": _vega(),
        "/*SPECS*/": _json(chart_specs()),
        "/*DATA*/": _json(json.dumps(data, allow_nan=False)),
        "/*PAGE*/": _template("page.js"),
    }
    write(path, re.sub("|".join(map(re.escape, parts)), lambda mark: parts[mark[0]], page))


def _template(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, which sets `vegaEmbed`; it needs no network."""
    import vl_convert

    bundle = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub asks for a snippet, which is optional
    return str(bundle).replace("</script", "<\\/script")


def _json(data: object) -> str:
    """JSON that can stand in a script: no text in it ends the script."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
