from __future__ import annotations

import dataclasses
from functools import cache
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdpjax.data.schema import Categorical, Numeric, Schema
from rdpjax.data.tokenizer import Marginals, Tokenizer
from rdpjax.models.vae import log_prior
from rdpjax.stages.gan import GanStage
from rdpjax.stages.stage import Context, Training
from rdpjax.stages.vae import VaeStage

SCHEMA = Schema(
    "toy", (Numeric("x", "m", 0, 5), Categorical("y", (0, 1)), Categorical("c", (1, 2, 3))), "y"
)
VAE = VaeStage(latent=3, channels=2)
GAN = GanStage(fakes=64, noise=4, hidden=4, channels=2, generator_every=2)
KEY = jnp.array([4, 2], jnp.uint32)


@cache
def context(given: str | None = None) -> Context:
    schema = dataclasses.replace(SCHEMA, given=given)
    shares = list(Marginals.uniform(schema, 40.0).shares)
    shares[1] = np.array([0.7, 0.3])
    tokenizer = Tokenizer.make(schema, Marginals(tuple(shares), (0.0,) * 3, 40.0))
    prior = log_prior(tokenizer.code_shares(), tokenizer.widths)
    features = tokenizer.code_features(3)
    bare = Context(tokenizer, {"vae": VAE}, {}, prior, features, 0.3)
    decoder = jax.jit(VAE.model(bare).init)(jax.random.key(3))
    # Away from its start, so that the label and the latent go together.
    moved = jax.tree.map(lambda leaf: leaf * 3, decoder["decoder"])
    return dataclasses.replace(bare, artefacts={"vae": {"decoder": moved}})


@cache
def training(stage: GanStage = GAN) -> tuple[Training, Any]:
    made = stage.training(context())
    return made._replace(update=jax.jit(made.update)), jax.jit(made.init)(jax.random.key(0))


def same(a: Any, b: Any) -> bool:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def test_only_the_discriminator_is_trained_on_records():
    made, state = training()
    params, _ = made.objective(state)
    assert same(params, state.discriminator.params)


def test_the_generators_update_does_not_depend_on_the_records():
    """Other records, another gradient; the same noisy gradient, the same update bit for bit."""
    made, state = training()
    params, loss = made.objective(state)
    rows = np.random.default_rng(0).integers(0, (6, 2, 3), (2, 30, 3)).astype(np.uint8)

    @jax.jit
    @jax.grad
    def step(params: Any, records: jax.Array) -> jax.Array:
        key = jax.random.key(0)
        noise = sum(leaf.sum() for leaf in jax.tree.leaves(params))  # the same for both
        return jax.vmap(lambda codes: loss(params, codes, key))(records).mean() + noise

    one, other = step(params, rows[0]), step(params, rows[1])
    assert not same(one, other)

    after, _ = made.update(state, one, KEY)
    again, _ = made.update(state, jax.tree.map(jnp.copy, one), KEY)
    assert same(after, again)
    # With the discriminator held, the generator does not move with the records at all.
    swapped, _ = made.update(state, other, KEY)
    assert same(after.generator, swapped.generator)  # no generator step is due yet
    assert not same(after.discriminator, swapped.discriminator)


def test_the_real_loss_depends_on_the_record_alone():
    made, state = training()
    params, loss = made.objective(state)
    codes = jnp.array([3, 1, 2], jnp.uint8)
    assert loss(params, codes, jax.random.key(0)) == loss(params, codes, jax.random.key(1))


def test_the_generator_steps_when_it_is_due():
    made, state = training()
    gradient = jax.tree.map(jnp.zeros_like, made.objective(state)[0])
    steps = [state]
    for i in range(4):
        steps.append(made.update(steps[-1], gradient, jnp.array([0, i], jnp.uint32))[0])
    moved = [not same(a.generator, b.generator) for a, b in pairwise(steps)]
    assert moved == [False, True, False, True]
    assert float(steps[-1].discriminator.step) == 4
    assert float(steps[-1].generator.step) == 2


