from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rdpjax.dpsgd.clipping import MARGIN, ClippedSum, clipped_gradients, clipped_sum
from rdpjax.models.gan import Discriminator
from rdpjax.models.labeler import Labeler
from rdpjax.models.layers import code_features
from rdpjax.models.vae import Vae

ROWS, COLUMNS, WIDTH, ORDER = 7, 4, 5, 3
KEYS = jax.random.split(jax.random.key(0), ROWS)
EVERYONE = np.ones(ROWS, bool)
CODES = np.random.default_rng(0).integers(0, WIDTH, (ROWS, COLUMNS)).astype(np.uint8)
FEATURES = np.random.default_rng(3).normal(size=(COLUMNS, WIDTH, ORDER)).astype(np.float32)
Problem = tuple[Callable[..., jax.Array], Any, np.ndarray]


def moved(params: Any, scale: float) -> Any:
    """Parameters away from a start at which many gradients vanish."""
    leaves, form = jax.tree.flatten(params)
    rng = np.random.default_rng(1)
    noise = [rng.normal(size=leaf.shape).astype(np.float32) * scale for leaf in leaves]
    return jax.tree.unflatten(form, [leaf + n for leaf, n in zip(leaves, noise, strict=True)])


def toy() -> Problem:
    rows = np.random.default_rng(2).normal(size=(ROWS, 6)).astype(np.float32) * 3

    def loss(params: Any, row: jax.Array, key: jax.Array) -> jax.Array:
        hidden = jnp.tanh(params["in"] @ row[:5] + jax.random.normal(key, (3,)))
        return jnp.square(params["out"] @ hidden + params["bias"] - row[5])

    return (
        loss,
        moved({"in": jnp.zeros((3, 5)), "out": jnp.zeros(3), "bias": jnp.zeros(())}, 1),
        rows,
    )


def vae() -> Problem:
    model = Vae(COLUMNS, WIDTH, ORDER, latent=3, channels=2)
    prior, features = jnp.zeros((COLUMNS, WIDTH)), jnp.asarray(FEATURES)
    params = moved(jax.jit(model.init)(jax.random.key(1)), 0.3)
    return lambda p, codes, key: model.loss(p, codes, key, prior, features, 0.7), params, CODES


def discriminator() -> Problem:
    model, features = Discriminator(channels=2, hidden=4), jnp.asarray(FEATURES)
    params = moved(jax.jit(model.init)(jax.random.key(1), features[:, 0])["params"], 0.3)

    def loss(params: Any, codes: jax.Array, key: jax.Array) -> jax.Array:
        return jax.nn.softplus(-model.apply({"params": params}, code_features(codes, features)))

    return loss, params, CODES


def labeler() -> Problem:
    model, features = Labeler(label=2, channels=2, hidden=4), jnp.asarray(FEATURES)
    params = moved(jax.jit(model.init)(jax.random.key(1), features[:, 0])["params"], 0.3)

    def loss(params: Any, codes: jax.Array, key: jax.Array) -> jax.Array:
        logit = model.apply({"params": params}, code_features(codes, features))
        return jax.nn.softplus(jnp.where(codes[2] == 1, -logit, logit))

    return loss, params, CODES


models = [
    discriminator,
    *(pytest.param(other, marks=pytest.mark.slow) for other in (vae, labeler)),
]
problems = pytest.mark.parametrize("problem", [toy, *models])


def flat(tree: Any, rows: bool = False) -> np.ndarray:
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree)]
    return np.concatenate([x.reshape(len(x), -1) if rows else x.ravel() for x in leaves], axis=-1)


def close(value: np.ndarray, expected: np.ndarray) -> None:
    """To 1e-5 of the longest vector in play."""
    np.testing.assert_allclose(value, expected, atol=1e-5 * max(1.0, np.abs(expected).max()))


@cache
def compiled(problem: Callable[[], Problem]) -> tuple[Any, ...]:
    """The problem, and its two ways to clip, each compiled once: (params, rows, valid, clip)."""
    loss, params, rows = problem()
    ways = (clipped_sum, clipped_gradients)
    jitted = [jax.jit(lambda p, x, v, c, way=way: way(loss, p, x, v, KEYS, c)) for way in ways]
    return loss, params, rows, *jitted


def contributions(problem: Callable[[], Problem], params: Any, bound: float) -> np.ndarray:
    """What each row adds to `clipped_sum`: the sum with that row alone."""
    _, _, rows, summed, _ = compiled(problem)
    alone = np.eye(ROWS, dtype=bool)
    return np.stack([flat(summed(params, rows, only, bound).gradient) for only in alone])


