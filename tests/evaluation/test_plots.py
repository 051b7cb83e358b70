import subprocess
import sys

import pytest

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
