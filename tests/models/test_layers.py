from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from rdpjax.models.layers import (
    Conv1d,
    PositionDense,
    code_features,
    draw_codes,
    look_up,
    one_hot,
    tanh,
)

X = np.random.default_rng(0).normal(size=(5, 9, 4)).astype(np.float32)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_conv1d_is_flax_conv_with_the_same_parameters(size: int):
    ours, theirs = Conv1d(6, size), nn.Conv(6, (size,), padding="SAME")
    params = theirs.init(jax.random.key(0), X)
    params["params"]["bias"] = jnp.linspace(-1, 1, 6)
    mine = ours.init(jax.random.key(0), X)
    assert jax.tree.map(jnp.shape, mine) == jax.tree.map(jnp.shape, params)
    np.testing.assert_allclose(ours.apply(params, X), theirs.apply(params, X), atol=1e-5)

    def squares(module: nn.Module) -> object:
        return jax.grad(lambda p: jnp.square(module.apply(p, X)).sum())(params)

    for a, b in zip(jax.tree.leaves(squares(ours)), jax.tree.leaves(squares(theirs)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_one_example_needs_no_batch_axis():
    for module in (Conv1d(6), PositionDense(6)):
        params = module.init(jax.random.key(0), X[0])
        whole = module.apply(params, X)
        for row, expected in zip(X, whole, strict=True):
            np.testing.assert_allclose(module.apply(params, row), expected, atol=1e-5)


def test_position_dense_has_weights_of_its_own_at_every_position():
    module = PositionDense(6, bias_init=nn.initializers.normal())
    params = module.init(jax.random.key(0), X)["params"]
    kernel, bias = np.asarray(params["kernel"]), np.asarray(params["bias"])
    assert (kernel.shape, bias.shape) == ((9, 4, 6), (9, 6))
    expected = np.stack([X[:, i] @ kernel[i] + bias[i] for i in range(9)], axis=1)
    np.testing.assert_allclose(module.apply({"params": params}, X), expected, atol=1e-5)


def test_position_dense_starts_like_lecun_at_every_position():
    x = np.zeros((3, 400), np.float32)
    for scale in (1.0, 0.3):
        kernel = PositionDense(50, scale=scale).init(jax.random.key(0), x)["params"]["kernel"]
        deviations = np.asarray(kernel).std((1, 2)) * np.sqrt(400)
        np.testing.assert_allclose(deviations, scale, rtol=0.05)


def test_one_hot_of_a_code_that_does_not_exist_is_zero():
    codes = jnp.array([0, 2, 3, 255], jnp.uint8)
    expected = [[1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]]
    np.testing.assert_array_equal(one_hot(codes, 3), expected)
    assert one_hot(codes, 3).dtype == jnp.float32


FEATURES = jnp.asarray(np.random.default_rng(1).normal(size=(4, 6, 3)), jnp.float32)
CODES = np.random.default_rng(2).integers(0, 6, (2, 5, 4)).astype(np.uint8)


def test_code_features_are_each_positions_own_rows():
    found = np.asarray(code_features(CODES, FEATURES))
    assert found.shape == (2, 5, 4, 3)
    for place in np.ndindex(CODES.shape):
        np.testing.assert_array_equal(found[place], FEATURES[place[-1], CODES[place]])
    np.testing.assert_array_equal(code_features(CODES[1, 2], FEATURES), found[1, 2])


def test_every_code_of_a_byte_is_found():
    features = jnp.arange(256.0)[None, :, None]
    codes = np.arange(256, dtype=np.uint8)[:, None]
    np.testing.assert_array_equal(code_features(codes, features)[:, 0, 0], np.arange(256))


def test_draws_follow_the_softmax_and_never_leave_the_codes_that_exist():
    logits = jnp.log(jnp.array([[0.2, 0.3, 0.5, 0.0], [0.0, 1.0, 0.0, 0.0]])).clip(-1e9)
    codes = np.asarray(draw_codes(jax.random.key(0), logits, 20_000))
    assert codes.shape == (20_000, 2) and (codes[:, 1] == 1).all()
    found = np.bincount(codes[:, 0], minlength=4) / 20_000
    np.testing.assert_allclose(found, [0.2, 0.3, 0.5, 0], atol=0.02)
    assert found[3] == 0
    assert draw_codes(jax.random.key(0), logits).shape == (2,)


def test_looking_up_one_hots_gives_the_features_of_their_codes():
    """Bit for bit: a sum of zeros and one term. What is generated has the form of what is real."""
    found = look_up(one_hot(CODES, 6), FEATURES)
    np.testing.assert_array_equal(found, code_features(CODES, FEATURES))


def test_looking_up_has_the_features_as_its_gradient():
    record = jax.nn.softmax(jnp.asarray(np.random.default_rng(3).normal(size=(4, 6))))
    weights = jnp.asarray(np.random.default_rng(4).normal(size=(4, 3)), jnp.float32)
    slope = jax.grad(lambda x: (look_up(x, FEATURES) * weights).sum())(record)
    np.testing.assert_allclose(slope, np.einsum("lwf,lf->lw", FEATURES, weights), rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_tanh_is_the_hyperbolic_tangent(dtype: type):
    x = jnp.concatenate([jnp.linspace(-12, 12, 4001), jnp.array([0, -1e30, 1e30, jnp.inf])])
    x = x.astype(dtype)
    exact = np.tanh(np.asarray(x, np.float64))
    spacing = 2e-7 if dtype == jnp.float32 else 2**-8
    assert tanh(x).dtype == dtype
    np.testing.assert_allclose(np.asarray(tanh(x), np.float64), exact, rtol=0, atol=spacing)
    slopes = np.asarray(jax.vmap(jax.grad(tanh))(x), np.float64)
    np.testing.assert_allclose(slopes, 1 - exact**2, rtol=0, atol=4 * spacing)
    assert np.isnan(tanh(jnp.array(jnp.nan)))