def median_norm(problem: Callable[[], Problem]) -> float:
    """A clip norm that clips some of the rows and leaves some alone."""
    _, params, rows, _, materialised = compiled(problem)
    norms = np.linalg.norm(flat(materialised(params, rows, EVERYONE, 1e30), rows=True), axis=1)
    return float(np.sort(norms)[ROWS // 2 : ROWS // 2 + 2].mean())


@problems
def test_equals_a_loop_over_examples_and_contributions_are_short(problem: Callable[[], Problem]):
    loss, params, rows, summed, materialised = compiled(problem)
    bound = median_norm(problem)
    valid = EVERYONE.copy()
    valid[2] = False
    each = jax.jit(jax.value_and_grad(loss))
    losses, gradients = [], []
    for row, key in zip(rows, KEYS, strict=True):
        value, gradient = each(params, row, key)
        losses.append(float(value))
        gradients.append(flat(gradient))
    norms = np.linalg.norm(gradients, axis=1)
    expected = np.stack(gradients) * np.minimum(1, bound * (1 - MARGIN) / norms)[:, None]

    whole = summed(params, rows, valid, bound)
    table = flat(materialised(params, rows, valid, bound), rows=True)
    alone = contributions(problem, params, bound)
    close(flat(whole.gradient), expected[valid].sum(0))
    close(table, expected * valid[:, None])
    close(table.sum(0), flat(whole.gradient))
    close(alone, expected)
    assert (np.linalg.norm(alone, axis=1) <= bound).all()
    assert (np.linalg.norm(table, axis=1) <= bound).all()
    assert float(whole.clipped) == (norms[valid] > bound).sum() > 0
    assert float(whole.loss) == pytest.approx(np.array(losses)[valid].sum(), rel=1e-5)


@problems
# It calls what its newer dependencies deprecate, and adds ranks of different shapes.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_equals_jax_privacy(problem: Callable[[], Problem]):
    theirs = pytest.importorskip("jax_privacy.clipping")
    loss, params, rows, summed, _ = compiled(problem)
    bound = median_norm(problem)
    oracle = theirs.clipped_grad(
        lambda p, example: loss(p, *example),
        l2_clip_norm=bound * (1 - MARGIN),
        keep_batch_dim=False,
    )
    with jax.numpy_rank_promotion("allow"):
        expected = jax.jit(oracle)(params, (jnp.asarray(rows), KEYS))
    close(flat(summed(params, rows, EVERYONE, bound).gradient), flat(expected))


@problems
@pytest.mark.parametrize("scale", [0.0, 5.0, 1e4])
def test_contributions_are_short_at_any_parameters(problem: Callable[[], Problem], scale: float):
    params = jax.tree.map(lambda leaf: leaf * scale, compiled(problem)[1])
    for bound in (1e-3, 1.0):
        vectors = contributions(problem, params, bound)
        assert (np.linalg.norm(vectors, axis=1) <= bound).all()


# Gradients of any size and kind: the loss is linear, so an example is its own gradient.


def linear(params: Any, row: jax.Array, key: jax.Array) -> jax.Array:
    return (params["a"] * row[:2]).sum() + params["b"] * row[2]


POINT = {"a": np.array([0.5, -1.0], np.float32), "b": np.array(0.25, np.float32)}


@jax.jit
def linear_sum(rows: jax.Array, valid: jax.Array, bound: jax.Array) -> tuple[ClippedSum, Any, Any]:
    keys = KEYS[:4]
    alone = jax.vmap(lambda only: clipped_sum(linear, POINT, rows, only, keys, bound).gradient)
    return (
        clipped_sum(linear, POINT, rows, valid, keys, bound),
        clipped_gradients(linear, POINT, rows, valid, keys, bound),
        alone(np.eye(4, dtype=bool) & valid[None]),
    )


numbers = st.one_of(
    st.floats(width=32),
    st.floats(-1, 1, width=32),
    st.sampled_from([1e15, -1e20, 1e30, 3.4e38, 1e-20, 1e-38, 1e-45, 0.0, np.nan, np.inf, -np.inf]),
)


@given(
    arrays(np.float32, (4, 3), elements=numbers),
    arrays(bool, 4),
    st.sampled_from([1e-6, 0.1, 1.0, 8.0, 1e6]),
)
@example(np.full((4, 3), np.nan, np.float32), np.ones(4, bool), 1.0)
@example(np.full((4, 3), 3e38, np.float32), np.ones(4, bool), 1.0)
@example(np.zeros((4, 3), np.float32), np.ones(4, bool), 1.0)
def test_any_example_contributes_at_most_the_clip_norm(
    rows: np.ndarray, valid: np.ndarray, bound: float
):
    whole, materialised, alone = linear_sum(rows, valid, bound)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.square(rows).sum(1)  # in float32: a norm that overflows counts as not finite
    for contributions in (materialised, alone):
        vectors = flat(contributions, rows=True)
        assert np.isfinite(vectors).all()
        assert (np.linalg.norm(vectors, axis=1) <= bound).all()
        assert (vectors[~valid | ~np.isfinite(squares)] == 0).all()
    short = valid & np.isfinite(squares) & (np.sqrt(squares) < bound * (1 - 2 * MARGIN))
    # Below 1e-37 a device may flush to zero.
    np.testing.assert_allclose(flat(alone, rows=True)[short], rows[short], rtol=0, atol=2e-38)
    close(flat(whole.gradient), flat(alone, rows=True).sum(0))


def test_an_unclipped_gradient_is_unchanged_bit_for_bit():
    rows = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32) * 0.1
    for contributions in linear_sum(rows, np.ones(4, bool), 1.0)[1:]:
        np.testing.assert_array_equal(flat(contributions, rows=True), rows)


@given(arrays(np.float32, (4, 3), elements=numbers), st.integers(0, 3))
def test_neighbouring_sums_differ_by_at_most_the_clip_norm(rows: np.ndarray, i: int):
    """Float32 sums of four vectors are exact to a few 1e-7, which the margin covers."""
    without = np.ones(4, bool)
    without[i] = False
    larger, smaller = (linear_sum(rows, v, 2.0)[0].gradient for v in (np.ones(4, bool), without))
    assert np.linalg.norm(flat(larger) - flat(smaller)) <= 2.0


def test_a_clip_norm_of_zero_gives_zero():
    rows = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    rows[3] = 0
    for contributions in linear_sum(rows, np.ones(4, bool), 0.0):
        assert not flat(getattr(contributions, "gradient", contributions)).any()


def test_an_infinite_clip_norm_clips_nothing():
    rows = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32) * 1e10
    whole = linear_sum(rows, np.ones(4, bool), np.inf)[0]
    close(flat(whole.gradient), rows.astype(np.float64).sum(0))
    assert float(whole.clipped) == 0


