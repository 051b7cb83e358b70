"""The same plan through several accountants: published figures, marks, and who is skipped."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import pytest

from rdpjax.accounting import compare as module
from rdpjax.accounting.compare import Opinion, compare, gaussian_limit
from rdpjax.errors import UserError
from rdpjax.privacy.events import Event, round_up_rate


def plan(*runs: tuple[float, float, int]) -> list[Event]:
    """Events from (sigma, q, steps)."""
    return [
        Event(f"stage{i}", "poisson_gaussian", round_up_rate(q), sigma, 1.0, steps)
        for i, (sigma, q, steps) in enumerate(runs)
    ]


# events, delta, classic conversion, Gaussian limit
KNOWN = {
    "A": (plan((1.0, 0.01, 1000)), 1e-5, 2.5380, 1.6177),
    "B": (plan((1.1, 256 / 60000, 14063)), 1e-5, 3.0084, 2.3244),
    "C": (plan((2.0, 0.064, 1000)), 1e-4, 5.3659, 4.1630),
    "D": (plan((10.0, 1.0, 100)), 1e-5, 5.2985, 4.3899),
    "E": (plan((0.5, 0.001, 1000)), 1e-6, 6.1668, 0.9764),
    "F": (plan((1.0, 0.01, 500), (1.2, 0.02, 300), (1.5, 0.01, 200)), 1e-5, 2.7218, 1.8438),
    "G": (plan((8.0, 0.05, 200)), 1e-5, 0.4385, 0.2991),
}


def by_name(opinions: tuple[Opinion, ...]) -> dict[str, Opinion]:
    return {opinion.accountant: opinion for opinion in opinions}


@pytest.mark.parametrize("name", KNOWN)
def test_published_figures(name: str) -> None:
    events, delta, classic, limit = KNOWN[name]
    assert gaussian_limit(events, delta) == pytest.approx(limit, abs=1e-4)
    if name in "ADG":  # PLD takes its seconds
        found = by_name(compare(events, delta))
        assert found["classic conversion of RDP"].epsilon == pytest.approx(classic, abs=1e-4)


def test_marks_and_order() -> None:
    found = by_name(compare(*KNOWN["A"][:2]))
    pld, rdp = found["PLD (dp-accounting)"], found["RDP (dp-accounting)"]
    classic, limit = found["classic conversion of RDP"], found["Gaussian limit"]
    assert (rdp.worth, pld.worth, classic.worth, limit.worth) == (*["bound"] * 3, "not a bound")
    assert limit.epsilon < pld.epsilon < rdp.epsilon < classic.epsilon
    assert "order 7.8" in rdp.note


@pytest.mark.parametrize(
    ("package", "name"), [("opacus", "RDP (Opacus)"), ("prv_accountant", "PRV")]
)
def test_optional_accountants_agree_or_are_skipped_by_name(package: str, name: str) -> None:
    found = by_name(compare(*KNOWN["D"][:2]))[name]
    if importlib.util.find_spec(package) is None:
        assert (found.epsilon, found.worth) == (None, "skipped")
        assert found.note == f"{package} is not installed"
    else:
        expected = {"opacus": 4.7285, "prv_accountant": 4.3772}[package]
        assert found.epsilon == pytest.approx(expected, abs=1e-3)
        assert found.worth == {"opacus": "bound", "prv_accountant": "estimate"}[package]


def test_discrete_noise_has_no_losses_to_convolve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_optional", lambda name: None if "opacus" in name else object())
    lattice = Event("vae", "poisson_discrete_gaussian", 0.25, 2.0, 1.0, 10)
    found = by_name(compare([lattice], 1e-5))
    assert found["PLD (dp-accounting)"].note == (
        "not available for discrete noise on sampled records"
    )
    assert found["PRV"].note == "not available for discrete noise"
    assert found["RDP (dp-accounting)"].epsilon is not None


@pytest.mark.parametrize(
    ("event", "cause"),
    [
        (Event("x", "gaussian", 1.0, 0.1, 1.0, 100), "loss distribution would not fit"),
        (Event("x", "discrete_gaussian", 1.0, 0.1, 1.0, 100), "exceeds delta at so large"),
    ],
)
def test_why_losses_are_missing(event: Event, cause: str) -> None:
    found = by_name(compare([event], 1e-5))["PLD (dp-accounting)"]
    assert found.worth == "skipped" and cause in found.note


def test_a_plan_that_hides_next_to_no_one_is_answered() -> None:
    found = by_name(compare(plan((0.05, 0.01, 1_000_000)), 1e-5))
    assert found["Gaussian limit"].epsilon > found["RDP (dp-accounting)"].epsilon > 1e8


def test_a_step_that_reads_all_is_gaussian_already() -> None:
    for mechanism in ("gaussian", "discrete_gaussian"):
        found = gaussian_limit([Event("hist", mechanism, 1.0, 10.0, 1.0, 100)], 1e-5)
        assert found == pytest.approx(4.3772, abs=1e-4)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan])
def test_delta_is_checked(delta: Any) -> None:
    with pytest.raises(UserError, match="delta is"):
        compare(KNOWN["A"][0], delta)


def test_a_plan_without_noise_or_without_access_is_refused() -> None:
    bare = Event("vae", "poisson_gaussian", 0.25, 0.0, math.inf, 10)
    with pytest.raises(UserError, match="'vae' adds no noise"):
        compare([*KNOWN["A"][0], bare], 1e-5)
    with pytest.raises(UserError, match=r"0\.001 is too small"):
        compare(plan((0.001, 0.1, 10)), 1e-5)
    with pytest.raises(UserError, match="no mechanism run"):
        compare([], 1e-5)
