"""Figures of patients: examples, missingness, densities, stays and onsets.

All of them show real patients: they belong in `internal/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rdpjax.data.stays.patients import Patients
from rdpjax.data.stays.sepsis import LONGEST, STATICS, VARIABLES, Variable
from rdpjax.evaluation.drawing import (
    CYCLE,
    FAINT,
    INK,
    Page,
    draw_histograms,
    largest_gap,
    plain,
    show_clipped,
    show_gap,
    sizes,
    total_variation,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DRAWN = ("HR", "O2Sat", "SBP", "MAP", "DBP", "Resp")  # share an axis: all lie within 0 to 240
_POSITIVE = 4  # of twelve: at the prevalence of one in eighteen there might be none
_PARTS = 60  # most bins of a variable's histogram
_OTHER_EDGES = {"Age": np.arange(0, 106, 5) - 0.5, "HospAdmTime": np.arange(-240, 1, 6.0)}
_STAY_EDGES = np.arange(0, LONGEST + 7, 6) + 0.5


def plot_patients(
    real: Patients, synthetic: Patients, path: Path | str, hours: int = 24, title: str = ""
) -> None:
    """Draw the vital signs of twelve real patients beside those of twelve synthetic ones.

    They are the first of each side: four positive ones, then eight negative ones, as far as there
    are so many.

    Args:
      real: real patients.
      synthetic: synthetic patients.
      path: file to write; its suffix is the format (.png, .svg, .pdf).
      hours: number of hours of a stay in the figure.
      title: the run and its claim, from `run_title`.
    """
    remark = "of each side the first four patients that turn positive, and eight that do not"
    page = Page(13, 12, "Vital signs of patients", title, [remark])
    left, right = page.body.subfigures(1, 2, squeeze=False)[0]
    for part, patients, name in ((left, real, "real"), (right, synthetic, "synthetic")):
        grid = part.subplots(6, 2, sharex=True, sharey=True)
        for axes in grid.flat:
            axes.set_axis_off()
        chosen = patients.take(_dozen(patients))
        for i, axes in zip(range(len(chosen)), grid.flat, strict=False):
            axes.set_axis_on()
            _vitals(axes, chosen, i, hours)
        heading = f"{name} ({len(patients):,} patients)"
        part.suptitle(heading, fontsize=12, color=INK, fontweight="bold")
        grid[-1, 0].set_xlabel("hour of the stay", fontsize=8, color=INK)
    handles, labels = right.axes[0].get_legend_handles_labels()
    page.legend(handles, labels)
    page.save(path)


def _dozen(patients: Patients) -> np.ndarray:
    positive = patients.onset >= 0
    sick = np.flatnonzero(positive)[:_POSITIVE]
    return np.concatenate([sick, np.flatnonzero(~positive)[: 12 - len(sick)]])


def _vitals(axes: Axes, patients: Patients, i: int, hours: int) -> None:
    start, end = patients.starts[i : i + 2]
    names = [variable.name for variable in VARIABLES]
    hour = np.arange(1, min(end - start, hours) + 1)
    for name, colour in zip(_DRAWN, CYCLE, strict=True):
        values = patients.values[start : start + len(hour), names.index(name)]
        there = ~np.isnan(values)
        axes.plot(hour[there], values[there], ".-", color=colour, ms=3, linewidth=1, label=name)
    if 0 <= patients.onset[i] < len(hour):
        axes.axvspan(
            patients.onset[i] + 1, len(hour) + 0.5, color=FAINT, alpha=0.7, label="label positive"
        )
    onset = f", positive from hour {patients.onset[i] + 1}" if patients.onset[i] >= 0 else ""
    plain(axes, "")
    axes.set_title(f"{end - start} hours{onset}", fontsize=8, color=INK, loc="left")
    axes.set_xlim(0.5, hours + 0.5)
    axes.set_ylim(0, 240)


def plot_missingness(
    real: Patients, synthetic: Patients, path: Path | str, hours: int = 24, title: str = ""
) -> None:
    """Draw, by hour, the share of patients still present in whom a variable was measured.

    Arguments as for `plot_patients`.
    """
    from matplotlib.colors import AsinhNorm

    sides = (real, synthetic)
    shares = [measured_shares(side, hours) for side in sides]
    count = sizes(len(real), len(synthetic), "patients")
    page = Page(
        12, 7.5, "Share of patients measured, by hour", title, [count, _missing_gap(*shares)]
    )
    # Laboratory values have rates near 0: a linear scale would hide their differences.
    norm = AsinhNorm(0.02, vmin=0, vmax=1)
    panels = page.body.subplots(1, 2, sharey=True)
    for axes, share, side in zip(panels, shares, ("real", "synthetic"), strict=True):
        axes.imshow(
            share,
            norm=norm,
            cmap="cividis",
            aspect="auto",
            interpolation="nearest",
            extent=(0.5, hours + 0.5, len(VARIABLES) - 0.5, -0.5),
        )
        plain(axes, side)
        axes.set_yticks(range(len(VARIABLES)), [variable.name for variable in VARIABLES])
        axes.set_xlabel("hour of the stay", fontsize=8, color=INK)
    ticks = [0, 0.01, 0.03, 0.1, 0.3, 1]
    bar = page.body.colorbar(panels[0].images[0], ax=panels, shrink=0.8, pad=0.01)
    bar.set_ticks(ticks, labels=[f"{100 * tick:g} %" for tick in ticks], minor=False)
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.ax.minorticks_off()
    bar.outline.set_visible(False)
    page.save(path)


def _missing_gap(real: np.ndarray, synthetic: np.ndarray) -> str:
    """Format the variable and hour where the measured shares `[variables, hours]` differ most."""
    gaps = np.nan_to_num(np.abs(real - synthetic))
    i, hour = np.unravel_index(int(gaps.argmax()), gaps.shape)
    if gaps[i, hour] == 0:
        return ""
    a, b = (f"{100 * side[i, hour]:.1f} %" for side in (real, synthetic))
    return f"largest gap: {VARIABLES[i].name} in hour {hour + 1} (real {a}, synthetic {b})"


def measured_shares(patients: Patients, hours: int) -> np.ndarray:
    """Compute each variable's measured share of the patients present, `[34, hours]`; NaN if none.

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
    real: Patients, synthetic: Patients, path: Path | str, hours: int = 24, title: str = ""
) -> None:
    """Draw every variable's distribution over all measured hours, as small multiples.

    Arguments as for `plot_patients`.
    """
    across, down = 6, 6
    sides = (real, synthetic)
    rows = [side.values[side.row < hours] for side in sides]
    pictures = [
        (v.name, v.unit, _edges(v), (v.low, v.high), [part[:, j] for part in rows], _skewed(v))
        for j, v in enumerate(VARIABLES)
    ]
    for name, edges in _OTHER_EDGES.items():
        unit = {"Age": "years", "HospAdmTime": "hours"}[name]
        values = [side.statics[:, STATICS.index(name)] for side in sides]
        pictures.append((name, unit, edges, (edges[0], edges[-1]), values, False))
    shares = {name: _shares(values, edges) for name, _, edges, _, values, _ in pictures}
    # The distance is undefined where one side has no value.
    gaps = {name: total_variation(own) for name, own in shares.items() if own.any(axis=1).all()}
    page = Page(
        2.4 * across,
        1.9 * down,
        "Measured values",
        title,
        [sizes(len(real), len(synthetic), "patients"), largest_gap(gaps)],
        legend=True,
    )
    grid = page.body.subplots(down, across)
    for axes, (name, unit, edges, limits, values, skewed) in zip(grid.flat, pictures, strict=True):
        plain(axes, f"{name} ({unit})" if unit else name, 8)
        draw_histograms(axes, shares[name], edges)
        show_clipped(axes, values[0], *limits)
        if name in gaps:
            show_gap(axes, gaps[name])
        if skewed:
            axes.set_xscale("log")
            axes.set_xlim(edges[0], edges[-1])
    page.save(path)


