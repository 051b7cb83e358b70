"""The heading of every picture, and what its panels say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from rdpjax.data.schema import Categorical, Numeric, Schema
from rdpjax.evaluation.drawing import Page, run_title
from rdpjax.evaluation.patient_plots import (
    plot_missingness,
    plot_patient_densities,
    plot_patients,
    plot_stays,
)
from rdpjax.evaluation.plots import plot_correlations, plot_densities, plot_losses
from tests.evaluation.test_patient_plots import patients_of

TITLE = run_title("ward-7", 5.0, 1e-5)
Toy = Callable[..., pd.DataFrame]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All words of the picture that is drawn, and its panels in `shown.axes`."""

    class Shown(list[str]):
        figure: Figure

    words = Shown()

    def save(page: Page, path: Path) -> None:
        words.figure = page._figure
        page._figure.draw_without_rendering()
        texts = page._figure.findobj(Text)
        words.extend(t.get_text() for t in texts if t.get_text() and t.get_visible())

    monkeypatch.setattr(Page, "save", save)
    return words


def says(shown: list[str], *parts: str) -> bool:
    return all(any(part in text for text in shown) for part in parts)


HEADING = ("run ward-7, epsilon 5.000 at delta 1e-05", "without privacy: do not publish")


@pytest.mark.parametrize("plot", [plot_densities, plot_correlations])
def test_pictures_of_a_table_say_what_they_are(
    plot: Callable[..., None], toy: Toy, toy_schema: Schema, shown: list[str]
) -> None:
    plot(toy(200, seed=1), toy(150, seed=2), toy_schema, "a.png", TITLE)
    assert says(shown, *HEADING, "200 real and 150 synthetic rows", "largest gap: ")


@pytest.mark.parametrize(
    "plot", [plot_patients, plot_missingness, plot_patient_densities, plot_stays]
)
def test_pictures_of_patients_say_what_they_are(
    plot: Callable[..., None], shown: list[str]
) -> None:
    plot(patients_of(60, 1), patients_of(40, 2), "a.png", title=TITLE)
    assert says(shown, *HEADING, "60", "40")


def test_a_run_without_privacy_says_so() -> None:
    assert "without privacy" in run_title("x", None)


def test_clipping_is_said_where_values_pile_up(
    toy: Toy, toy_schema: Schema, shown: list[str]
) -> None:
    real = toy(1000).assign(low_p=lambda f: f["low_p"].clip(45, 135).mask(f.index < 20, 300))
    plot_densities(real, toy(1000), toy_schema, "a.png", TITLE)
    assert says(shown, "real, clipped: 2.0 % above 140")
    assert not says(shown, "below 40")


def test_the_largest_gap_is_where_it_is(toy: Toy, toy_schema: Schema, shown: list[str]) -> None:
    plot_densities(toy(500), toy(500).assign(grade="c"), toy_schema, "a.png")
    assert says(shown, "largest gap: grade, 0.9")


def test_many_and_long_levels_have_an_axis(shown: list[str]) -> None:
    wards = tuple(f"ward number {i}" for i in range(12))
    schema = Schema("t", (Categorical("ward", wards), Categorical("ill", (0, 1))), label="ill")
    frame = pd.DataFrame({"ward": list(wards) * 5, "ill": [0, 1] * 30})
    plot_densities(frame, frame, schema, "a.png")
    axes = shown.figure.axes[0]  # type: ignore[attr-defined]
    assert len(axes.get_yticks()) > 1 and axes.get_ylim()[1] < 0.2


def test_the_diagonal_is_grey_and_the_difference_is_drawn(
    toy: Toy, toy_schema: Schema, shown: list[str]
) -> None:
    plot_correlations(toy(300, seed=1), toy(300, seed=2), toy_schema, "a.png")
    images = [axes.images[0] for axes in shown.figure.axes if axes.images]  # type: ignore[attr-defined]
    real, synthetic, less = (image.get_array() for image in images[:3])
    assert all(np.ma.getmaskarray(matrix).diagonal().all() for matrix in (real, synthetic, less))
    np.testing.assert_allclose(less.filled(0), (synthetic - real).filled(0), atol=1e-12)


def test_one_column_has_no_correlations(shown: list[str]) -> None:
    schema = Schema("t", (Categorical("ill", (0, 1)),), label="ill")
    frame = pd.DataFrame({"ill": [0, 1, 1]})
    plot_correlations(frame, frame, schema, "a.png")
    assert not says(shown, "largest gap")


def test_losses_have_units_meanings_and_no_empty_panels(shown: list[str]) -> None:
    rows = [
        {"stage": "vae", "step": i, "loss": 1 / (1 + i), "clipped": 0.0, "drawn": 20 + i}
        for i in range(9)
    ]
    rows += [{"stage": "gan", "step": i, "loss": 0.7, "fake_loss": float("nan")} for i in range(3)]
    plot_losses(rows, "a.png", TITLE)
    assert says(shown, *HEADING, "records", "share of the draw", "always 0", "clip norm")
    panels = {axes.get_title(loc="left"): axes for axes in shown.figure.axes}  # type: ignore[attr-defined]
    assert set(panels) == {
        "vae: loss", "vae: clipped", "vae: drawn", "gan: loss", "gan: fake_loss",
    }  # fmt: skip
    assert panels["vae: clipped"].get_ylim() == (-0.02, 1.02)
    assert panels["vae: drawn"].get_ylim()[0] == 0
    assert panels["gan: loss"].get_ylim() == pytest.approx((-0.3, 1.7))


@pytest.mark.parametrize("rows", [0, 1])
def test_hardly_any_record(rows: int, toy_schema: Schema, toy: Toy, tmp_path: Path) -> None:
    few = toy(5).iloc[:rows]
    plot_densities(few, toy(50), toy_schema, tmp_path / "a.png")
    plot_correlations(few, toy(50), toy_schema, tmp_path / "b.png")
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "b.png"}


def test_a_number_of_one_value_has_a_picture(tmp_path: Path) -> None:
    schema = Schema("t", (Numeric("x", "", 0, 9), Categorical("y", (0, 1))), label="y")
    frame = pd.DataFrame({"x": [4.0] * 9, "y": [0] * 9})
    plot_densities(frame, frame, schema, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000
