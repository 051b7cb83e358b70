"""Attack on noisy histograms."""

from __future__ import annotations

import numpy as np
import pytest

from rdpjax.audits.guessing import guess
from rdpjax.audits.one_run.counts import released_counts, scores_of_counts
from rdpjax.data.cardio import CARDIO
from rdpjax.data.crafted import table_canaries
from rdpjax.data.tokenizer import encode_cells, histogram, marginals_from


def cells(count: int, seed: int) -> np.ndarray:
    return encode_cells(CARDIO, table_canaries(CARDIO, count, np.random.default_rng(seed)))


def scores(count: int, noise: float, coins: np.ndarray) -> np.ndarray:
    base, canaries = cells(700, 1), cells(count, 2)
    exact = histogram(CARDIO, np.concatenate([base, canaries[coins]]))
    noisy = exact + noise * np.random.default_rng(3).normal(size=exact.shape)
    return scores_of_counts(CARDIO, marginals_from(CARDIO, noisy, noise), base, canaries)


def test_without_noise_the_release_is_the_histogram() -> None:
    exact = histogram(CARDIO, cells(900, 5))
    np.testing.assert_allclose(released_counts(CARDIO, marginals_from(CARDIO, exact, 0)), exact)


@pytest.mark.parametrize(("count", "right"), [(200, 200), (1000, 900)])
def test_without_noise_the_coins_are_read_off(count: int, right: int) -> None:
    coins = np.random.default_rng(4).random(count) < 0.5
    assert guess(scores(count, 0.0, coins), coins, count).correct >= right


def test_with_heavy_noise_little_is_left() -> None:
    coins = np.random.default_rng(4).random(1000) < 0.5
    found = scores(1000, 50.0, coins)
    assert np.isfinite(found).all()
    assert guess(found, coins, 1000).correct < 600


def test_scores_fall_with_the_noise() -> None:
    coins = np.random.default_rng(4).random(400) < 0.5
    right = [guess(scores(400, noise, coins), coins, 400).correct for noise in (0.1, 2.0, 50.0)]
    assert right == sorted(right, reverse=True)
