"""Discrete Gaussian noise has exactly its law."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rdpjax.dpsgd import discrete
from rdpjax.dpsgd.discrete import MOST_SCALE, Bits, discrete_gaussian

KEY = bytes(range(32))


def law(scale: int, most: int) -> np.ndarray:
    """Probabilities of -most to most."""
    weights = np.exp(-(np.arange(-most, most + 1) ** 2) / (2 * scale**2))
    shares: np.ndarray = weights / weights.sum()
    return shares


def misfit(drawn: np.ndarray, scale: int) -> float:
    """The p-value of a chi-square test against the law; cells of fewer than 5 are put together."""
    most = 12 * scale
    expected = law(scale, most) * len(drawn)
    found = np.bincount(drawn + most, minlength=2 * most + 1)
    common = expected >= 5
    cells = [np.append(x[common], x[~common].sum()) for x in (found, expected)]
    kept = cells[1] > 0.5
    square = ((cells[0] - cells[1]) ** 2 / np.maximum(cells[1], 1e-9))[kept].sum()
    return float(stats.chi2.sf(square, kept.sum() - 1))


@pytest.mark.parametrize("scale", [1, 2, 3, 7, 40])
def test_the_law_is_the_discrete_gaussian(scale: int) -> None:
    assert misfit(discrete_gaussian(Bits(KEY), 400_000, scale), scale) > 1e-4


@pytest.mark.parametrize("scale", [2**15, 2**30, 2**31 - 1, MOST_SCALE])
def test_on_a_fine_lattice_it_is_the_gaussian(scale: int) -> None:
    drawn = discrete_gaussian(Bits(KEY), 100_000, scale) / scale
    assert stats.kstest(drawn, "norm").pvalue > 1e-3
    assert abs(drawn.std() - 1) < 5 / math.sqrt(2 * len(drawn))
    assert 4 < abs(drawn).max() < 6.5


def test_sabotage_another_law_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zero twice as often, a coin that is a little off, rounded normals: each shows."""
    true = discrete._heads
    monkeypatch.setattr(discrete, "_heads", lambda b, r, e: true(b, 1.03 * r, e))
    assert misfit(discrete_gaussian(Bits(KEY), 400_000, 3), 3) < 1e-6
    rounded = np.rint(np.random.default_rng(0).normal(0, 1, 400_000)).astype(int)
    assert misfit(rounded, 1) < 1e-6


def test_numbers_do_not_depend_on_each_other() -> None:
    drawn = discrete_gaussian(Bits(KEY), 200_000, 50).astype(float)
    for lag in (1, 2, 3, 1000):
        assert abs(np.corrcoef(drawn[lag:], drawn[:-lag])[0, 1]) < 5 / math.sqrt(len(drawn))
    other = discrete_gaussian(Bits(KEY[::-1]), 200_000, 50)
    assert abs(np.corrcoef(drawn, other)[0, 1]) < 5 / math.sqrt(len(drawn))
    assert abs(np.corrcoef(abs(drawn), abs(other))[0, 1]) < 5 / math.sqrt(len(drawn))


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_as_many_as_asked_and_the_same_again(count: int) -> None:
    first, again = (discrete_gaussian(Bits(KEY), count, 9) for _ in range(2))
    assert first.shape == (count,) and first.dtype == np.int64
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("scale", [0, -1, MOST_SCALE + 1])
def test_a_scale_out_of_range_is_refused(scale: int) -> None:
    with pytest.raises(ValueError, match="scale"):
        discrete_gaussian(Bits(KEY), 3, scale)


def test_exact_coins_agree_with_quick_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bits, judged in exact arithmetic throughout."""
    quick = discrete_gaussian(Bits(KEY), 400, 6)
    monkeypatch.setattr(discrete, "_DOUBT", 2.0)
    np.testing.assert_array_equal(discrete_gaussian(Bits(KEY), 400, 6), quick)


@given(st.fractions(0, 700), st.sampled_from([64, 128, 192]))
def test_the_exact_bounds_enclose_the_exponential(rate: Fraction, digits: int) -> None:
    import mpmath

    low, high = discrete._exp_between(rate, digits)
    with mpmath.workprec(1500):
        exact = mpmath.exp(-mpmath.mpf(rate.numerator) / rate.denominator) * 2**digits
        assert low <= exact < high + 1
    assert high - low <= 1


def test_a_tie_goes_on_to_further_bits() -> None:
    """A first word right at the probability decides nothing; the words after it do."""
    rate = Fraction(1)
    tie = discrete._exp_between(rate, 64)[0]
    coins = [discrete._exactly(Bits(bytes([i]) * 32), tie, rate) for i in range(200)]
    fraction = discrete._exp_between(rate, 128)[0] - (tie << 64)
    assert abs(np.mean(coins) - fraction / 2**64) < 0.15
    assert discrete._exactly(Bits(KEY), 2**64 - 1, Fraction(0)), "exp(0) is certain"
    assert not discrete._exactly(Bits(KEY), 2**63, Fraction(700))


def test_bits_are_uniform_and_never_repeat() -> None:
    bits = Bits(KEY)
    words = np.concatenate([bits.words(1000), bits.words(1), bits.words(1000)])
    assert len(set(words.tolist())) == 2001
    ones = np.unpackbits(words.view(np.uint8)).mean()
    assert abs(ones - 0.5) < 5 * 0.5 / math.sqrt(64 * 2001)
    with pytest.raises(ValueError, match="key"):
        Bits(b"short")
