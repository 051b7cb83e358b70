from __future__ import annotations

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdpjax.dpsgd import sampling
from rdpjax.dpsgd.keys import Roots, step_keys
from rdpjax.dpsgd.plan import SCALE
from rdpjax.dpsgd.sampling import MOST, WORDS, capacity, digit_probabilities, draw

KEYS = step_keys(Roots.make(2), "s", 0, 4000).sampling


def masks(count: int, threshold: int, steps: int = 4000) -> np.ndarray:
    """Who is drawn in each step, by as many rounds as it takes."""
    each = jax.jit(jax.vmap(lambda key, first, turn: draw(key, count, threshold, first, turn)))
    found, first = np.zeros((steps, count + 1), bool), np.zeros(steps, np.uint32)
    for turn in range(count):
        drawn = each(KEYS[:steps], jnp.asarray(first), jnp.full(steps, turn))
        rows, alive = np.asarray(drawn.indices), first < count
        assert ((rows < count).sum(1) == np.asarray(drawn.drawn)).all()
        found[np.arange(steps)[alive, None], rows[alive]] = True
        first = np.where(alive, np.asarray(drawn.following), first)
        if (first == count).all():
            return found[:, :count]
    raise AssertionError("every round must decide on a record at least")


def binomial(n: int, q: float) -> np.ndarray:
    """Probabilities of 0, ..., n by the recurrence of the binomial law."""
    law = np.empty(n + 1)
    law[0] = (1 - q) ** n
    for k in range(n):
        law[k + 1] = law[k] * (n - k) / (k + 1) * q / (1 - q)
    return law


@pytest.mark.parametrize("most", [MOST, 5], ids=["one round", "several rounds"])
@pytest.mark.parametrize("rate", [1 / 8, 0.5, 0.9])
def test_frequencies_pairs_and_batch_sizes_follow_their_laws(
    rate: float, most: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sampling, "MOST", most)
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


@pytest.mark.parametrize("threshold", [SCALE - 1, SCALE // 2, 171798692, 5 * 2**24])
def test_digits_make_the_geometric_law(threshold: int):
    """The law that the digits' words define, in exact arithmetic: within 2**-121 of (1-q)^k q."""
    words = digit_probabilities(threshold)
    bits = 32 * WORDS
    chances = [sum(int(w) << 32 * (WORDS - 1 - i) for i, w in enumerate(row)) for row in words]
    q = Fraction(threshold, SCALE)
    for k in range(min(2 ** len(chances), 300)):
        law = Fraction(1)
        for j, chance in enumerate(chances):
            law *= Fraction(chance, 2**bits) if k >> j & 1 else 1 - Fraction(chance, 2**bits)
        assert abs(law - (1 - q) ** k * q) < Fraction(1, 2**121)
    # What is left out is never drawn, nearly: gaps beyond the last digit.
    assert (1 - q) ** (2 ** len(chances)) < Fraction(1, 2**120)


def test_the_smallest_rates_are_not_zero_by_rounding():
    """A float32 uniform has a grid of 2**-23: there q = 2**-32 would draw 512 times too often."""
    assert len(digit_probabilities(1)) == 39
    assert masks(1000, 1, steps=50).sum() == 0
    # 2.56e-5 of ten million records, in 200 steps: Poisson with mean 51,200, nearly.
    records, threshold = 10_000_000, 109951
    each = jax.jit(jax.vmap(lambda key: draw(key, records, threshold)))
    drawn = each(KEYS[:200])
    assert (np.asarray(drawn.following) == records).all()
    sizes = np.asarray(drawn.drawn)
    mean = records * threshold / SCALE
    assert abs(sizes.mean() - mean) < 5 * np.sqrt(mean / 200)
    assert abs(sizes.var() / mean - 1) < 5 * np.sqrt(2 / 200)
    # Drawn records lie anywhere alike.
    rows = np.asarray(drawn.indices)
    shares = np.histogram(rows[rows < records], bins=20, range=(0, records))[0] / sizes.sum() * 20
    assert np.abs(shares - 1).max() < 5 * np.sqrt(20 / sizes.sum())


def test_rate_one_draws_everyone_every_time():
    assert masks(50, SCALE, steps=200).all()
    drawn = draw(KEYS[0], 5, SCALE)
    assert drawn.indices.tolist() == [0, 1, 2, 3, 4]


def test_ties_are_decided_by_further_words(monkeypatch: pytest.MonkeyPatch):
    """Where all 32 bits equal the probability's, the next 32 decide, to the last word."""
    threshold = SCALE // 3
    chances = digit_probabilities(threshold).astype(np.int64)
    given: list[np.ndarray] = []
    fed = iter(given)
    monkeypatch.setattr(sampling.jax.random, "bits", lambda *_: jnp.asarray(next(fed)))
    monkeypatch.setattr(
        sampling.jax.lax, "cond", lambda flag, yes, no, *x: (yes if flag else no)(*x)
    )

    def gaps(*columns: int) -> list[int]:
        """Gaps of three records: the last word is below, at and above the last of the chance."""
        nonlocal fed
        fed = iter(
            [
                np.stack([chances[:, word]] * 3, axis=1) + (np.array(columns) if last else 0)
                for word in range(WORDS)
                for last in [word == WORDS - 1]
            ]
        )
        fed = iter([words.astype(np.uint32) for words in fed])
        return sampling._gaps(jax.random.key(0), 3, threshold, 2**31 - 2).tolist()

    ones = 2 ** len(chances) - 1
    below, at, above = gaps(-1, 0, 1)
    assert (below, at, above) == (ones, 0, 0)


def test_walks_do_not_wrap_around():
    """The largest table and the smallest rate: gaps end at the end."""
    drawn = jax.jit(jax.vmap(lambda key: draw(key, sampling.MOST_RECORDS, 1)))(KEYS[:50])
    assert (np.asarray(drawn.following) <= sampling.MOST_RECORDS).all()
    rows = np.asarray(drawn.indices, np.int64)
    assert (np.diff(rows, axis=1) >= 0).all() and (rows >= 0).all()
    assert (np.asarray(drawn.drawn).sum() - 25) ** 2 < 25 * 25  # 0.5 expected in each


def test_rounds_are_small_and_grow_with_the_draw_alone():
    assert capacity(10_000_000, 109951) < 500
    assert capacity(10, SCALE) == 10
    assert capacity(2**31 - 2, SCALE) == MOST


def test_steps_differ_and_a_step_repeats():
    assert (masks(40, 2**31, steps=2)[0] != masks(40, 2**31, steps=2)[1]).any()
    first, again = draw(KEYS[0], 40, 2**31), draw(KEYS[0], 40, 2**31)
    np.testing.assert_array_equal(first.indices, again.indices)
