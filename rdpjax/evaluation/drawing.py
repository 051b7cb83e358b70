"""Common parts of all figures: page and heading, colours, real and synthetic overlaid.

matplotlib is imported on drawing only, so that numeric scores need none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from rdpjax.evaluation.score import NOTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's blue and vermilion: distinct for colour-blind readers and in greyscale.
REAL, SYNTHETIC = "#0072B2", "#D55E00"
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, QUIET, FAINT = "#333333", "#777777", "#DDDDDD"
_SIDES = ((REAL, "real"), (SYNTHETIC, "synthetic"))
_MARGIN = 0.12  # inches between the left edge and the heading
_LINE = 0.2  # inches per line of the heading
_MOST_NUMBERED = 5  # most levels with their shares printed above the bars


def run_title(
    name: str, epsilon: float | None, delta: float | None = None, *, simulated: bool = False
) -> str:
    """Format a run's name and its privacy claim, for the heading of its figures.

    Args:
      name: of the run.
      epsilon: of the claim; None for a run without privacy.
      delta: of the claim.
      simulated: whether its records were simulated.

    Examples:
      >>> run_title("ward-7", 5.0, 1e-5)
      'run ward-7, epsilon 5.000 at delta 1e-05'
      >>> run_title("ward-7", None, simulated=True)
      'run ward-7, without privacy, SIMULATED DATA'
    """
    claim = "without privacy" if epsilon is None else f"epsilon {epsilon:.3f} at delta {delta:g}"
    return f"run {name}, {claim}{', SIMULATED DATA' if simulated else ''}"


class Page:
    """Figure under a heading: content, run, and the notice that it must not be published.

    It has a separate canvas without pyplot: no global state and no display.

    Args:
      width: inches.
      height: inches of the body.
      shows: content of the figure.
      title: the run and its claim, from `run_title`; may be empty.
      remarks: further lines, such as sample sizes and the place of the largest gap.
      legend: whether to explain blue and vermilion.

    Attributes:
      body: the sub-figure to draw in.
    """

    def __init__(
        self,
        width: float,
        height: float,
        shows: str,
        title: str,
        remarks: Sequence[str] = (),
        *,
        legend: bool = False,
    ) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        lines = [
            (f"{shows}: {title}" if title else shows, INK, "bold"),
            (NOTE[0].upper() + NOTE[1:], "#A00000", "bold"),
            *((line, QUIET, "normal") for r in remarks for line in wrap(r, int(13 * width))),
        ]
        top = _LINE * (len(lines) + 0.6)
        layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06)
        self._figure = Figure(figsize=(width, top + height), layout=layout, facecolor="white")
        FigureCanvasAgg(self._figure)
        parts = self._figure.subfigures(2, 1, height_ratios=[top, height], squeeze=False)
        head, self.body = parts.flat
        for i, (text, ink, weight) in enumerate(lines):
            y = 1 - _LINE * (i + 0.5) / top
            head.text(_MARGIN / width, y, text, color=ink, fontsize=9, fontweight=weight, va="top")
        self._head = head
        if legend:
            real = Patch(color=REAL, alpha=0.35)
            synthetic = Line2D([], [], color=SYNTHETIC, linewidth=1.3)
            self.legend([real, synthetic], ["real", "synthetic"])

    def legend(self, handles: Sequence[Any], labels: Sequence[str]) -> None:
        """Draw the legend on the last line of the heading, since the title may fill the first."""
        self._head.legend(
            handles,
            labels,
            loc="lower right",
            ncols=len(labels),
            frameon=False,
            fontsize=9,
            borderaxespad=0,
        )

    def save(self, path: Path | str) -> None:
        """Write the figure; the suffix of `path` is the format (.png, .svg, .pdf)."""
        self._figure.savefig(path, dpi=130)


def plain(axes: Axes, title: str, size: float = 10) -> None:
    """Set a panel's title, `size` points high, and reduce its axes."""
    axes.set_title(title, fontsize=size, color=INK, loc="left", fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#999999")
    axes.tick_params(labelsize=8, colors=INK, length=3)
    axes.set_axisbelow(True)


def draw_histograms(axes: Axes, heights: np.ndarray, edges: np.ndarray) -> None:
    """Draw two histograms `[2, bins]`: the real one filled, the synthetic one as a line over it."""
    for (colour, label), own in zip(_SIDES, heights, strict=True):
        filled = label == "real"
        axes.stairs(
            own, edges, fill=filled, color=colour, alpha=0.35 if filled else 1.0, linewidth=1.3
        )
    axes.set_ylim(bottom=0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def draw_levels(axes: Axes, shares: np.ndarray, levels: Sequence[object]) -> None:
    """Draw the shares `[2, levels]` of a category: real filled, synthetic as a line over it.

    A few levels have their shares printed above the bars in per cent, on a fixed scale to 100 %;
    many levels have an axis.
    """
    at = np.arange(len(levels))
    axes.bar(at, shares[0], 0.8, color=REAL, alpha=0.35, linewidth=0)
    axes.bar(at, shares[1], 0.8, facecolor="none", edgecolor=SYNTHETIC, linewidth=1.3)
    if len(levels) <= _MOST_NUMBERED:
        for i, pair in enumerate(shares.T):
            top = pair.max() + 0.02
            axes.text(i - 0.03, top, f"{100 * pair[0]:.1f}", color=REAL, fontsize=7, ha="right")
            axes.text(i + 0.03, top, f"{100 * pair[1]:.1f}", color=SYNTHETIC, fontsize=7)
        axes.set_ylim(0, 1.15)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
    else:
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
        axes.tick_params(axis="x", rotation=90 if max(len(str(v)) for v in levels) > 2 else 0)
    axes.set_xticks(at, [str(level) for level in levels])


def total_variation(shares: np.ndarray) -> float:
    """Compute the total variation distance of two rows of shares `[2, bins]`, in [0, 1].

    Examples:
      >>> total_variation(np.array([[0.5, 0.5], [0.25, 0.75]]))
      0.25
    """
    return float(np.abs(shares[0] - shares[1]).sum() / 2)


def show_gap(axes: Axes, gap: float) -> None:
    """Write a total variation distance to the right of a panel's title."""
    text = f"gap {gap:.3f}"
    axes.set_title(text, fontsize=7, color=QUIET, loc="right", fontweight="normal")


def largest_gap(gaps: dict[str, float]) -> str:
    """Format the column with the largest total variation distance.

    Examples:
      >>> largest_gap({"age": 0.01, "weight": 0.034})
      'largest gap: weight, 0.034 (gap: total variation distance, 0 is identical, 1 is disjoint)'
    """
    if not gaps:
        return ""
    worst = max(gaps, key=lambda name: gaps[name])
    told = "total variation distance, 0 is identical, 1 is disjoint"
    return f"largest gap: {worst}, {gaps[worst]:.3f} (gap: {told})"


def sizes(real: int, synthetic: int, of: str) -> str:
    """Format the numbers of records in a figure.

    Examples:
      >>> sizes(2400, 50000, "rows")
      'drawn from 2,400 real and 50,000 synthetic rows'
    """
    return f"drawn from {real:,} real and {synthetic:,} synthetic {of}"


def show_clipped(axes: Axes, values: np.ndarray, low: float, high: float) -> None:
    """Write below a panel the proportion of the real `values` beyond the bounds.

    Training clips such values to the bounds, where they form peaks.
    """
    known = values[~np.isnan(values)]
    if not known.size:
        return
    parts = [
        f"{_percent(share)} {side} {bound:g}"
        for share, side, bound in (
            ((known < low).mean(), "below", low),
            ((known > high).mean(), "above", high),
        )
        if share > 0
    ]
    if parts:
        axes.set_xlabel(f"real, clipped: {', '.join(parts)}", fontsize=6.5, color=QUIET)


def _percent(share: float) -> str:
    return "<0.1 %" if share < 0.001 else f"{100 * share:.1f} %"