def test_the_decoder_stays_as_it_was_trained():
    before = jax.tree.map(np.array, context().artefacts["vae"])
    made, state = training()
    gradient = jax.tree.map(jnp.zeros_like, made.objective(state)[0])
    for i in range(2):
        state, _ = made.update(state, gradient, jnp.array([1, i], jnp.uint32))
    assert same(before, context().artefacts["vae"])
    assert set(made.release(state)) == {"generator"}


def test_the_generator_starts_at_the_decoders_prior_split_by_label():
    """Weighted by the decoder's own label share, the two halves add up to N(0, I)."""
    _, state = training()
    params = state.generator.params
    decoder = context().artefacts["vae"]["decoder"]
    z = jax.random.normal(jax.random.key(9), (20_000, 3))
    features = jnp.asarray(context().features)
    logits = VAE.model(context()).decode(decoder, z, context().prior, features)
    given = np.asarray(jax.nn.softmax(logits[:, 1, :2]))
    share = given.mean(0)
    means, roots = np.asarray(params["mean"]), np.asarray(params["root"])
    assert np.abs(means[0] - means[1]).max() > 0.1  # there is something to split
    np.testing.assert_allclose(share @ means, np.zeros(3), atol=0.04)
    second = [r @ r.T + np.outer(m, m) for r, m in zip(roots, means, strict=True)]
    np.testing.assert_allclose(np.tensordot(share, second, 1), np.eye(3), atol=0.05)
    expected = given.T @ np.asarray(z) / given.sum(0)[:, None]
    np.testing.assert_allclose(means, expected, atol=0.06)


def test_labels_are_drawn_from_the_noisy_share():
    made, state = training()
    emit = jax.jit(GAN.emit(context()), static_argnums=(2, 3))
    codes = np.asarray(emit(made.release(state), jax.random.key(0), 10_000, 2))
    assert abs(np.mean(codes[0, :, 1]) - 0.3) < 5 * np.sqrt(0.21 / 10_000)
    np.testing.assert_array_equal(codes[0, :, 1], codes[1, :, 1])  # a row's draws share its label


def test_a_given_column_is_the_class_and_the_latent_starts_at_the_prior():
    told = context("c")
    made = GAN.training(told)
    state = jax.jit(made.init)(jax.random.key(0))
    params = state.generator.params
    np.testing.assert_array_equal(params["mean"], np.zeros((1, 3)))
    np.testing.assert_array_equal(params["root"], np.eye(3)[None])
    emit = jax.jit(GAN.emit(told), static_argnums=(2, 3))
    codes = np.asarray(emit(made.release(state), jax.random.key(0), 9_000, 2))
    found = np.bincount(codes[0, :, 2], minlength=3) / 9_000
    np.testing.assert_allclose(found, np.full(3, 1 / 3), atol=5 * np.sqrt(0.22 / 9_000))
    np.testing.assert_array_equal(codes[0, :, 2], codes[1, :, 2])
    gradient = jax.tree.map(jnp.zeros_like, made.objective(state)[0])
    update = jax.jit(made.update)
    for i in range(2):
        state, metrics = update(state, gradient, jnp.array([1, i], jnp.uint32))
    assert np.isfinite(metrics["fake_loss"]) and not same(params, state.generator.params)


@pytest.mark.parametrize("fakes", [32])
def test_the_number_of_fakes_is_fixed_by_the_settings(fakes: int):
    """Shapes in the update come from the settings: the drawn batch does not occur in it."""
    stage = dataclasses.replace(GAN, fakes=fakes)
    made = stage.training(context())
    state = training()[1]
    gradient = jax.tree.map(jnp.zeros_like, made.objective(state)[0])
    text = str(jax.make_jaxpr(made.update)(state, gradient, KEY))
    assert f"f32[{fakes},3,6]" in text
