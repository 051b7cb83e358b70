"""ROC curves of membership attacks, with the bound of an (epsilon, delta) claim on any attack."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rdpjax.audits.findings import PRIVATE
from rdpjax.errors import UserError
from rdpjax.evaluation.attacks import allowed_rate

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
_INK, _FAINT = "#333333", "#DDDDDD"


def draw(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    epsilon: float,
    delta: float,
    title: str,
    path: Path,
) -> None:
    """Draw each attack's ROC curve on logarithmic axes, which show small rates.

    Args:
      curves: scores of members and of others, by attack.
      epsilon: of the claim.
      delta: of the claim.
      title: the subject of the audit.
      path: file to write; its suffix determines the format (.png, .svg, .pdf).

    Raises:
      UserError: the file cannot be written, or its suffix is no known format.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(5.5, 5.5), layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    least = 1 / (2 * max(len(others) for _, others in curves.values()))
    rates = np.geomspace(least, 1, 200)
    bound = [allowed_rate(float(rate), epsilon, delta) for rate in rates]
    axes.fill_between(rates, bound, 1, color=_FAINT, label=f"ruled out by epsilon {epsilon:.2f}")
    axes.plot(rates, rates, color=_INK, linewidth=1, linestyle=":", label="guessing")
    for (name, (members, others)), colour in zip(curves.items(), _COLOURS, strict=False):
        thresholds = np.unique(np.concatenate([members, others]))[::-1]
        accused, found = (
            1 - np.searchsorted(np.sort(scores), thresholds, side="left") / len(scores)
            for scores in (others, members)
        )
        axes.plot(np.maximum(accused, least), np.maximum(found, least), color=colour, label=name)
    axes.set(xscale="log", yscale="log", xlim=(least, 1), ylim=(least, 1))
    axes.set_xlabel("false-positive rate: non-members called members", fontsize=9, color=_INK)
    axes.set_ylabel("true-positive rate: members called members", fontsize=9, color=_INK)
    axes.set_title(title, fontsize=10, color=_INK, loc="left", fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    figure.text(0.99, 0.005, PRIVATE, ha="right", va="bottom", fontsize=7, color=_COLOURS[1])
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be written ({error}); name a .png, .svg or .pdf") from None
