import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from rdpjax.data.fields import Numeric
from rdpjax.data.schema import Schema
from rdpjax.evaluation import plots
from rdpjax.evaluation.plots import plot_correlations, plot_densities, plot_losses

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("plot", [plot_densities, plot_correlations])
def test_pictures_of_tables(plot, toy, toy_schema, tmp_path):
    plot(toy(200, seed=1), toy(150, seed=2), toy_schema, tmp_path / "a.png")
    plot(toy(200).assign(high_p=120.0), toy(90).assign(grade="a"), toy_schema, tmp_path / "b.png")
    for name in ("a.png", "b.png"):
        assert (tmp_path / name).read_bytes().startswith(PNG)
        assert (tmp_path / name).stat().st_size > 10_000


def test_picture_of_losses(tmp_path):
    rows = [{"stage": "vae", "step": i, "loss": 1 / (1 + i), "kl": 0.1 * i} for i in range(9)]
    rows += [{"stage": "gan", "step": 5, "loss": 0.7, "note": "text", "done": True}]
    plot_losses(rows, tmp_path / "losses.png")
    assert (tmp_path / "losses.png").read_bytes().startswith(PNG)


def test_nothing_logged_is_an_empty_picture(tmp_path):
    plot_losses([], tmp_path / "losses.png")
    assert (tmp_path / "losses.png").read_bytes().startswith(PNG)


def test_importing_evaluation_loads_no_plots_and_no_classifiers():
    code = (
        "import sys, rdpjax.evaluation.plots, rdpjax.evaluation.score\n"
        "sys.exit(' '.join({'matplotlib', 'sklearn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).stderr == b"\n"


def test_no_frame_is_left_empty(toy, toy_schema, tmp_path, monkeypatch):
    """As many axes are seen as there are columns, also where they do not fill their rows."""
    pages = []
    monkeypatch.setattr(plots.Page, "save", lambda page, path: pages.append(page))
    for count in range(1, len(toy_schema.columns) + 1):
        some = Schema("toy", toy_schema.columns[:count])
        plot_densities(toy(90), toy(90), some, tmp_path / "d.png")
        assert sum(axes.axison for axes in pages[-1].body.axes) == count


def bars(column, values):
    """Left edge, right edge and share of each bar that has records."""
    frame = pd.DataFrame({column.name: values})
    shares, edges = plots._shares(Schema("t", (column,)), column.name, (frame, frame))
    assert shares.sum() == pytest.approx(2), "no value lies outside the bars"
    return [
        (edges[i], edges[i + 1], shares[0, i] * len(frame)) for i in np.flatnonzero(shares.any(0))
    ]


@pytest.mark.parametrize("within", ["grid", "start"])
@pytest.mark.parametrize(("low", "high", "step"), [(0, 9, 1), (2, 3, 0.1), (-4.5, 4.5, 0.3)])
def test_a_bar_of_one_value_stands_over_it(within, low, high, step):
    """Bars of a grid's values used to lie half a bin to the right, and 2.3 in the bar of 2.2."""
    column = Numeric("x", "m", low, high, cell=step, resolution=step, within=within)
    values = low + step * np.arange(round((high - low) / step) + 1)
    found = bars(column, np.round(values, 6))
    for value, (left, right, count) in zip(values, found, strict=True):
        assert ((left + right) / 2, count) == (pytest.approx(value), pytest.approx(1))


def test_a_bar_of_several_values_stands_over_their_middle():
    column = Numeric("x", "m", 0, 99, cell=5, resolution=1)
    for (left, right, count), first in zip(bars(column, range(100)), range(0, 100, 5), strict=True):
        assert (left, right, count) == (first - 0.5, first + 4.5, pytest.approx(5))


@pytest.mark.parametrize("within", ["uniform", "halves"])
def test_a_value_on_an_edge_is_in_the_bar_that_begins_there(within):
    column = Numeric("x", "m", 0, 1, cell=0.1, resolution=0.1, within=within)
    found = bars(column, [0.1, 0.3, 0.6, 0.7])
    assert [left for left, _, _ in found] == pytest.approx([0.1, 0.3, 0.6, 0.7], abs=1e-6)
