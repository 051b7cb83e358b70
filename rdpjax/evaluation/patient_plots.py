"""Figures of patients: some side by side, what is measured when, densities, stays and onsets.

All of them draw real patients: they belong into `internal/`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rdpjax.data.stays.patients import Patients
from rdpjax.data.stays.sepsis import LONGEST, STATICS, VARIABLES, Variable
from rdpjax.evaluation.plots import _CYCLE, _FAINT, _INK, _REAL, _SYNTHETIC, _figure, _plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DRAWN = ("HR", "O2Sat", "SBP", "MAP", "DBP", "Resp")  # on one axis: all lie within 0 to 240
_POSITIVE = 4  # of the dozen: one in eighteen, as there are, would show none
_PARTS = 60  # bins of a variable in its picture, at most
_OTHER_EDGES = {"Age": np.arange(0, 106, 5) - 0.5, "HospAdmTime": np.arange(-240, 1, 6.0)}
_STAY_EDGES = np.arange(0, LONGEST + 7, 6) + 0.5


def plot_patients(real: Patients, synthetic: Patients, path: Path | str, hours: int = 24) -> None:
    """Draw the vital signs of a dozen real patients beside those of a dozen synthetic ones.

    They are the first ones of each side: four that turn positive, then eight that do not, as far
    as there are so many.

    Args:
      real: real patients.
      synthetic: synthetic patients.
      path: file to write; its suffix says the format (.png, .svg, .pdf).
      hours: how many hours of a stay are drawn.
    """
    figure = _figure(13, 13)
    left, right = figure.subfigures(1, 2, squeeze=False)[0]
    for part, patients, title in ((left, real, "real"), (right, synthetic, "synthetic")):
        grid = part.subplots(6, 2, sharex=True, sharey=True)
        for axes in grid.flat:
            axes.set_axis_off()
        chosen = patients.take(_dozen(patients))
        for i, axes in zip(range(len(chosen)), grid.flat, strict=False):
            axes.set_axis_on()
            _vitals(axes, chosen, i, hours)
        part.suptitle(title, fontsize=12, color=_INK, fontweight="bold")
        grid[-1, 0].set_xlabel("hour of the stay", fontsize=8, color=_INK)
    handles, labels = right.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=8, frameon=False, fontsize=9)
    figure.savefig(path, dpi=120)


def _dozen(patients: Patients) -> np.ndarray:
    positive = patients.onset >= 0
    sick = np.flatnonzero(positive)[:_POSITIVE]
    return np.concatenate([sick, np.flatnonzero(~positive)[: 12 - len(sick)]])


def _vitals(axes: Axes, patients: Patients, i: int, hours: int) -> None:
    start, end = patients.starts[i : i + 2]
    names = [variable.name for variable in VARIABLES]
    hour = np.arange(1, min(end - start, hours) + 1)
    for name, colour in zip(_DRAWN, _CYCLE, strict=True):
        values = patients.values[start : start + len(hour), names.index(name)]
        there = ~np.isnan(values)
        axes.plot(hour[there], values[there], ".-", color=colour, ms=3, linewidth=1, label=name)
    if patients.onset[i] >= 0:
        axes.axvspan(
            patients.onset[i] + 1, hours + 0.5, color=_FAINT, alpha=0.7, label="label positive"
        )
    onset = f", positive from hour {patients.onset[i] + 1}" if patients.onset[i] >= 0 else ""
    _plain(axes, "")
    axes.set_title(f"{end - start} hours{onset}", fontsize=8, color=_INK, loc="left")
    axes.set_xlim(0.5, hours + 0.5)
    axes.set_ylim(0, 240)


def plot_missingness(
    real: Patients, synthetic: Patients, path: Path | str, hours: int = 24
) -> None:
    """Draw the share of patients still there in whom a variable was measured, hour by hour.

    Arguments as for `plot_patients`.
    """
    from matplotlib.colors import AsinhNorm

    figure = _figure(12, 8)
    # Laboratory values lie near 0: on a straight scale they would all look alike.
    norm = AsinhNorm(0.02, vmin=0, vmax=1)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, patients, title in zip(panels, (real, synthetic), ("real", "synthetic"), strict=True):
        axes.imshow(
            measured_shares(patients, hours),
            norm=norm,
            cmap="cividis",
            aspect="auto",
            interpolation="nearest",
            extent=(0.5, hours + 0.5, len(VARIABLES) - 0.5, -0.5),
        )
        _plain(axes, title)
        axes.set_yticks(range(len(VARIABLES)), [variable.name for variable in VARIABLES])
        axes.set_xlabel("hour of the stay", fontsize=8, color=_INK)
    ticks = [0, 0.01, 0.03, 0.1, 0.3, 1]
    bar = figure.colorbar(panels[0].images[0], ax=panels, shrink=0.8, pad=0.01)
    bar.set_ticks(ticks, labels=[f"{100 * tick:g} %" for tick in ticks], minor=False)
    bar.ax.tick_params(labelsize=8, colors=_INK)
    bar.ax.minorticks_off()
    bar.outline.set_visible(False)
    figure.savefig(path, dpi=120)


def measured_shares(patients: Patients, hours: int) -> np.ndarray:
    """Share of the patients still there whose variable was measured, `[34, hours]`; NaN if none.

    Examples:
      >>> values = np.full((3, 34), np.nan, np.float32); values[[0, 2], 0] = 80, 90
      >>> two = Patients(values, np.array([0, 2, 3]), np.ones(2), np.array([-1, -1]),
      ...                np.zeros((2, 5), np.float32), ("a", "b"))
      >>> measured_shares(two, 3)[0].tolist()
      [1.0, 0.0, nan]
    """
    shares = np.full((len(VARIABLES), hours), np.nan)
    row = patients.row
    for hour in range(hours):
        there = patients.values[row == hour]
        if len(there):
            shares[:, hour] = (~np.isnan(there)).mean(axis=0)
    return shares


def plot_patient_densities(
    real: Patients, synthetic: Patients, path: Path | str, hours: int = 24
) -> None:
    """Draw every variable's distribution over all measured hours, as small multiples.

    Arguments as for `plot_patients`.
    """
    across, down = 6, 6
    figure = _figure(2.4 * across, 1.9 * down + 0.5)
    grid = figure.subplots(down, across)
    rows = [patients.values[patients.row < hours] for patients in (real, synthetic)]
    pictures = [
        (v.name, v.unit, _edges(v), [part[:, j] for part in rows], _skewed(v))
        for j, v in enumerate(VARIABLES)
    ]
    for name, edges in _OTHER_EDGES.items():
        unit = {"Age": "years", "HospAdmTime": "hours"}[name]
        values = [side.statics[:, STATICS.index(name)] for side in (real, synthetic)]
        pictures.append((name, unit, edges, values, False))
    for axes, (name, unit, edges, values, skewed) in zip(grid.flat, pictures, strict=True):
        _plain(axes, f"{name} ({unit})" if unit else name)
        axes.title.set_fontsize(8)
        _outline(axes, values, edges)
        if skewed:
            axes.set_xscale("log")
            axes.set_xlim(edges[0], edges[-1])
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False, fontsize=10)
    figure.savefig(path, dpi=120)


def _skewed(variable: Variable) -> bool:
    return 0 < 50 * variable.low <= variable.high


def _edges(variable: Variable) -> np.ndarray:
    """Bins of whole steps, as heaped values would make a comb of others; wider where skewed."""
    low, high = round(variable.low / variable.step), round(variable.high / variable.step)
    if _skewed(variable):
        borders = np.unique(np.rint(np.geomspace(low, high + 1, _PARTS // 2)))
    else:
        width = max(1, round((high - low) / _PARTS))
        borders = np.arange(low, high + width + 1, width)
    return (borders - 0.5) * variable.step


def _outline(axes: Axes, sides: list[np.ndarray], edges: np.ndarray) -> None:
    """Histograms of the real and the synthetic values; what lies outside is in the outer bins."""
    for values, colour, label in zip(
        sides, (_REAL, _SYNTHETIC), ("real", "synthetic"), strict=True
    ):
        known = np.clip(values[~np.isnan(values)], edges[0], edges[-1])
        heights = np.histogram(known, edges)[0] / max(len(known), 1)
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
    axes.set_ylim(bottom=0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def plot_stays(real: Patients, synthetic: Patients, path: Path | str) -> None:
    """Draw lengths of stay, and among those who turn positive the hour of the stay it happens in.

    Args:
      real: real patients.
      synthetic: synthetic patients.
      path: file to write; its suffix says the format.
    """
    figure = _figure(11, 3.4)
    panels = figure.subplots(1, 2)
    sides = (real, synthetic)
    shares = [100 * (side.onset >= 0).mean() for side in sides]
    _plain(panels[0], "length of stay (hours)")
    _outline(panels[0], [side.stays.astype(float) for side in sides], _STAY_EDGES)
    _plain(
        panels[1], f"onset (hour of the stay): real {shares[0]:.1f} %, synthetic {shares[1]:.1f} %"
    )
    onsets = [side.onset[side.onset >= 0] + 1.0 for side in sides]
    _outline(panels[1], onsets, _STAY_EDGES)
    for axes in panels:
        axes.set_yscale("symlog", linthresh=0.01)
    panels[0].legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=120)
