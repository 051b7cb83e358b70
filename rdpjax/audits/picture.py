"""Bar chart of an audit: epsilon claimed, measured, and certifiable at most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from rdpjax.audits.findings import PRIVATE, Finding
from rdpjax.errors import UserError

_INK, _FAINT, _CLAIMED, _STANDS, _EXCEEDED = "#333333", "#DDDDDD", "#0072B2", "#009E73", "#D55E00"


def draw(findings: Sequence[Finding], title: str, path: Path) -> None:
    """Draw each attack as a bar up to its lower bound, in a frame up to its ceiling.

    The confidence is the last part of a name.

    Args:
      findings: one or more.
      title: the subject of the audit.
      path: file to write; its suffix determines the format (.png, .svg, .pdf).

    Raises:
      UserError: the file cannot be written, or its suffix is no known format.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(8, 1.6 + 0.5 * len(findings)), layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    # A ceiling may be many times the claim: its frame is then cut off and labelled with the number.
    shown = [value for f in findings for value in (f.claimed, f.measured) if math.isfinite(value)]
    most = 1.4 * max(shown, default=0.0) or 1.0
    most = max(most, *(1.05 * f.ceiling for f in findings if f.ceiling < 6 * most), 0.0)
    for row, found in enumerate(findings):
        frame = min(found.ceiling, 2 * most)
        axes.barh(row, frame, 0.7, color="none", edgecolor=_FAINT, linewidth=1.5)
        if frame > most:
            note = f"up to {found.ceiling:.3g} "
            axes.text(most, row + 0.28, note, ha="right", fontsize=6, color=_INK)
        colour = _EXCEEDED if found.exceeds else _STANDS
        axes.barh(row, min(found.measured, 2 * most), 0.4, color=colour)
        axes.plot([found.claimed] * 2, [row - 0.4, row + 0.4], color=_CLAIMED, linewidth=2.5)
        axes.text(found.measured, row, f" {found.measured:.2f}", va="center", fontsize=8)
    names = [f"{f.attack.strip()}, {f.confidence:.4g}" for f in findings]
    axes.set_yticks(range(len(findings)), names, fontsize=8, color=_INK)
    axes.invert_yaxis()
    axes.set_xlim(0, most)
    axes.set_xlabel("epsilon, at the delta of each row", fontsize=8, color=_INK)
    axes.set_title(title, fontsize=10, color=_INK, loc="left", fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    kinds = {
        "claimed": _CLAIMED,
        "measured: the claim stands": _STANDS,
        "measured: above the claim": _EXCEEDED,
        "the most that this audit could certify": _FAINT,
    }
    handles = [
        axes.plot([], [], linewidth=4, label=name, color=colour)[0]
        for name, colour in kinds.items()
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=2,
        frameon=False,
        fontsize=8,
        title=PRIVATE,
    )
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be written ({error}); name a .png, .svg or .pdf") from None
