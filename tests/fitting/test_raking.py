"""The one-way tilt: generated marginals become the noisy ones, within bounds on its price."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdpjax.fitting.raking import Tilt, fit_tilt


def pool(rows: int, shares: list[list[float]], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.choice(len(p), rows, p=p) for p in shares], axis=1).astype(np.uint8)


def table(shares: list[list[float]]) -> np.ndarray:
    width = max(map(len, shares))
    return np.array([[*p, *[0.0] * (width - len(p))] for p in shares])


def accepted(tilt: Tilt, codes: np.ndarray, seed: int = 1) -> np.ndarray:
    return codes[tilt.accept(codes, np.random.default_rng(seed).random(len(codes)))]


def test_marginals_become_the_wanted_ones() -> None:
    codes = pool(40_000, [[0.5, 0.3, 0.2], [0.6, 0.4]])
    wanted = [[0.4, 0.35, 0.25], [0.5, 0.5]]
    tilt = fit_tilt(codes, table(wanted))
    fresh = accepted(tilt, pool(100_000, [[0.5, 0.3, 0.2], [0.6, 0.4]], seed=2))
    for j, shares in enumerate(wanted):
        found = np.bincount(fresh[:, j], minlength=len(shares)) / len(fresh)
        np.testing.assert_allclose(found, shares, atol=0.012)
    assert tilt.acceptance == pytest.approx(len(fresh) / 100_000, abs=0.02)


def test_dependence_is_kept() -> None:
    """Proportional fitting changes no odds ratio."""
    rng = np.random.default_rng(0)
    first = rng.random(100_000) < 0.5
    second = rng.random(100_000) < np.where(first, 0.8, 0.3)
    codes = np.stack([first, second], axis=1).astype(np.uint8)

    def odds(codes: np.ndarray) -> float:
        n = np.bincount(2 * codes[:, 0].astype(int) + codes[:, 1], minlength=4).astype(float)
        return float(np.log(n[0] * n[3] / (n[1] * n[2])))

    tilt = fit_tilt(codes, np.array([[0.7, 0.3], [0.6, 0.4]]))
    assert odds(accepted(tilt, codes)) == pytest.approx(odds(codes), abs=0.1)


def test_a_pool_that_is_right_is_left_alone() -> None:
    shares = [[0.5, 0.5], [0.25, 0.75]]
    codes = np.array([[i % 2, (i // 2) % 4 > 0] for i in range(800)], np.uint8)
    tilt = fit_tilt(codes, table(shares))
    assert tilt.effective == pytest.approx(1) and tilt.acceptance == pytest.approx(1)
    assert len(accepted(tilt, codes)) == 800


@given(
    st.lists(st.floats(0.01, 1), min_size=4, max_size=4),
    st.lists(st.floats(0, 1), min_size=4, max_size=4).filter(lambda p: sum(p) > 0.01),
    st.floats(1.5, 6),
    st.floats(0.2, 0.9),
)
def test_bounds_hold_whatever_is_asked(
    has: list[float], wanted: list[float], cap: float, least: float
) -> None:
    codes = pool(500, [(np.array(has) / sum(has)).tolist()] * 2)
    shares = np.array([wanted, wanted[::-1]]) / sum(wanted)
    tilt = fit_tilt(codes, shares, cap=cap, least=least)
    assert np.isfinite(tilt.log_multipliers).all()
    assert np.abs(tilt.log_multipliers).max() <= 10
    logs = tilt.log_multipliers[np.arange(2), codes].sum(axis=1)
    kept = np.exp(np.minimum(logs - tilt.log_cap, 0))
    assert tilt.effective >= least, "fitting stops before it wears the pool out"
    assert kept.mean() == pytest.approx(tilt.acceptance)


def test_one_record_cannot_stand_for_many() -> None:
    """Asked that one record in a thousand be half of the pool, it stops where that wears it out."""
    codes = np.array([[0]] * 999 + [[1]], np.uint8)
    tilt = fit_tilt(codes, np.array([[0.5, 0.5]]))
    assert tilt.effective >= 0.3 and tilt.acceptance > 0.01
    weights = np.exp(np.minimum(tilt.log_multipliers[0][codes[:, 0]] - tilt.log_cap, 0))
    assert weights[-1] / weights.sum() < 0.05


def test_a_sweep_that_goes_too_far_is_gone_in_part() -> None:
    """Many columns, each a little off: all of it would wear the pool out, none of it be a waste."""
    codes = pool(5_000, [[0.5, 0.5]] * 60)
    tilt = fit_tilt(codes, np.array([[0.35, 0.65]] * 60))
    assert 0.3 <= tilt.effective < 0.32
    weights = np.exp(
        np.minimum(tilt.log_multipliers[np.arange(60), codes].sum(axis=1) - tilt.log_cap, 0)
    )
    found = (weights @ codes / weights.sum()).mean()
    assert found > 0.53, "nearer to what is wanted"


def test_a_code_of_noisy_share_zero_becomes_rare() -> None:
    codes = pool(20_000, [[0.4, 0.4, 0.2]])
    tilt = fit_tilt(codes, np.array([[0.5, 0.5, 0.0]]))
    assert (accepted(tilt, codes) == 2).mean() < 0.001
    assert np.isfinite(tilt.log_multipliers).all()


def test_a_code_that_is_never_generated_is_left_alone() -> None:
    codes = pool(1000, [[0.5, 0.5, 0.0]])
    tilt = fit_tilt(codes, np.array([[0.4, 0.4, 0.2]]))
    assert tilt.log_multipliers[0, 2] == 0 and tilt.effective > 0.99
