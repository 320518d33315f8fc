"""Pictures of a plate: a heat map of a feature, and a montage of all wells."""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs_omero.core.plate_tables import is_number
from openhcs_omero.core.steps.columns import with_names
from openhcs_omero.core.well_file import open_part
from openhcs_omero.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEFAULT_HEATMAPS = 8
MOST_PANELS = 24  # channels in a montage
LABEL_COLORS = 4096  # objects with larger numbers get the same colors again


def choose_features(
    columns: Mapping[str, Mapping[str, str]], wanted: Sequence[str] | None, names: Sequence[str | None] = ()
) -> list[str]:
    """Choose the columns of `wells.csv` to draw: the requested ones, or the first eight features.

    Parameters
    ----------
    columns
        What columns.csv says about the columns of wells.csv; empty if no well has results.
    wanted
        The requested columns; None for the first eight features.
    names
        The names of the plate's channels, which may stand for their numbers in `wanted`.

    Raises
    ------
    ConfigError
        If a requested column does not exist.
    """
    if wanted is None or not columns:
        return [name for name, about in columns.items() if about["statistic"].startswith("mean")][:DEFAULT_HEATMAPS]
    known = with_names(columns, names) | {name: name for name in columns}
    if unknown := [name for name in wanted if name not in known]:
        raise ConfigError(f"heatmaps: the steps measure {', '.join(columns)}, but no {unknown[0]!r}")
    return list(dict.fromkeys(known[name] for name in wanted))


def plate_grid(places: Sequence[tuple[int, int]]) -> tuple[range, range]:
    """Rows and columns (from 0) to draw: from the first to the last one in use."""
    rows, columns = zip(*places)
    return range(min(rows), max(rows) + 1), range(min(columns), max(columns) + 1)


def color_range(values: np.ndarray) -> tuple[float, float]:
    """The values at the two ends of a color scale.

    With eight or more values, these are the 2nd and 98th percentiles: a single outlier must not give all other values
    the same color. The scale spans at least 2 % of the values, so that noise does not look like a difference.

    Parameters
    ----------
    values
        Array of any shape, without missing values.
    """
    if values.size == 0:
        return 0.0, 1.0
    if values.size < 8:
        low, high = float(values.min()), float(values.max())
    else:  # choose actual values: interpolating could fall into a gap between two of them
        low = float(np.percentile(values, 2, method="higher"))
        high = float(np.percentile(values, 98, method="lower"))
    least = 0.02 * max(abs(low), abs(high)) or 1.0
    if high - low < least:
        middle = (low + high) / 2
        low, high = middle - least / 2, middle + least / 2
    return low, high


def heatmap(
    places: Mapping[str, tuple[int, int]],
    values: Mapping[str, str],
    title: str,
    path: Path,
    label: str = "",
    failed: Collection[str] = (),
    excluded: Collection[str] = (),
) -> None:
    """Draw a feature over the plate's layout.

    Failed wells, wells with excluded sites, wells without a value and positions without a well look different.

    Parameters
    ----------
    places
        Well -> (row, column), from 0.
    values
        Well -> value, as text; "" if it is missing.
    title
        Title of the figure.
    path
        The file to write.
    label
        What the values are, with their unit.
    failed
        The wells that failed.
    excluded
        The wells with sites that no statistic uses.
    """
    rows, columns = plate_grid(list(places.values()))
    grid = np.full((len(rows), len(columns)), np.nan)
    for well, (row, column) in places.items():
        if is_number(values.get(well, "")):
            grid[row - rows[0], column - columns[0]] = float(values[well])
    known = grid[np.isfinite(grid)]
    low, high = color_range(known)
    figure = figure_of(2.6 + 0.55 * len(columns), 1.9 + 0.5 * len(rows))
    axes = figure.add_subplot()
    # colors are looked up per well, not per pixel
    look = {"cmap": _colormap("viridis", bad="none"), "interpolation": "nearest", "interpolation_stage": "rgba"}
    drawn = axes.imshow(grid, vmin=low, vmax=high, aspect="equal", **look)
    _label(axes, rows, columns)
    axes.set_title(title, loc="left", **plain_text(11))
    _mark_wells(
        axes,
        {well: (row - rows[0], column - columns[0]) for well, (row, column) in places.items()},
        grid,
        failed,
        excluded,
    )
    _draw_scale(figure, axes, drawn, known, label)
    if grid.size <= 96:
        _write_values(axes, grid, drawn)
    save_png(figure, path, dpi=150)


