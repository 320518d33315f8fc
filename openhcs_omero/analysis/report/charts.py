"""The charts of the report, as Vega-Lite. The page puts the data in and draws them."""

from __future__ import annotations

from typing import Any

import altair as alt

DATA = alt.NamedData("data")
COLORS = alt.Scale(
    domain=["sample", "negative", "positive", "empty", "excluded"],
    range=["#9aa5b1", "#2c7fb8", "#d95f0e", "#bdbdbd", "#636363"],
)


def chart_specs() -> dict[str, dict[str, Any]]:
    """Name -> specification, without data."""
    charts = {
        "heat": heat_maps(),
        "controls": controls(),
        "trend": trend(),
        "spread": spread(),
        "replicates": replicates(),
        "curves": curves(),
    }
    return {name: chart.to_dict() for name, chart in charts.items()}


def _tooltip() -> list[alt.Tooltip]:
    """Of a well. vega-tooltip shows what is called `image` as a picture."""
    return [
        alt.Tooltip("plate:N"),
        alt.Tooltip("well:N"),
        alt.Tooltip("value:Q", format=".4g"),
        alt.Tooltip("treatment:N"),
        alt.Tooltip("role:N"),
        alt.Tooltip("image:N"),
    ]


def heat_maps() -> Any:
    """Plates side by side. Hits have a ring; controls a + or a -, excluded wells an x. Gray is missing."""
    x = alt.X("column:O", title=None, axis=alt.Axis(labelOverlap=True, labelAngle=0, domain=False, ticks=False))
    y = alt.Y(
        "letter:N", title=None, sort=alt.SortField("row"), axis=alt.Axis(labelOverlap=True, domain=False, ticks=False)
    )
    base = alt.Chart(DATA).encode(x=x, y=y)
    wells = base.mark_rect(cursor="pointer").encode(
        color=alt.condition(
            "isValid(datum.value)",
            alt.Color(
                "value:Q",
                title=None,
                scale=alt.Scale(scheme="viridis", clamp=True),
                legend=alt.Legend(gradientLength=200),
            ),
            alt.value("#dddddd"),
        ),
        tooltip=_tooltip(),
        href=alt.Href("url:N"),
    )
    marks = (
        base.transform_filter("datum.mark != ''")
        .mark_text(fontSize=9)
        .encode(
            text="mark:N",
            color=alt.condition("isValid(datum.value)", alt.value("white"), alt.value("#444")),
        )
    )
    hits = base.transform_filter("datum.hit == 1").mark_point(
        size=36, shape="circle", color="#ff2d55", strokeWidth=1.6, filled=False
    )
    return _side_by_side(alt.layer(wells, marks, hits).properties(width=250, height=165))


def _side_by_side(chart: Any) -> Any:
    facet = alt.Facet("title:N", title=None, sort=alt.SortField("order"), header=alt.Header(labelFontSize=12))
    return chart.facet(facet=facet, columns=4)


def controls() -> alt.Chart:
    """The controls of each plate as a strip chart."""
    return (
        alt.Chart(DATA)
        .mark_point(size=22, opacity=0.7, filled=True)
        .encode(
            x=alt.X("plate:N", sort=alt.SortField("order"), title="plate", axis=alt.Axis(labelOverlap=True)),
            xOffset=alt.XOffset("offset:Q", scale=alt.Scale(domain=[-1, 1])),
            y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False)),
            color=alt.Color("role:N", title=None, scale=COLORS, legend=alt.Legend(values=["negative", "positive"])),
            tooltip=_tooltip(),
            href=alt.Href("url:N"),
        )
        .properties(width="container", height=240)
    )


