from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdpjax.dpsgd import sampling
from rdpjax.dpsgd.keys import Roots, step_keys
from rdpjax.dpsgd.plan import SCALE
from rdpjax.dpsgd.sampling import drawn_first, inclusion

KEYS = step_keys(Roots.make(2), "s", 0, 4000).sampling


def masks(count: int, threshold: int, steps: int = 4000) -> np.ndarray:
    each = jax.jit(jax.vmap(lambda key: inclusion(key, count, threshold)))
    return np.asarray(each(KEYS[:steps]))


def binomial(n: int, q: float) -> np.ndarray:
    """Probabilities of 0, ..., n by the recurrence of the binomial law."""
    law = np.empty(n + 1)
    law[0] = (1 - q) ** n
    for k in range(n):
        law[k + 1] = law[k] * (n - k) / (k + 1) * q / (1 - q)
    return law


@pytest.mark.parametrize("rate", [1 / 8, 0.5, 0.9])
def test_frequencies_pairs_and_batch_sizes_follow_their_laws(rate: float):
    count, steps = 12, 4000
    drawn = masks(count, int(rate * SCALE)).astype(float)
    q = int(rate * SCALE) / SCALE
    # Each record is drawn Binomial(steps, q) times.
    statistic = ((drawn.sum(0) - steps * q) ** 2).sum() / (steps * q * (1 - q))
    assert abs(statistic - count) < 6 * np.sqrt(2 * count)
    # Each pair is drawn together Binomial(steps, q^2) times.
    together = (drawn.T @ drawn)[np.triu_indices(count, 1)]
    assert np.abs(together - steps * q**2).max() < 5 * np.sqrt(steps * q**2 * (1 - q**2))
    # The batch size is Binomial(count, q); cells of fewer than five are pooled.
    law = binomial(count, q) * steps
    seen = np.bincount(drawn.sum(1).astype(int), minlength=count + 1)
    often = law >= 5
    expected, observed = law[often], seen[often]
    cells = often.sum()
    assert ((observed - expected) ** 2 / expected).sum() < cells + 6 * np.sqrt(2 * cells)
    assert abs(seen[~often].sum() - law[~often].sum()) < 5 * np.sqrt(law[~often].sum() + 1)


def test_rate_one_draws_everyone_every_time():
    assert masks(50, SCALE, steps=200).all()


def test_the_comparison_is_exact_at_its_edges(monkeypatch: pytest.MonkeyPatch):
    """Of the 2**32 words, exactly the `threshold` smallest mean "drawn"."""
    words = np.array([0, 1, 2, 2**31 - 1, 2**31, 2**31 + 1, SCALE - 2, SCALE - 1], np.uint32)
    monkeypatch.setattr(sampling.jax.random, "bits", lambda *_: jnp.asarray(words))
    for threshold in (1, 2, 3, 2**31, 2**31 + 1, SCALE - 1, SCALE):
        drawn = inclusion(KEYS[0], len(words), threshold)
        np.testing.assert_array_equal(drawn, words.astype(np.int64) < threshold)


def test_the_smallest_rate_is_not_zero_by_rounding():
    """A float32 uniform has a grid of 2**-23: there q = 2**-32 would draw 512 times too often."""
    assert masks(1000, 1).sum() == 0
    assert not masks(1000, 512, steps=2000).sum() > 10  # 0.24 expected


def test_records_of_another_table_do_not_matter_and_steps_do():
    assert (masks(40, 2**31, steps=2)[0] != masks(40, 2**31, steps=2)[1]).any()
    np.testing.assert_array_equal(inclusion(KEYS[0], 40, 2**31), inclusion(KEYS[0], 40, 2**31))


@given(st.lists(st.booleans(), min_size=12, max_size=12))
def test_drawn_come_first_in_order_and_padding_points_past_the_end(bits: list[bool]):
    mask = np.array(bits)
    indices, count = drawn_first(jnp.asarray(mask))
    assert int(count) == mask.sum()
    assert indices.shape == mask.shape
    expected = np.concatenate([np.flatnonzero(mask), np.full((~mask).sum(), len(mask))])
    np.testing.assert_array_equal(indices, expected)


def test_no_records_give_an_empty_draw():
    mask = inclusion(KEYS[0], 0, 2**31)
    indices, count = drawn_first(mask)
    assert mask.shape == indices.shape == (0,)
    assert int(count) == 0
