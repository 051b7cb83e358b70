"""Stage B: a GAN through the frozen decoder. Only its discriminator reads records.

The discriminator's gradient on real pairs (record, label) is clipped and noised by the engine; its
gradient on generated pairs is exact, since they do not depend on records. The generator is trained
on the noisy discriminator and the frozen decoder alone: post-processing.

The generator maps noise to a latent, given a class drawn first from its noisy share: the level of
the label, or of the decoder's condition column.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rdpjax.data.schema import Schema
from rdpjax.dpsgd.clipping import Params
from rdpjax.dpsgd.keys import as_key
from rdpjax.dpsgd.loop import Metrics
from rdpjax.errors import UserError
from rdpjax.models.gan import Discriminator, Generator, straight_through
from rdpjax.models.layers import code_features, draw_codes, look_up, one_hot
from rdpjax.models.vae import INPUT_SCALE, Vae
from rdpjax.stages.optimiser import AveragedAdam, Trained
from rdpjax.stages.stage import Artefact, Context, Emit, Training

PRIOR_DRAWS = 20_000
"""Draws from the decoder's prior that estimate the latent's moments by class; post-processing."""


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
      learning_rate: Adam's initial learning rate for the discriminator; falls linearly to 0.
      generator_rate: Adam's initial learning rate for the generator; falls linearly to 0.
      generator_every: number of discriminator steps for one generator step.
      fakes: number of generated pairs in a batch, whatever the draw of records.
      noise: number of the generator's noise dimensions, at least the decoder's latent ones.
      hidden: width of the dense layers, in units.
      channels: number of channels of the convolutions.
      temperature: temperature of the relaxed samples in the generator's gradient; no unit.
      decay: decay per step of the released moving average of the parameters, in [0, 1).
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

    def check(self, schema: Schema) -> None:
        """Raise UserError where there is no column to draw the class from."""
        if schema.given is None and schema.label is None:
            raise UserError(
                f"gan: needs a column that the class is drawn from, and schema {schema.name!r} has "
                "neither label nor given; name one, or leave the stage out"
            )

    def check_stages(self, stages: Mapping[str, Any]) -> None:
        """Raise UserError unless a VAE with at most `noise` latent dimensions comes first."""
        if "vae" not in stages:
            raise UserError("stages: gan needs the decoder of vae; keep vae")
        if self.noise < (latent := stages["vae"].latent):
            raise UserError(f"gan.noise is {self.noise}; it must be vae.latent = {latent} or more")

    def training(self, context: Context) -> Training:
        tokenizer = context.tokenizer
        column = self._column(context)
        columns, width = len(tokenizer.groups), tokenizer.width
        features = jnp.asarray(context.features)
        generator, model = self._generator(context), Discriminator(self.channels, self.hidden)
        critic = AveragedAdam(self.learning_rate, self.steps, self.decay, b1=0.5)
        maker = AveragedAdam(
            self.generator_rate, self.steps // self.generator_every, self.decay, b1=0.5
        )

        def score(params: Params, seen: jax.Array) -> jax.Array:
            return model.apply({"params": params}, seen)  # type: ignore[return-value]

        def fake_pairs(params: Params, key: jax.Array) -> jax.Array:
            """Generate features of pairs, (fakes, columns, order), with the drawn class."""
            made_key, draw_key = jax.random.split(key)
            logits, classes = self._logits(context, params, made_key, self.fakes)
            pairs = straight_through(draw_key, logits, self.temperature)
            pairs = pairs.at[:, column].set(one_hot(classes, width))
            return look_up(pairs, features)

        def init(key: jax.Array) -> GanState:
            prior_key, maker_key, critic_key = jax.random.split(key, 3)
            means, roots = self._start(context, prior_key)
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
        """Return a sampler of records from noise and a class drawn from its noisy share."""
        column = self._column(context)

        def emit(artefact: Artefact, key: jax.Array, rows: int, draws: int) -> jax.Array:
            made_key, draw_key = jax.random.split(key)
            logits, classes = self._logits(context, artefact["generator"], made_key, rows)
            return draw_codes(draw_key, logits, draws).at[:, :, column].set(classes)

        return emit

    def _column(self, context: Context) -> int:
        """Return the index of the class column in a record."""
        tokenizer = context.tokenizer
        return (
            tokenizer.schema.position(tokenizer.schema.label)
            if tokenizer.given is None
            else tokenizer.given
        )

    def _generator(self, context: Context) -> Generator:
        vae, levels = self._vae(context), context.tokenizer.widths[self._column(context)]
        known = levels if vae.given is None else vae.order
        return Generator(self.noise, vae.latent, self.hidden, known)

    def _logits(
        self, context: Context, params: Params, key: jax.Array, rows: int
    ) -> tuple[jax.Array, jax.Array]:
        """Compute logits (rows, columns, width) of records from noise, and classes (rows,)."""
        class_key, noise_key = jax.random.split(key)
        column, levels = self._column(context), context.tokenizer.widths[self._column(context)]
        classes = draw_codes(class_key, jnp.asarray(context.prior)[column], rows)
        noise = jax.random.normal(noise_key, (rows, self.noise))
        if self._vae(context).given is None:
            which = known = jax.nn.one_hot(classes, levels)
        else:  # The decoder is conditioned on the class, so one affine map serves all classes.
            which = jnp.ones((rows, 1))
            known = jnp.asarray(context.features)[column][classes] * INPUT_SCALE
        z = self._generator(context)(params, noise, which, known)
        return self._decode(context, z, classes), classes

    def _vae(self, context: Context) -> Vae:
        vae: Vae = context.stages["vae"].model(context)
        return vae

    def _decode(
        self, context: Context, z: jax.Array, classes: jax.Array | None = None
    ) -> jax.Array:
        """Compute logits by the trained, frozen decoder, conditioned on `classes` if given."""
        decoder = context.artefacts["vae"]["decoder"]
        prior, features = jnp.asarray(context.prior), jnp.asarray(context.features)
        return self._vae(context).decode(decoder, z, prior, features, classes)

    def _start(self, context: Context, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Compute the latent's mean and Cholesky root for each class, under prior and decoder.

        A latent is independent of the decoder's condition column: then one map serves all classes.
        """
        latent, column = self._vae(context).latent, self._column(context)
        if self._vae(context).given is not None:
            return jnp.zeros((1, latent)), jnp.eye(latent)[None]
        z = jax.random.normal(key, (PRIOR_DRAWS, latent))
        levels = context.tokenizer.widths[column]
        weights = jax.nn.softmax(self._decode(context, z)[:, column, :levels])
        weights = weights / weights.sum(axis=0, keepdims=True)
        means = weights.T @ z
        moments = jnp.einsum("ny,ni,nj->yij", weights, z, z)
        spreads = moments - jnp.einsum("yi,yj->yij", means, means)
        return means, jnp.linalg.cholesky(spreads + 1e-4 * jnp.eye(latent)[None])