def _mark_wells(
    axes: Any,
    places: Mapping[str, tuple[int, int]],
    grid: np.ndarray,
    failed: Collection[str],
    excluded: Collection[str],
) -> None:
    """Mark wells that failed, have excluded sites or have no value, and add a legend."""
    from matplotlib.patches import Rectangle

    looks: dict[str, dict[str, Any]] = {
        "failed": {"facecolor": "white", "edgecolor": "#b2182b", "hatch": "xxxx", "linewidth": 0.8},
        "excluded": {"facecolor": "white", "edgecolor": "#636363", "hatch": "////", "linewidth": 0.8},
        "some sites excluded": {"facecolor": "none", "edgecolor": "#636363", "hatch": "//", "linewidth": 0.8},
        "no value": {"facecolor": "#d0d0d0", "edgecolor": "white", "linewidth": 0.8},
    }
    used = {}
    for well, (row, column) in places.items():
        known = np.isfinite(grid[row, column])
        kind = "failed" if well in failed else "excluded" if well in excluded else "no value"
        if known:
            kind = "some sites excluded" if well in excluded else ""
        if kind:
            patch = Rectangle((column - 0.5, row - 0.5), 1, 1, **looks[kind])
            used[kind] = axes.add_patch(patch)
    if used:
        axes.legend(
            used.values(), used, loc="upper left", bbox_to_anchor=(0, -0.02), ncols=4, frameon=False, fontsize=7
        )


def _draw_scale(figure: Figure, axes: Any, drawn: Any, known: np.ndarray, label: str) -> None:
    """Draw a color bar with plain numbers, which shows whether and how far values lie beyond its ends."""
    low, high = drawn.get_clim()
    below, above = bool((known < low).any()), bool((known > high).any())
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get((below, above), "neither")
    bar = figure.colorbar(drawn, ax=axes, fraction=0.046, pad=0.03, extend=extend)
    bar.set_ticks([low, (low + high) / 2, high], labels=[f"{value:.4g}" for value in (low, (low + high) / 2, high)])
    beyond = f"\nwells from {known.min():.4g} to {known.max():.4g}" if below or above else ""
    bar.set_label(f"{label}{beyond}", **plain_text(8))
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7, length=2)


@dataclass(frozen=True)
class Channel:
    """How to draw a channel of a montage.

    Parameters
    ----------
    name
        Name of the channel, or None.
    color
        (red, green, blue), each 0 to 255; None for gray.
    labels
        Whether the channel is a label image; each object then gets a different color.
    """

    name: str | None = None
    color: tuple[int, int, int] | None = None
    labels: bool = False


@dataclass(frozen=True)
class Thumbnail:
    """A small picture of a well.

    Parameters
    ----------
    picture
        (C, Y, X).
    channels
        One per channel of `picture`.
    acquisition
        Id and name of the acquisition that it is of; None if the plate has none.
    """

    picture: np.ndarray
    channels: Sequence[Channel] = ()
    acquisition: tuple[int, str] | None = None


def pack_thumbnails(thumbnails: Sequence[Thumbnail]) -> bytes:
    """Pack the thumbnails of a well, one per acquisition, as the content of an .npz file."""
    content = io.BytesIO()
    about = [(thumbnail.acquisition, [asdict(channel) for channel in thumbnail.channels]) for thumbnail in thumbnails]
    np.savez(content, *(thumbnail.picture for thumbnail in thumbnails), about=json.dumps(about))
    return content.getvalue()


