from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdpjax.models.vae import Vae, fading, log_prior

COLUMNS, WIDTH, ORDER = 4, 5, 3
VAE = Vae(COLUMNS, WIDTH, ORDER, latent=3, channels=2)
PARAMS = jax.jit(VAE.init)(jax.random.key(0))
WIDTHS = (5, 2, 3, 4)
SHARES = np.array(
    [[0.1, 0.2, 0.3, 0.25, 0.15], [0.7, 0.3, 0, 0, 0], [0.5, 0, 0.5, 0, 0], [0.25] * 4 + [0]]
)
PRIOR = log_prior(SHARES, WIDTHS)
CODES = np.random.default_rng(0).integers(0, WIDTHS, (6, COLUMNS)).astype(np.uint8)
EXISTS = PRIOR > -1e8
# As a codec has them: 0 where there is no code.
FEATURES = jnp.asarray(
    np.random.default_rng(1).normal(size=(COLUMNS, WIDTH, ORDER)) * EXISTS[..., None], jnp.float32
)

encode = jax.jit(lambda params, codes: VAE.encode(params, codes, FEATURES))
decode = jax.jit(lambda decoder, z: VAE.decode(decoder, z, PRIOR, FEATURES))


@jax.jit
def loss(params: Any, codes: jax.Array, key: jax.Array, beta: jax.Array) -> jax.Array:
    return VAE.loss(params, codes, key, PRIOR, FEATURES, beta)


slope = jax.jit(jax.grad(loss))


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_the_loss_is_the_negative_elbo(beta: float):
    """In float64, from what the networks say of the record."""
    for i, codes in enumerate(CODES):
        key = jax.random.key(i)
        mean, log_variance = (np.asarray(x, np.float64) for x in encode(PARAMS, codes))
        normal = np.asarray(jax.random.normal(key, (3,)), np.float64)
        z = (mean + np.sqrt(np.exp(log_variance)) * normal).astype(np.float32)
        logits = np.asarray(decode(PARAMS["decoder"], z), np.float64)
        top = logits.max(1, keepdims=True)
        normalised = logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True))
        likelihood = normalised[np.arange(COLUMNS), codes].sum()
        kl = 0.5 * (np.exp(log_variance) + mean**2 - 1 - log_variance).sum()
        value = loss(PARAMS, codes, key, beta)
        assert float(value) == pytest.approx(beta * kl - likelihood, rel=1e-5)


def test_kl_is_zero_at_the_prior_and_positive_elsewhere():
    zero = jax.tree.map(jnp.zeros_like, PARAMS)
    codes = CODES[0]
    key = jax.random.key(0)
    assert float(loss(zero, codes, key, 1.0)) == pytest.approx(float(loss(zero, codes, key, 0.0)))
    assert loss(PARAMS, codes, key, 1.0) > loss(PARAMS, codes, key, 0.0)


def test_a_silent_decoder_gives_the_noisy_shares():
    silent = jax.tree.map(jnp.zeros_like, PARAMS["decoder"])
    shares = jax.nn.softmax(decode(silent, jnp.ones((7, 3))))
    floored = np.where(EXISTS, np.maximum(SHARES, 1e-4), 0)
    expected = floored / floored.sum(1, keepdims=True)
    np.testing.assert_allclose(shares, np.broadcast_to(expected, shares.shape), atol=1e-6)
    np.testing.assert_allclose(shares[0], SHARES, atol=1e-3)


def test_codes_that_do_not_exist_are_never_drawn():
    logits = decode(PARAMS["decoder"], jax.random.normal(jax.random.key(1), (50, 3)) * 9)
    drawn = np.asarray(jax.random.categorical(jax.random.key(2), logits))
    assert (drawn < np.array(WIDTHS)).all()


def test_batches_are_rows():
    mean, log_variance = encode(PARAMS, CODES)
    logits = decode(PARAMS["decoder"], mean)
    assert mean.shape == log_variance.shape == (6, 3) and logits.shape == (6, COLUMNS, WIDTH)
    np.testing.assert_allclose(encode(PARAMS, CODES[2])[0], mean[2], atol=1e-6)
    np.testing.assert_allclose(decode(PARAMS["decoder"], mean[2]), logits[2], rtol=1e-5, atol=1e-5)


def test_both_halves_are_trained():
    gradient = slope(PARAMS, CODES[0], jax.random.key(0), 1.0)
    assert set(gradient) == {"encoder", "decoder"}
    for half in gradient.values():
        assert any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(half))