def trend() -> Any:
    """A figure of quality over the plates, with the least value that is asked for."""
    base = alt.Chart(DATA).encode(
        x=alt.X("plate:N", sort=alt.SortField("order"), title="plate", axis=alt.Axis(labelOverlap=True))
    )
    y = alt.Y("value:Q", title=None, scale=alt.Scale(zero=False))
    line = base.mark_line(color="#9aa5b1").encode(y=y)
    point = base.mark_point(filled=True, size=50).encode(
        y=y,
        color=alt.Color(
            "gate:N",
            title=None,
            scale=alt.Scale(domain=["passed", "stopped", "no gate"], range=["#2c7fb8", "#d7191c", "#9aa5b1"]),
        ),
        tooltip=[alt.Tooltip("plate:N"), alt.Tooltip("value:Q", format=".4g"), alt.Tooltip("reason:N")],
    )
    gate = alt.Chart(DATA).transform_filter("isValid(datum.least)")
    least = gate.mark_rule(color="#d7191c", strokeDash=[4, 4]).encode(y=alt.Y("min(least):Q"))
    return alt.layer(line, least, point).properties(width="container", height=220)


def spread() -> Any:
    """The samples of each plate: 5th to 95th percentile, quartiles and median, colored by batch."""
    base = alt.Chart(DATA).encode(
        x=alt.X("plate:N", sort=alt.SortField("order"), title="plate", axis=alt.Axis(labelOverlap=True)),
        color=alt.Color("batch:N", title="batch", scale=alt.Scale(scheme="tableau10")),
        tooltip=[
            alt.Tooltip("plate:N"),
            alt.Tooltip("batch:N"),
            alt.Tooltip("wells:Q"),
            alt.Tooltip("median:Q", format=".4g"),
            alt.Tooltip("q1:Q", format=".4g"),
            alt.Tooltip("q3:Q", format=".4g"),
        ],
    )
    y = alt.Y("low:Q", title=None, scale=alt.Scale(zero=False))
    whole = base.mark_rule().encode(y=y, y2="high:Q")
    half = base.mark_bar(width={"band": 0.5}, opacity=0.5).encode(y=alt.Y("q1:Q"), y2="q3:Q")
    median = base.mark_point(filled=True, size=40, opacity=1).encode(y=alt.Y("median:Q"))
    return alt.layer(whole, half, median).properties(width="container", height=220)


def replicates() -> alt.Chart:
    """The treatments that two plates have in common."""
    return (
        alt.Chart(DATA)
        .mark_point(size=30, filled=True, opacity=0.6)
        .encode(
            x=alt.X("x:Q", title="", scale=alt.Scale(zero=False)),
            y=alt.Y("y:Q", title="", scale=alt.Scale(zero=False)),
            tooltip=[alt.Tooltip("treatment:N"), alt.Tooltip("x:Q", format=".4g"), alt.Tooltip("y:Q", format=".4g")],
        )
        .properties(width=340, height=340)
    )


def curves() -> Any:
    """Dose responses: the wells, the curve, and the EC50 with its confidence interval."""
    base = alt.Chart(DATA)
    x = alt.X("dose:Q", title=None, scale=alt.Scale(type="log"), axis=alt.Axis(format="~g", tickCount=5, grid=False))
    y = alt.Y("value:Q", title=None, scale=alt.Scale(zero=False))
    interval = (
        base.transform_filter("datum.kind == 'interval'")
        .mark_rect(opacity=0.18, color="#d95f0e")
        .encode(x=x, x2="dose2:Q")
    )
    middle = base.transform_filter("datum.kind == 'ec50'").mark_rule(color="#d95f0e", strokeDash=[4, 3]).encode(x=x)
    line = (
        base.transform_filter("datum.kind == 'curve'")
        .mark_line(color="#2c7fb8")
        .encode(x=x, y=y, order=alt.Order("dose:Q"))
    )
    points = (
        base.transform_filter("datum.kind == 'well'")
        .mark_point(filled=True, size=24, color="#333")
        .encode(x=x, y=y, tooltip=_tooltip(), href=alt.Href("url:N"))
    )
    return _side_by_side(alt.layer(interval, middle, line, points).properties(width=230, height=150))