def load_thumbnails(path: Path) -> list[Thumbnail]:
    """Read the thumbnails in the file of a well."""
    with open_part(path, "thumbnail.npz") as part, np.load(io.BytesIO(part.read())) as file:
        if "about" not in file:  # written by an earlier version, which stored a single one
            return [Thumbnail(file["picture"], [Channel(**channel) for channel in json.loads(str(file["channels"]))])]
        about = json.loads(str(file["about"]))
        return [
            Thumbnail(file[f"arr_{number}"], [Channel(**channel) for channel in channels], run and (run[0], run[1]))
            for number, (run, channels) in enumerate(about)
        ]


def montage(
    places: Mapping[str, tuple[int, int]],
    thumbnails: Mapping[str, Sequence[Thumbnail]],
    title: str,
    path: Path,
    failed: Collection[str] = (),
    excluded: Collection[str] = (),
) -> None:
    """Draw the thumbnails of all wells on the plate's layout.

    There is one row of panels per acquisition, with one panel and one scale for each of the first channels.

    Parameters
    ----------
    places
        Well -> (row, column), from 0.
    thumbnails
        Well -> a thumbnail per acquisition.
    title
        Title of the figure.
    path
        The file to write.
    failed
        The wells that failed.
    excluded
        The wells with sites that no statistic uses.
    """
    rows, columns = plate_grid(list(places.values()))
    runs: dict[tuple[int, str] | None, dict[str, Thumbnail]] = {}
    for well, several in thumbnails.items():
        for one in several:
            runs.setdefault(one.acquisition, {})[well] = one
    order = sorted(runs, key=lambda run: (run is None, run)) or [None]
    pictures = [one.picture for of_run in runs.values() for one in of_run.values()]
    y, x = (max((picture.shape[axis] for picture in pictures), default=8) for axis in (1, 2))
    count = max((len(picture) for picture in pictures), default=1)
    if count > MOST_PANELS:
        title, count = f"{title}: the first {MOST_PANELS} of {count} channels", MOST_PANELS
    cell = 0.62 if len(columns) <= 12 else 0.31
    height = 0.4 + cell * y / x * len(rows)
    figure = figure_of(0.6 + count * (0.4 + cell * len(columns)), 0.5 + height * len(order))
    figure.suptitle(title, x=0.01, ha="left", **plain_text(11))
    panels = figure.subplots(len(order), count, squeeze=False)
    words = {**dict.fromkeys(excluded, "excluded"), **dict.fromkeys(failed, "failed")}
    for run, row in zip(order, panels):
        of_run = runs.get(run, {})
        channels = next((one.channels for one in of_run.values()), [])
        drawn = min(count, max((len(one.picture) for one in of_run.values()), default=1))
        for number, axes in enumerate(row):
            if number >= drawn:
                axes.set_axis_off()
                continue
            channel = channels[number] if number < len(channels) else Channel()
            planes = {places[well]: one.picture[number] for well, one in of_run.items() if number < len(one.picture)}
            _draw_wells(axes, (rows, columns), planes, (y, x), channel)
            start = f"{run[1] if run else 'no acquisition'}: " if len(order) > 1 or run else ""
            axes.set_title(f"{start}{channel.name or f'channel {number}'}", loc="left", **plain_text(9))
            for well, word in words.items():
                _write_across(axes, (places[well][0] - rows[0], places[well][1] - columns[0]), word)
    save_png(figure, path, dpi=200)


def _draw_wells(
    axes: Any,
    grid: tuple[range, range],
    planes: Mapping[tuple[int, int], np.ndarray],
    size: tuple[int, int],
    channel: Channel,
) -> None:
    """Draw one channel of wells, each in a cell for planes of `size` (y, x)."""
    (rows, columns), (y, x) = grid, size
    sheet = np.full((len(rows) * (y + 2), len(columns) * (x + 2)), np.nan)
    for (row, column), plane in planes.items():
        top, left = (row - rows[0]) * (y + 2) + 1, (column - columns[0]) * (x + 2) + 1
        sheet[top : top + plane.shape[0], left : left + plane.shape[1]] = plane
    if channel.labels:
        sheet = np.where(sheet > LABEL_COLORS, (sheet - 1) % LABEL_COLORS + 1, sheet)
    axes.imshow(
        sheet,
        interpolation="nearest",
        aspect=y / x,
        extent=(-0.5, len(columns) - 0.5, len(rows) - 0.5, -0.5),
        **_look(channel, sheet),
    )
    _label(axes, rows, columns)


