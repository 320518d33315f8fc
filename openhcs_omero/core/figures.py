"""Pictures of a plate: a heat map of a feature, a montage of all wells."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs_omero.core.tables import is_number
from openhcs_omero.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEFAULT_HEATMAPS = 8


def choose_features(columns: Mapping[str, Mapping[str, str]], wanted: Sequence[str] | None) -> list[str]:
    """The columns of `wells.csv` to draw: the wanted ones, or the first eight features.

    Parameters
    ----------
    columns
        What columns.csv says of the columns of wells.csv; nothing if no well has results.

    Raises
    ------
    ConfigError
        If a wanted one is not there.
    """
    if wanted is None or not columns:
        return [name for name, about in columns.items() if about["statistic"].startswith("mean")][:DEFAULT_HEATMAPS]
    if unknown := [name for name in wanted if name not in columns]:
        raise ConfigError(f"heatmaps: the steps measure {', '.join(columns)}, but no {unknown[0]!r}")
    return list(wanted)


def plate_grid(places: Sequence[tuple[int, int]]) -> tuple[range, range]:
    """Rows and columns (from 0) to draw: from the first to the last that is used."""
    rows, columns = zip(*places)
    return range(min(rows), max(rows) + 1), range(min(columns), max(columns) + 1)


def heatmap(places: Mapping[str, tuple[int, int]], values: Mapping[str, str], title: str, path: Path) -> None:
    """Draw a feature over the plate's layout.

    Parameters
    ----------
    places
        Well -> (row, column), from 0.
    values
        Well -> value, text; "" where there is none.
    """
    rows, columns = plate_grid(list(places.values()))
    grid = np.full((len(rows), len(columns)), np.nan)
    for well, (row, column) in places.items():
        if is_number(values.get(well, "")):
            grid[row - rows[0], column - columns[0]] = float(values[well])
    figure = _figure(2.2 + 0.55 * len(columns), 1.6 + 0.5 * len(rows))
    axes = figure.add_subplot()
    colours = _colormap()
    drawn = axes.imshow(grid, cmap=colours, aspect="equal")
    _label(axes, rows, columns)
    axes.set_title(title, loc="left", fontsize=11)
    bar = figure.colorbar(drawn, ax=axes, fraction=0.046, pad=0.03)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7, length=2)
    if grid.size <= 96:
        _write_values(axes, grid)
    figure.savefig(path, dpi=150)


def montage(places: Mapping[str, tuple[int, int]], thumbnails: Mapping[str, np.ndarray], title: str,
            path: Path) -> None:
    """Draw all wells' thumbnails on the plate's layout, a panel a channel, each channel on one grey scale.

    Parameters
    ----------
    places
        Well -> (row, column), from 0.
    thumbnails
        Well -> (C, Y, X).
    """
    rows, columns = plate_grid(list(places.values()))
    y, x = (max((t.shape[axis] for t in thumbnails.values()), default=8) for axis in (1, 2))
    channels = max((t.shape[0] for t in thumbnails.values()), default=1)
    cell = 0.62 if len(columns) <= 12 else 0.31
    figure = _figure(0.6 + channels * (0.4 + cell * len(columns)), 0.9 + cell * y / x * len(rows))
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    for channel in range(channels):
        sheet = np.full((len(rows) * (y + 2), len(columns) * (x + 2)), np.nan)
        for well, picture in thumbnails.items():
            row, column = places[well]
            top, left = (row - rows[0]) * (y + 2) + 1, (column - columns[0]) * (x + 2) + 1
            for plane in picture[channel:channel + 1]:
                sheet[top:top + plane.shape[0], left:left + plane.shape[1]] = plane
        axes = figure.add_subplot(1, channels, channel + 1)
        low, high = np.nanpercentile(sheet, [1, 99.7]) if np.isfinite(sheet).any() else (0, 1)
        axes.imshow(sheet, cmap=_colormap("gray"), vmin=low, vmax=max(high, low + 1), interpolation="nearest",
                    extent=(-0.5, len(columns) - 0.5, len(rows) - 0.5, -0.5), aspect=y / x)
        axes.set_title(f"channel {channel}", loc="left", fontsize=9)
        _label(axes, rows, columns)
    figure.savefig(path, dpi=200)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(min(width, 24), min(height, 24)), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _colormap(name: str = "viridis") -> Any:
    """The colour map, with a light grey for wells without a value."""
    from matplotlib import colormaps

    return colormaps[name].with_extremes(bad="#e8e8e8")


def _label(axes: Any, rows: range, columns: range) -> None:
    """Wells' letters and numbers at the axes, every one or as many as can be read."""
    from openhcs_omero.plates.paths import well_name

    every = 1 if len(columns) <= 24 else 4
    shown = range(0, len(columns), every)
    axes.set_xticks(list(shown), [str(columns[i] + 1) for i in shown], fontsize=7)
    axes.set_yticks(range(len(rows)), [well_name(row, 0)[:-2] for row in rows], fontsize=7)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def _write_values(axes: Any, grid: np.ndarray) -> None:
    middle = (np.nanmin(grid) + np.nanmax(grid)) / 2 if np.isfinite(grid).any() else 0
    for (row, column), value in np.ndenumerate(grid):
        if np.isfinite(value):
            axes.text(column, row, f"{value:.3g}", ha="center", va="center", fontsize=6,
                      color="black" if value > middle else "white")
