"""Stage B: a GAN through the frozen decoder. Only its discriminator reads records.

The discriminator's gradient on real pairs (record, label) is clipped and noised by the engine; its
gradient on generated pairs is exact, since nothing generated is private. The generator learns
from the noisy discriminator and the frozen decoder alone: post-processing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rdpjax.dpsgd.clipping import Params
from rdpjax.dpsgd.keys import as_key
from rdpjax.dpsgd.loop import Metrics
from rdpjax.models.gan import Discriminator, Generator, straight_through
from rdpjax.models.layers import code_features, look_up, one_hot
from rdpjax.models.vae import Vae
from rdpjax.stages.optimiser import AveragedAdam, Trained
from rdpjax.stages.stage import Artefact, Context, Emit, Training

PRIOR_DRAWS = 20_000
"""Draws from the decoder's prior that split it by label; post-processing."""


class GanState(NamedTuple):
    discriminator: Trained
    generator: Trained


@dataclass(frozen=True)
class GanStage:
    """Settings of the GAN.

    Attributes:
      sampling_rate: share of the records expected in a batch, in (0, 1].
      steps: number of noisy steps of the discriminator.
      clip_norm: L2 bound on one record's gradient.
      learning_rate: Adam's first rate for the discriminator; falls linearly to 0.
      generator_rate: Adam's first rate for the generator; falls linearly to 0.
      generator_every: number of discriminator steps for one generator step.
      fakes: number of generated pairs in a batch, whatever the draw of records.
      noise: number of the generator's noise dimensions, at least the decoder's latent ones.
      hidden: width of the dense layers, in units.
      channels: number of channels of the convolutions.
      temperature: of the relaxed draws behind the generator's gradient; no unit.
      decay: of the moving average of the parameters that is released, in [0, 1), a step.
    """

    sampling_rate: float = 0.04
    steps: int = 150
    clip_norm: float = 2.0
    learning_rate: float = 0.005
    generator_rate: float = 0.0003
    generator_every: int = 1
    fakes: int = 512
    noise: int = 64
    hidden: int = 16
    channels: int = 8
    temperature: float = 0.7
    decay: float = 0.98

    def training(self, context: Context) -> Training:
        codec = context.codec
        label = codec.schema.position(codec.schema.label)
        columns, width = len(codec.groups), codec.width
        features = jnp.asarray(context.features)
        generator, model = self._generator(context), Discriminator(self.channels, self.hidden)
        critic = AveragedAdam(self.learning_rate, self.steps, self.decay, b1=0.5)
        maker = AveragedAdam(
            self.generator_rate, self.steps // self.generator_every, self.decay, b1=0.5
        )

        def score(params: Params, seen: jax.Array) -> jax.Array:
            return model.apply({"params": params}, seen)  # type: ignore[return-value]

        def fake_pairs(params: Params, key: jax.Array) -> jax.Array:
            """Features of generated pairs, (fakes, columns, order), the drawn label among them."""
            label_key, noise_key, draw_key = jax.random.split(key, 3)
            labels = jax.random.bernoulli(label_key, context.label_share, (self.fakes,))
            noise = jax.random.normal(noise_key, (self.fakes, self.noise))
            z = generator(params, noise, labels.astype(jnp.int32))
            logits = self._decode(context, z)
            pairs = straight_through(draw_key, logits, self.temperature)
            pairs = pairs.at[:, label].set(one_hot(labels.astype(jnp.int32), width))
            return look_up(pairs, features)

        def init(key: jax.Array) -> GanState:
            prior_key, maker_key, critic_key = jax.random.split(key, 3)
            means, roots = self._split_prior(context, prior_key, label)
            return GanState(
                critic.start(
                    model.init(critic_key, jnp.zeros((columns, features.shape[-1])))["params"]
                ),
                maker.start(generator.init(maker_key, means, roots)),
            )

        def real_loss(params: Params, codes: jax.Array, key: jax.Array) -> jax.Array:
            return jax.nn.softplus(-score(params, code_features(codes, features)))

        def update(state: GanState, gradient: Params, key: jax.Array) -> tuple[GanState, Metrics]:
            critic_key, maker_key = jax.random.split(as_key(key))
            fakes = fake_pairs(state.generator.params, critic_key)

            def fake_loss(params: Params) -> jax.Array:
                return jax.nn.softplus(score(params, fakes)).mean()

            fake, exact = jax.value_and_grad(fake_loss)(state.discriminator.params)
            both = jax.tree.map(jnp.add, gradient, exact)
            discriminator = critic.advance(state.discriminator, both)

            def maker_loss(params: Params) -> jax.Array:
                pairs = fake_pairs(params, maker_key)
                return jax.nn.softplus(-score(discriminator.mean, pairs)).mean()

            def move(maker_state: Trained) -> Trained:
                return maker.advance(maker_state, jax.grad(maker_loss)(maker_state.params))

            due = (state.discriminator.step + 1) % self.generator_every == 0
            moved = jax.lax.cond(due, move, lambda same: same, state.generator)
            return GanState(discriminator, moved), {"fake_loss": fake}

        return Training(
            init=init,
            objective=lambda state: (state.discriminator.params, real_loss),
            update=update,
            release=lambda state: {"generator": state.generator.mean},
        )

    def emit(self, context: Context) -> Emit:
        """Records from noise and a label drawn from the noisy share."""
        generator = self._generator(context)

        def emit(artefact: Artefact, key: jax.Array, rows: int) -> tuple[jax.Array, jax.Array]:
            label_key, noise_key = jax.random.split(key)
            labels = jax.random.bernoulli(label_key, context.label_share, (rows,)).astype(jnp.int32)
            noise = jax.random.normal(noise_key, (rows, self.noise))
            z = generator(artefact["generator"], noise, labels)
            return self._decode(context, z), labels

        return emit

    def _generator(self, context: Context) -> Generator:
        return Generator(self.noise, self._vae(context).latent, self.hidden)

    def _vae(self, context: Context) -> Vae:
        return context.stages["vae"].model(context)

    def _decode(self, context: Context, z: jax.Array) -> jax.Array:
        """Logits by the trained, frozen decoder."""
        decoder = context.artefacts["vae"]["decoder"]
        features = jnp.asarray(context.features)
        return self._vae(context).decode(decoder, z, jnp.asarray(context.prior), features)

    def _split_prior(
        self, context: Context, key: jax.Array, label: int
    ) -> tuple[jax.Array, jax.Array]:
        """Mean and Cholesky root of the latent given each label, under prior and decoder."""
        latent = self._vae(context).latent
        z = jax.random.normal(key, (PRIOR_DRAWS, latent))
        weights = jax.nn.softmax(self._decode(context, z)[:, label, :2])
        weights = weights / weights.sum(axis=0, keepdims=True)
        means = weights.T @ z
        moments = jnp.einsum("ny,ni,nj->yij", weights, z, z)
        spreads = moments - jnp.einsum("yi,yj->yij", means, means)
        return means, jnp.linalg.cholesky(spreads + 1e-4 * jnp.eye(latent)[None])


STAGE = GanStage
