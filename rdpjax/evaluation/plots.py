"""Figures: real against synthetic densities, correlations side by side, losses per stage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from rdpjax.data.schema import Numeric, Schema
from rdpjax.evaluation.tables import (
    bounds,
    level_codes,
    numbers,
    ordered,
    shown_in,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's blue and vermilion: apart for every kind of colour vision, and in grey print.
_REAL, _SYNTHETIC = "#0072B2", "#D55E00"
_CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_INK, _FAINT = "#333333", "#DDDDDD"
_PARTS = 60  # equal public bins of a numeric in its picture


def _figure(width: float, height: float) -> Figure:
    """A figure with its own canvas: no pyplot, so no global state and no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    figure = Figure(figsize=(width, height), layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _plain(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=10, color=_INK, loc="left", fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#999999")
    axes.tick_params(labelsize=8, colors=_INK, length=3)
    axes.set_axisbelow(True)


def plot_densities(
    real: pd.DataFrame, synthetic: pd.DataFrame, schema: Schema, path: Path | str
) -> None:
    """Draw every column's distribution, real and synthetic, as small multiples.

    Args:
      real: canonical frame of real records; the picture then belongs into `internal/`.
      synthetic: canonical frame of synthetic records.
      schema: columns, units, bounds and levels.
      path: file to write; its suffix says the format (.png, .svg, .pdf).
    """
    names = ordered(synthetic, schema)
    across = min(4, len(names))
    down = -(-len(names) // across)
    figure = _figure(2.9 * across, 2.1 * down + 0.5)
    grid = figure.subplots(down, across, squeeze=False).flat
    for axes, name in zip(grid, names, strict=False):
        column = schema.column(name)
        if isinstance(column, Numeric):
            _plain(axes, f"{name} ({shown_in(column)[1]})")
            _density(axes, column, real, synthetic, schema)
        else:
            _plain(axes, name)
            _bars(axes, column, real, synthetic)
    for axes in list(grid):
        axes.set_axis_off()
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False, fontsize=10)
    figure.savefig(path, dpi=150)


def _density(
    axes: Axes, column: Numeric, real: pd.DataFrame, synthetic: pd.DataFrame, schema: Schema
) -> None:
    low, high = bounds(column)
    # Whole bins of the resolution, or heaped values make a comb that is not in the records.
    step = column.cell / shown_in(column)[0]
    width = step * max(1, round((high - low) / _PARTS / step))
    edges = np.arange(low, high + 2 * width, width) - (step / 2 if column.within == "start" else 0)
    tops = []
    for frame, colour, label in ((real, _REAL, "real"), (synthetic, _SYNTHETIC, "synthetic")):
        values = numbers(frame, schema, [column.name])[column.name].to_numpy()
        heights = np.histogram(values, edges)[0] / len(values)
        filled = label == "real"
        axes.stairs(
            heights,
            edges,
            fill=filled,
            color=colour,
            alpha=0.35 if filled else 1.0,
            linewidth=1.3,
            label=label,
        )
        tops.append(heights)
    shown = np.flatnonzero(np.max(tops, axis=0) > 0.001)
    if shown.size:
        axes.set_xlim(edges[shown[0]], edges[shown[-1] + 1])
    axes.set_ylim(bottom=0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def _bars(axes: Axes, column: Any, real: pd.DataFrame, synthetic: pd.DataFrame) -> None:
    at = np.arange(column.cells)
    for frame, colour, label, shift in (
        (real, _REAL, "real", -0.2),
        (synthetic, _SYNTHETIC, "synthetic", 0.2),
    ):
        shares = np.bincount(level_codes(frame, column), minlength=column.cells) / len(frame)
        bars = axes.bar(
            at + shift, shares, 0.38, color=colour, alpha=0.5 if label == "real" else 1, label=label
        )
        axes.bar_label(bars, [f"{100 * s:.1f}" for s in shares], fontsize=7, color=_INK, padding=1)
    axes.set_xticks(at, [str(level) for level in column.levels])
    axes.set_ylim(0, 1.12)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.text(1, 1, "%", transform=axes.transAxes, ha="right", fontsize=8, color="#777777")


def plot_correlations(
    real: pd.DataFrame, synthetic: pd.DataFrame, schema: Schema, path: Path | str
) -> None:
    """Draw the Pearson correlations of all columns, real and synthetic side by side.

    Values are clipped to the public bounds first. Arguments as for `plot_densities`.
    """
    names = list(ordered(synthetic, schema))
    a, b = (numbers(frame, schema, names).corr().to_numpy() for frame in (real, synthetic))
    a, b = np.nan_to_num(a), np.nan_to_num(b)  # a column without spread correlates with nothing
    size = 0.36 * len(names) + 1.2
    figure = _figure(2 * size + 1.6, size + 1.0)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, matrix, title in zip(panels, (a, b), ("real", "synthetic"), strict=True):
        axes.imshow(matrix, vmin=-1, vmax=1, cmap="PuOr_r")
        axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names)
        for (i, j), value in np.ndenumerate(matrix):
            if i != j and abs(value) >= 0.05:
                ink = "white" if abs(value) > 0.6 else _INK
                text = f"{value:.2f}".replace("0.", ".")
                axes.text(j, i, text, ha="center", va="center", fontsize=6.5, color=ink)
        _plain(axes, title)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    worst = np.abs(a - b).max()
    panels[1].set_title(f"largest gap {worst:.2f}", fontsize=8, color="#777777", loc="right")
    bar = figure.colorbar(panels[0].images[0], ax=panels, shrink=0.8, pad=0.01)
    bar.ax.tick_params(labelsize=8, colors=_INK)
    bar.outline.set_visible(False)
    figure.savefig(path, dpi=150)


def plot_losses(rows: Iterable[Mapping[str, Any]], path: Path | str) -> None:
    """Draw each stage's logged numbers over its steps, a panel a number, a line of panels a stage.

    Args:
      rows: dictionaries with `stage`, `step` and numbers by name, as `internal/metrics.jsonl` has
        them. Anything that is no number is left out, and so is what a row lacks.
      path: file to write; its suffix says the format.
    """
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in rows:
        logged = curves.setdefault(str(row["stage"]), {})
        for name, value in row.items():
            numeric = isinstance(value, int | float) and not isinstance(value, bool)
            if numeric and name not in ("stage", "step"):
                logged.setdefault(name, []).append((float(row["step"]), float(value)))
    curves = {stage: lines for stage, lines in curves.items() if lines}
    across = max((len(lines) for lines in curves.values()), default=1)
    figure = _figure(max(3.0 * across, 4), 2.2 * max(len(curves), 1))
    grid = figure.subplots(max(len(curves), 1), across, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for line_of_panels, (stage, lines), colour in zip(
        grid, curves.items(), cycle(_CYCLE), strict=False
    ):
        for axes, (name, points) in zip(line_of_panels, lines.items(), strict=False):
            axes.set_axis_on()
            _plain(axes, f"{stage}: {name}")
            steps, values = np.array(points).T
            axes.plot(steps, values, color=colour, linewidth=1.4, marker="." * (len(steps) < 3))
            axes.grid(axis="y", color=_FAINT, linewidth=0.6)
            axes.set_xlabel("step", fontsize=8, color=_INK)
    figure.savefig(path, dpi=150)