def test_no_rows_give_a_zero_sum():
    whole = clipped_sum(linear, POINT, np.zeros((0, 3), np.float32), EVERYONE[:0], KEYS[:0], 1.0)
    assert not flat(whole.gradient).any()
    assert (float(whole.loss), float(whole.clipped)) == (0, 0)


@problems
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_parameters_that_are_not_finite_give_zero(problem: Callable[[], Problem], value: float):
    _, params, rows, summed, _ = compiled(problem)
    leaves, form = jax.tree.flatten(jax.tree.map(np.array, params))
    leaves[0].flat[0] = value
    broken = jax.tree.unflatten(form, leaves)
    assert not flat(summed(broken, rows, EVERYONE, 1.0).gradient).any()


@problems
def test_what_a_padding_row_holds_is_never_seen(problem: Callable[[], Problem]):
    """Bit for bit, in value and gradient; codes beyond the width included."""
    _, params, rows, summed, _ = compiled(problem)
    valid = np.array([True, False, True, True, False, False, True])
    fills = (1, 255) if rows.dtype == np.uint8 else (np.nan, np.inf, 1e30)

    def run(fill: float) -> list[np.ndarray]:
        table = np.where(valid[:, None], rows, np.array(fill, rows.dtype))
        return [np.asarray(x) for x in jax.tree.leaves(summed(params, table, valid, 1.0))]

    reference = run(0)
    for fill in fills:
        for a, b in zip(run(fill), reference, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("problem", models)
def test_an_example_depends_on_no_other(problem: Callable[[], Problem]):
    """BatchNorm and its like would show here: the rows around an example are changed."""
    _, params, rows, _, materialised = compiled(problem)
    others = ((rows + 1) % WIDTH).astype(np.uint8)
    others[3] = rows[3]
    before, after = (
        flat(materialised(params, x, EVERYONE, 1.0), rows=True) for x in (rows, others)
    )
    np.testing.assert_array_equal(before[3], after[3])
    assert (before[2] != after[2]).any()
