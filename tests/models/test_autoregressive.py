"""The autoregressive network: what it may see, and that it draws what its loss says."""

from __future__ import annotations

from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdpjax.dpsgd.execution import default_clipping
from rdpjax.models.autoregressive import Autoregressive
from rdpjax.models.vae import log_prior

WIDTHS = (3, 2, 4, 3, 2, 3)
SHARES = np.array([[1 / w] * w + [0.0] * (4 - w) for w in WIDTHS])
SHARES[0] = [0.5, 0.2, 0.3, 0]
PRIOR = log_prior(SHARES, WIDTHS)
EXISTS = PRIOR > -1e8
# Column 1 has fewer features than the others; no two codes of a column are alike.
FEATURES = np.random.default_rng(1).normal(size=(6, 4, 3)).astype(np.float32) * EXISTS[..., None]
FEATURES[1, :, 1:] = 0
EVERY = np.array(list(product(*map(range, WIDTHS))), np.uint8)
GIVEN = (None, 0, 3)
each_given = pytest.mark.parametrize("given", GIVEN)


def network(given: int | None) -> tuple[Autoregressive, Any]:
    """A network whose weights are all away from zero."""
    model = Autoregressive.of(FEATURES, WIDTHS, given, hidden=5)
    leaves, tree = jax.tree.flatten(jax.jit(model.init)(jax.random.key(0)))
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [
        leaf + 0.4 * jax.random.normal(key, leaf.shape)
        for leaf, key in zip(leaves, keys, strict=True)
    ]
    return model, jax.tree.unflatten(tree, moved)


def losses(model: Autoregressive, params: Any, codes: np.ndarray) -> np.ndarray:
    one = jax.jit(jax.vmap(lambda c: model.loss(params, c, jnp.asarray(PRIOR), FEATURES)))
    return np.asarray(one(codes), np.float64)


@each_given
def test_chances_of_all_records_add_up_to_one(given: int | None):
    """So no column is told by a later one, nor by itself."""
    model, params = network(given)
    chances = np.exp(-losses(model, params, EVERY))
    if given is None:
        assert chances.sum() == pytest.approx(1, rel=1e-4)
        return
    for code in range(WIDTHS[given]):
        assert chances[EVERY[:, given] == code].sum() == pytest.approx(1, rel=1e-4)


@each_given
def test_draws_have_the_chances_that_the_loss_says(given: int | None):
    model, params = network(given)
    rows = 50_000
    draw = jax.jit(lambda p, key: model.draw(p, key, rows, jnp.asarray(PRIOR), FEATURES))
    codes = np.asarray(draw(params, jax.random.key(2)))
    assert codes.shape == (rows, 6)
    chances = np.exp(-losses(model, params, EVERY))
    if given is not None:
        chances *= np.exp(PRIOR[given])[EVERY[:, given]]
    place = np.ravel_multi_index(tuple(codes.T), WIDTHS)
    found = np.bincount(place, minlength=len(EVERY))
    expected = rows * chances / chances.sum()
    often = expected > 5
    statistic = ((found - expected)[often] ** 2 / expected[often]).sum()
    assert statistic < often.sum() + 5 * np.sqrt(2 * often.sum())


@each_given
def test_every_column_hears_every_column_before_it(given: int | None):
    model, params = network(given)

    def chance(codes: np.ndarray, column: int) -> np.ndarray:
        """Log p(column | columns before) from losses: those after it are summed out."""
        later = model.order[model.order.index(column) + 1 :]
        same = np.ones(len(EVERY), bool)
        for c in model.order:
            if c not in later:
                same &= EVERY[:, c] == codes[c]
        return np.log(np.exp(-all_losses[same]).sum())

    all_losses = losses(model, params, EVERY)
    start = np.zeros(6, int)
    for late, column in enumerate(model.order):
        for early in model.order[:late]:
            other = start.copy()
            other[early] = 1
            before = model.order[late - 1]
            shift = chance(other, column) - chance(other, before)
            assert abs(shift - chance(start, column) + chance(start, before)) > 1e-4


@each_given
def test_it_starts_at_independent_columns_of_the_prior(given: int | None):
    model = Autoregressive.of(FEATURES, WIDTHS, given, hidden=5)
    params = jax.jit(model.init)(jax.random.key(0))
    columns = [c for c in range(6) if c != given]
    shares = np.where(EXISTS, np.exp(PRIOR), 1)
    shares = shares / np.where(EXISTS, shares, 0).sum(axis=1, keepdims=True)
    expected = -np.log(shares[columns, EVERY[:, columns]]).sum(axis=1)
    np.testing.assert_allclose(losses(model, params, EVERY), expected, rtol=1e-5)


def test_features_that_tell_nothing_more_are_not_looked_at():
    """So many codes, one feature less; and none that is zero."""
    assert Autoregressive.of(FEATURES, WIDTHS, None, 5).live == (2, 1, 3, 2, 1, 2)


@each_given
def test_ghost_clipping_has_rules_for_all_of_it(given: int | None):
    model, params = network(given)
    clipping, why = default_clipping(
        lambda p, codes, key: model.loss(p, codes, jnp.asarray(PRIOR), FEATURES),
        params,
        jax.ShapeDtypeStruct((6,), np.uint8),
        jax.random.key(0),
    )
    assert clipping == "ghost", why


@pytest.mark.parametrize("columns", [1, 2, 3])
@pytest.mark.parametrize("given", [None, 0])
def test_small_tables_will_do(columns: int, given: int | None):
    features, prior = FEATURES[:columns], jnp.asarray(PRIOR[:columns])
    model = Autoregressive.of(features, WIDTHS[:columns], given, hidden=5)
    params = model.init(jax.random.key(0))
    assert np.isfinite(model.loss(params, jnp.zeros(columns, jnp.uint8), prior, features))
    codes = np.asarray(model.draw(params, jax.random.key(1), 500, prior, features))
    assert codes.shape == (500, columns)
    assert set(codes[:, -1]) == set(range(WIDTHS[columns - 1]))
