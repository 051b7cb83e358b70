"""Figures of tables: densities, correlations side by side, and training curves of each stage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from rdpjax.data.schema import Categorical, Numeric, Schema
from rdpjax.evaluation.drawing import (
    CYCLE,
    FAINT,
    INK,
    QUIET,
    Page,
    draw_histograms,
    draw_levels,
    largest_gap,
    plain,
    show_clipped,
    show_gap,
    sizes,
    total_variation,
)
from rdpjax.evaluation.tables import bounds, level_codes, numbers, ordered, shown_in

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PARTS = 60  # equal public bins of a numeric
_SHARES = ("clipped",)
_UNITS = {"drawn": "records", "clipped": "share of the draw"}
_MEANINGS = {
    "loss": "mean loss of the drawn real records, before clipping and noise",
    "fake_loss": "mean loss of the discriminator on generated records; it reads no real one",
    "clipped": "share of the drawn records whose gradient was longer than the clip norm. Near 1 is "
    "usual, and costs no privacy; at 0 a smaller clip norm would bring less noise",
    "drawn": "records in each step's draw; every one is drawn by itself, so that the size varies",
}


def plot_densities(
    real: pd.DataFrame,
    synthetic: pd.DataFrame,
    schema: Schema,
    path: Path | str,
    title: str = "",
) -> None:
    """Draw every column's distribution, real and synthetic, as small multiples.

    Args:
      real: canonical frame of real records; the figure then belongs in `internal/`.
      synthetic: canonical frame of synthetic records.
      schema: columns, units, bounds and levels.
      path: file to write; its suffix is the format (.png, .svg, .pdf).
      title: the run and its claim, from `run_title`.
    """
    names = ordered(synthetic, schema)
    sides = (real, synthetic)
    drawn = {name: _shares(schema, name, sides) for name in names}
    gaps = {name: total_variation(shares) for name, (shares, _) in drawn.items()}
    across = min(4, len(names))
    down = -(-len(names) // across)
    page = Page(
        max(2.9 * across, 6),
        2.1 * down,
        f"Distributions of {schema.name}",
        title,
        [sizes(len(real), len(synthetic), "rows"), largest_gap(gaps)],
        legend=True,
    )
    grid = page.body.subplots(down, across, squeeze=False).flat
    # The axes are last, since zip consumes an item of its first iterable before it stops.
    for (name, (shares, edges)), axes in zip(drawn.items(), grid, strict=False):
        column = schema.column(name)
        if isinstance(column, Numeric):
            divisor, unit = shown_in(column)
            plain(axes, f"{name} ({unit})" if unit else name)
            draw_histograms(axes, shares, edges)
            shown = np.flatnonzero(shares.max(axis=0) > 0.001)
            if shown.size:
                axes.set_xlim(edges[shown[0]], edges[shown[-1] + 1])
            values = real[name].to_numpy(np.float64, na_value=np.nan)
            show_clipped(axes, values / divisor, *bounds(column))
        else:
            plain(axes, f"{name} (%)")
            draw_levels(axes, shares, (*column.levels, *("missing",) * bool(column.missing)))
        show_gap(axes, gaps[name])
    for axes in list(grid):
        axes.set_axis_off()
    page.save(path)


def _shares(
    schema: Schema, name: str, sides: tuple[pd.DataFrame, pd.DataFrame]
) -> tuple[np.ndarray, np.ndarray]:
    """Compute each side's share in every bin or level, `[2, bins]`, and the bins' edges."""
    column = schema.column(name)
    if isinstance(column, Categorical):
        counts = [np.bincount(level_codes(s, column), minlength=column.outcomes) for s in sides]
        edges = np.arange(column.outcomes + 1) - 0.5
    else:
        low, high = bounds(column)
        # Bins of whole resolution steps, since others would show heaping as a spurious comb.
        step = column.cell / shown_in(column)[0]
        width = step * max(1, round((high - low) / _PARTS / step))
        edges = np.arange(low, high + 2 * width, width) - _before(column) / shown_in(column)[0]
        counts = [np.histogram(numbers(s, schema, [name])[name], edges)[0] for s in sides]
    return np.array([c / max(len(s), 1) for c, s in zip(counts, sides, strict=True)]), edges


def _before(column: Numeric) -> float:
    """Return the distance from the left edge of a bar to the first value in it.

    Where values are rounded ones, each lies in the middle of what it stands for: an edge at the
    value itself would put the bar to its right. Elsewhere the edge is the bin's, less what the
    codec allows for rounding errors, which would choose the bar of a value on an edge.
    """
    rounded = {"grid": column.resolution / 2, "start": column.cell / 2}
    return rounded.get(column.within, 1e-6 * column.cell)


def plot_correlations(
    real: pd.DataFrame,
    synthetic: pd.DataFrame,
    schema: Schema,
    path: Path | str,
    title: str = "",
) -> None:
    """Draw the Pearson correlations of all columns, real and synthetic, and their difference.

    Values are clipped to the public bounds first. Arguments as for `plot_densities`.
    """
    names = list(ordered(synthetic, schema))
    a, b = (numbers(frame, schema, names).corr().to_numpy() for frame in (real, synthetic))
    a, b = np.nan_to_num(a), np.nan_to_num(b)  # undefined correlations (no spread) count as 0
    size = 0.36 * len(names) + 1.0
    page = Page(
        3 * size + 1.4,
        size + 0.8,
        f"Correlations of {schema.name}",
        title,
        [sizes(len(real), len(synthetic), "rows"), largest_correlation_gap(a, b, names)],
    )
    panels = page.body.subplots(1, 3, sharey=True)
    bound = max(0.1, np.abs(b - a).max())
    pictures = (
        (a, "real", 1.0, 0.05),
        (b, "synthetic", 1.0, 0.05),
        (b - a, "synthetic less real", bound, 0.01),
    )
    for axes, (matrix, name, most, least) in zip(panels, pictures, strict=True):
        _matrix(axes, matrix, names, most, least)
        plain(axes, name)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    for image, where in ((panels[1].images[0], panels[:2]), (panels[2].images[0], panels[2:])):
        bar = page.body.colorbar(image, ax=list(where), shrink=0.8, pad=0.01)
        bar.ax.tick_params(labelsize=8, colors=INK)
        bar.outline.set_visible(False)
    page.save(path)


def _matrix(axes: Axes, matrix: np.ndarray, names: list[str], most: float, least: float) -> None:
    """Draw a matrix without its diagonal, with numbers from `least` on."""
    from matplotlib import colormaps

    colours = colormaps["PuOr_r"].with_extremes(bad=FAINT)
    off = np.where(np.eye(len(matrix), dtype=bool), np.nan, matrix)
    axes.imshow(off, vmin=-most, vmax=most, cmap=colours)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    for (i, j), value in np.ndenumerate(off):
        if abs(value) >= least:
            ink = "white" if abs(value) > 0.6 * most else INK
            axes.text(j, i, _short(value), ha="center", va="center", fontsize=6.5, color=ink)


def largest_correlation_gap(a: np.ndarray, b: np.ndarray, names: list[str]) -> str:
    """Format the pair of columns where two correlation matrices differ most.

    Examples:
      >>> a, b = np.array([[1, 0.45], [0.45, 1]]), np.array([[1, 0.35], [0.35, 1]])
      >>> largest_correlation_gap(a, b, ["gluc", "smoke"])
      'largest gap: .10 between gluc and smoke (real .45, synthetic .35)'
    """
    if len(names) < 2:
        return ""
    gaps = np.triu(np.abs(a - b), 1)
    i, j = np.unravel_index(int(gaps.argmax()), gaps.shape)
    gap, real, synthetic = _short(gaps[i, j]), _short(a[i, j]), _short(b[i, j])
    sides = f"(real {real}, synthetic {synthetic})"
    return f"largest gap: {gap} between {names[i]} and {names[j]} {sides}"


def _short(value: float) -> str:
    """Format a correlation with two digits, without the leading zero."""
    return f"{value:.2f}".replace("0.", ".", 1)


def plot_losses(rows: Iterable[Mapping[str, Any]], path: Path | str, title: str = "") -> None:
    """Draw each stage's logged metrics over its steps, a panel per metric, a row per stage.

    Args:
      rows: dictionaries with `stage`, `step` and numbers by name, as in `internal/metrics.jsonl`.
        Values that are not numbers, and missing ones, are left out.
      path: file to write; its suffix is the format.
      title: the run and its claim, from `run_title`.
    """
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in rows:
        logged = curves.setdefault(str(row["stage"]), {})
        for name, value in row.items():
            numeric = isinstance(value, int | float) and not isinstance(value, bool)
            if numeric and name not in ("stage", "step"):
                logged.setdefault(name, []).append((float(row["step"]), float(value)))
    curves = {
        stage: dict(sorted(lines.items(), key=lambda line: _place(line[0])))
        for stage, lines in curves.items()
        if lines
    }
    across = max((len(lines) for lines in curves.values()), default=1)
    logged_names = {name for lines in curves.values() for name in lines}
    page = Page(
        max(3.0 * across, 9),
        2.2 * max(len(curves), 1),
        "Training",
        title,
        [f"{name}: {told}" for name, told in _MEANINGS.items() if name in logged_names],
    )
    # One row of panels per stage, as wide as the page whatever their number.
    lanes = page.body.subfigures(max(len(curves), 1), 1, squeeze=False).flat
    for lane, (stage, lines), colour in zip(lanes, curves.items(), cycle(CYCLE), strict=False):
        grid = lane.subplots(1, len(lines), squeeze=False).flat
        for axes, (name, points) in zip(grid, lines.items(), strict=True):
            plain(axes, f"{stage}: {name}")
            _curve(axes, name, np.array(points).T, colour)
    page.save(path)


def _place(name: str) -> int:
    """Return the sort key of a metric among a stage's panels: documented ones come first."""
    known = list(_MEANINGS)
    return known.index(name) if name in known else len(known)


def _curve(axes: Axes, name: str, points: np.ndarray, colour: str) -> None:
    steps, values = points
    axes.plot(steps, values, color=colour, linewidth=1.2, marker="." * (len(steps) < 3))
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_xlabel("step", fontsize=8, color=INK)
    axes.set_ylabel(_UNITS.get(name, ""), fontsize=8, color=INK)
    if name in _SHARES:
        axes.set_ylim(-0.02, 1.02)  # fixed limits: a constant 0 or 1 is drawn at the edge
    elif name in _UNITS:
        axes.set_ylim(0, 1.08 * max(1, np.nanmax(values)))
    finite = values[np.isfinite(values)]
    if finite.size > 1 and np.ptp(finite) == 0:
        text = f"always {finite[0]:g}"
        axes.set_title(text, fontsize=7, color=QUIET, loc="right", fontweight="normal")
        if name not in _UNITS:
            axes.set_ylim(finite[0] - 1, finite[0] + 1)