def _skewed(variable: Variable) -> bool:
    return 0 < 50 * variable.low <= variable.high


def _edges(variable: Variable) -> np.ndarray:
    """Compute bin edges in whole steps, since heaping would show as a comb; wider where skewed."""
    low, high = round(variable.low / variable.step), round(variable.high / variable.step)
    if _skewed(variable):
        borders = np.unique(np.rint(np.geomspace(low, high + 1, _PARTS // 2)))
    else:
        width = max(1, round((high - low) / _PARTS))
        borders = np.arange(low, high + width + 1, width)
    return (borders - 0.5) * variable.step


def _shares(sides: Sequence[np.ndarray], edges: np.ndarray) -> np.ndarray:
    """Compute each side's share in every bin, `[2, bins]`; the outer bins hold values beyond."""
    shares = []
    for values in sides:
        known = np.clip(values[~np.isnan(values)], edges[0], edges[-1])
        shares.append(np.histogram(known, edges)[0] / max(len(known), 1))
    return np.array(shares)


def plot_stays(real: Patients, synthetic: Patients, path: Path | str, title: str = "") -> None:
    """Draw lengths of stay, and the hour of onset of the positive patients.

    Args:
      real: real patients.
      synthetic: synthetic patients.
      path: file to write; its suffix is the format.
      title: the run and its claim, from `run_title`.
    """
    sides = (real, synthetic)
    positive = [100 * (side.onset >= 0).mean() for side in sides]
    pictures = {
        "length of stay": [side.stays.astype(float) for side in sides],
        "onset": [side.onset[side.onset >= 0] + 1.0 for side in sides],
    }
    names = {
        "length of stay": "length of stay (hours)",
        "onset": f"onset (hour): real {positive[0]:.1f} %, synthetic {positive[1]:.1f} %",
    }
    shares = {name: _shares(values, _STAY_EDGES) for name, values in pictures.items()}
    gaps = {name: total_variation(own) for name, own in shares.items() if own.any(axis=1).all()}
    page = Page(
        11,
        3.2,
        "Stays and onsets of sepsis",
        title,
        [sizes(len(real), len(synthetic), "patients"), largest_gap(gaps)],
        legend=True,
    )
    for axes, (name, own) in zip(page.body.subplots(1, 2), shares.items(), strict=True):
        plain(axes, names[name])
        draw_histograms(axes, own, _STAY_EDGES)
        axes.set_yscale("symlog", linthresh=0.01)
        axes.set_yticks([0, 0.01, 0.1, 1], ["0", "1 %", "10 %", "100 %"], minor=False)
        axes.set_xlim(0, _STAY_EDGES[np.flatnonzero(own.any(axis=0)).max(initial=0) + 1])
        if name in gaps:
            show_gap(axes, gaps[name])
    page.save(path)