def _write_across(axes: Any, place: tuple[int, int], word: str) -> None:
    row, column = place
    axes.text(column, row, word, ha="center", va="center", fontsize=5, color="#b2182b", rotation=45)


def _look(channel: Channel, sheet: np.ndarray) -> dict[str, Any]:
    """Color map and scale of a channel."""
    from matplotlib.colors import LinearSegmentedColormap, ListedColormap, hsv_to_rgb

    if channel.labels:
        # hues a golden ratio apart give objects with neighboring numbers very different colors
        count = int(np.nanmax(sheet)) if np.isfinite(sheet).any() else 0
        hues = (np.arange(count) * 0.618034) % 1
        colors = hsv_to_rgb(np.stack([hues, np.full(count, 0.65), np.full(count, 1.0)], axis=1))
        cmap = ListedColormap(np.concatenate([np.zeros((1, 3)), colors]))
        return {"cmap": cmap.with_extremes(bad="#e8e8e8"), "vmin": 0, "vmax": max(count, 1)}
    low, high = np.nanpercentile(sheet, [1, 99.7]) if np.isfinite(sheet).any() else (0, 1)
    scale = {"vmin": low, "vmax": max(high, low + 1)}
    if channel.color is None:
        return {"cmap": _colormap("gray"), **scale}
    red, green, blue = (value / 255 for value in channel.color)
    scaled = LinearSegmentedColormap.from_list("channel", [(0, 0, 0), (red, green, blue)])
    return {"cmap": scaled.with_extremes(bad="#e8e8e8"), **scale}


def figure_of(width: float, height: float) -> Figure:
    """An empty figure, in inches; it is drawn without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(min(width, 24), min(height, 24)), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_png(figure: Figure, path: Path, dpi: int) -> None:
    """Write a figure as PNG, little compressed: more saves a sixth of a montage, and takes as long as to draw it."""
    figure.savefig(path, dpi=dpi, format="png", pil_kwargs={"compress_level": 1})


def plain_text(size: int) -> dict[str, Any]:
    """Draw a name as it is: matplotlib takes a text between dollar signs for a formula."""
    return {"fontsize": size, "parse_math": False}


def _colormap(name: str, bad: str = "#e8e8e8") -> Any:
    """A color map with a color for positions without a value."""
    from matplotlib import colormaps

    return colormaps[name].with_extremes(bad=bad)


def _label(axes: Any, rows: range, columns: range) -> None:
    """Label the axes with row letters and column numbers: all of them, or as many as stay readable."""
    from openhcs_omero.plates.paths import well_name

    every = 1 if len(columns) <= 24 else 4
    shown = range(0, len(columns), every)
    axes.set_xticks(list(shown), [str(columns[i] + 1) for i in shown], fontsize=7)
    axes.set_yticks(range(len(rows)), [well_name(row, 0)[:-2] for row in rows], fontsize=7)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def _write_values(axes: Any, grid: np.ndarray, drawn: Any) -> None:
    """Write the numbers into the wells, dark on light colors and light on dark ones."""
    for (row, column), value in np.ndenumerate(grid):
        if np.isfinite(value):
            light = np.dot(drawn.to_rgba(value)[:3], (0.299, 0.587, 0.114)) > 0.5
            text = f"{value:.0f}" if 1000 <= abs(value) < 100_000 else f"{value:.3g}"
            axes.text(column, row, text, ha="center", va="center", fontsize=6, color="black" if light else "white")
