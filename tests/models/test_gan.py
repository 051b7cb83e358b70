from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from rdpjax.models.gan import Discriminator, Generator, straight_through
from rdpjax.models.layers import code_features

GENERATOR = Generator(noise=5, latent=3, hidden=4)
MEANS = jnp.array([[1.0, -1.0, 0.0], [0.5, 2.0, -3.0]])
ROOTS = jnp.stack([jnp.eye(3), jnp.array([[2.0, 0, 0], [0.5, 1.0, 0], [-0.3, 0.2, 0.7]])])
PARAMS = jax.jit(GENERATOR.init)(jax.random.key(0), MEANS, ROOTS)


@jax.jit
def generate(params: object, noise: jax.Array, labels: jax.Array) -> jax.Array:
    which = jax.nn.one_hot(labels, 2)
    return GENERATOR(params, noise, which, which)


def test_the_generator_starts_at_the_given_moments_of_each_label():
    rows = 20_000
    noise = jax.random.normal(jax.random.key(1), (rows, 5))
    for label in (0, 1):
        z = np.asarray(generate(PARAMS, noise, jnp.full(rows, label)))
        np.testing.assert_allclose(z.mean(0), MEANS[label], atol=0.06)
        spread = np.asarray(ROOTS[label] @ ROOTS[label].T)
        np.testing.assert_allclose(np.cov(z.T), spread, atol=0.15)


def test_the_residual_starts_silent_and_is_trained():
    noise, labels = jax.random.normal(jax.random.key(1), (6, 5)), jnp.array([0, 1, 0, 1, 1, 0])
    affine = MEANS[labels] + jnp.einsum("bij,bj->bi", ROOTS[labels], noise[:, :3])
    np.testing.assert_allclose(generate(PARAMS, noise, labels), affine, atol=1e-6)
    gradient = jax.jit(jax.grad(lambda p: jnp.square(generate(p, noise, labels)).sum()))(PARAMS)
    assert any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient["residual"]))


def test_one_map_serves_classes_that_are_told_by_numbers():
    generator = Generator(noise=5, latent=3, hidden=4, known=2)
    params = jax.jit(generator.init)(jax.random.key(0), MEANS[:1], ROOTS[:1])
    noise, one = jnp.ones((2, 5)), jnp.ones((2, 1))
    told = jnp.array([[0.0, 1.0], [2.0, -1.0]])
    params["residual"]["layers_2"]["kernel"] += 1.0
    z = jax.jit(generator)(params, noise, one, told)
    assert z.shape == (2, 3) and (np.abs(z[0] - z[1]) > 0).all()


def test_draws_are_hard_one_hots():
    """Like real records: nothing soft that a discriminator could tell them by."""
    logits = jax.random.normal(jax.random.key(0), (500, 4, 6)) * 3
    drawn = np.asarray(straight_through(jax.random.key(1), logits, 0.7))
    np.testing.assert_allclose(drawn, np.eye(6)[drawn.argmax(-1)], atol=1e-6)
    np.testing.assert_allclose(drawn.sum(-1), 1, atol=1e-6)


def test_draws_follow_the_softmax():
    logits = jnp.log(jnp.array([0.1, 0.2, 0.7]))
    drawn = straight_through(jax.random.key(1), jnp.broadcast_to(logits, (20_000, 3)), 0.7)
    np.testing.assert_allclose(drawn.mean(0), [0.1, 0.2, 0.7], atol=0.02)


def test_the_gradient_of_a_draw_is_that_of_the_relaxed_one():
    key, logits, weights = jax.random.key(1), jnp.array([0.3, -1.0, 2.0]), jnp.array([1.0, -2.0, 3])

    def relaxed(x: jax.Array) -> jax.Array:
        return weights @ jax.nn.softmax((x + jax.random.gumbel(key, x.shape)) / 0.7)

    def hard(x: jax.Array) -> jax.Array:
        return weights @ straight_through(key, x, 0.7)

    np.testing.assert_allclose(jax.grad(hard)(logits), jax.grad(relaxed)(logits), rtol=1e-5)


def test_the_discriminator_scores_pairs_one_by_one():
    model = Discriminator(channels=3, hidden=4)
    rng = np.random.default_rng(0)
    codes, features = rng.integers(0, 5, (7, 4)), jnp.asarray(rng.normal(size=(4, 5, 3)))
    records = code_features(jnp.asarray(codes), features)
    params = jax.jit(model.init)(jax.random.key(0), records[0])
    score = jax.jit(model.apply)
    scores = score(params, records)
    assert scores.shape == (7,)
    for i in range(7):
        np.testing.assert_allclose(score(params, records[i]), scores[i], atol=1e-6)
    # It sees the label: another one, another score.
    other = code_features(jnp.asarray(codes).at[:, 2].set((codes[:, 2] + 1) % 5), features)
    assert (np.abs(score(params, other) - scores) > 0).all()