def test_the_zero_example_has_a_finite_gradient():
    """Padding is blanked to it: `clipped_sum` asks for this."""
    gradient = slope(PARAMS, CODES[0] * 0, jax.random.key(0), 1.0)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_the_record_is_seen_through_its_features_alone():
    """Codes of the same features are the same to the encoder."""
    codes = np.array([[0, 0, 0, 1], [0, 0, 0, 2]], np.uint8)
    twins = FEATURES.at[3, 2].set(FEATURES[3, 1])
    for features, alike in ((FEATURES, False), (twins, True)):
        means, _ = VAE.encode(PARAMS, codes, features)
        assert np.array_equal(means[0], means[1]) is alike


def test_features_steer_the_heads_of_codes_that_exist():
    """A logit is the prior and its code's features times the column's weights, linear in them."""
    z = jnp.array([0.3, -1.0, 2.0])
    one, two = (VAE.decode(PARAMS["decoder"], z, 0 * PRIOR, f * FEATURES) for f in (1, 2))
    np.testing.assert_allclose(2 * one, two, rtol=1e-5)
    assert not np.asarray(one)[~EXISTS].any() and np.asarray(one)[EXISTS].all()


# -- a given column ------------------------------------------------------------------------------

TOLD = Vae(COLUMNS, WIDTH, ORDER, latent=3, channels=2, given=3)
TOLD_PARAMS = jax.jit(TOLD.init)(jax.random.key(0))


@jax.jit
def told_logits(z: jax.Array, known: jax.Array) -> jax.Array:
    return TOLD.decode(TOLD_PARAMS["decoder"], z, PRIOR, FEATURES, jnp.asarray(known))


def test_a_given_column_steers_all_others_and_keeps_its_prior():
    z = jnp.zeros((4, 3))
    logits = np.asarray(told_logits(z, jnp.arange(4)))
    np.testing.assert_array_equal(logits[:, 3], np.broadcast_to(PRIOR[3], (4, WIDTH)))
    for column in range(3):
        assert (np.abs(np.diff(logits[:, column], axis=0))[:, EXISTS[column]] > 0).all()


def test_the_path_from_the_given_column_to_the_heads_is_direct():
    """With nothing from the bottleneck to the heads, what is given still moves them, linearly."""
    decoder = TOLD_PARAMS["decoder"]
    heads = decoder["PositionDense_0"]
    assert heads["kernel"].shape == (COLUMNS, 2 + ORDER, ORDER)
    closed = {**decoder, "PositionDense_0": {**heads, "kernel": heads["kernel"].at[:, :2].set(0)}}
    one, two = (
        TOLD.decode(
            closed, jnp.zeros(3), 0 * PRIOR, FEATURES * jnp.ones(4).at[3].set(k)[:, None, None], 2
        )
        for k in (1.0, 2.0)
    )
    assert np.abs(one[:3]).max() > 0
    np.testing.assert_allclose(two, 2 * one, rtol=1e-4, atol=1e-6)


def test_the_given_column_is_left_out_of_the_likelihood():
    """A prior of the given column that is far off changes nothing."""
    key, off = jax.random.key(1), PRIOR.copy()
    off[3, :4] = [-50, 3, 0, -7]
    values = [TOLD.loss(TOLD_PARAMS, CODES[0], key, prior, FEATURES) for prior in (PRIOR, off)]
    assert float(values[0]) == float(values[1])
    mean, log_variance = TOLD.encode(TOLD_PARAMS, CODES[0], FEATURES)
    z = mean + jnp.exp(log_variance / 2) * jax.random.normal(key, (3,))
    chances = jax.nn.log_softmax(told_logits(z, CODES[0, 3]))[np.arange(3), CODES[0, :3]]
    kl = 0.5 * (jnp.exp(log_variance) + mean**2 - 1 - log_variance).sum()
    assert float(values[0]) == pytest.approx(float(kl - chances.sum()), rel=1e-5)


def test_fading_starts_at_one_and_falls_alike():
    scales = np.asarray(fading(6))
    assert scales.shape == (6,) and scales[0] == 1
    np.testing.assert_allclose(scales[5:], np.exp(-1), rtol=1e-6)
    np.testing.assert_allclose(scales[1:] / scales[:-1], np.exp(-0.2), rtol=1e-6)


def test_the_decoder_hears_later_dimensions_less():
    """With the same weights on every dimension, the logits' slope is as `fading` says."""
    kernel = PARAMS["decoder"]["Dense_0"]["kernel"]
    alike = {**PARAMS["decoder"]["Dense_0"], "kernel": jnp.broadcast_to(kernel[0], kernel.shape)}
    decoder = {**PARAMS["decoder"], "Dense_0": alike}
    slopes = np.asarray(jax.jacobian(lambda z: decode(decoder, z))(jnp.zeros(3)))[EXISTS]
    expected = slopes[:, :1] * np.asarray(fading(3))
    assert slopes.any()
    np.testing.assert_allclose(slopes, expected, rtol=1e-4, atol=1e-6)
