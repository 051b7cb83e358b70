"""Autoregressive network under DP-SGD. Reads records; releases params that generate records."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from rdpjax.dpsgd.clipping import Params
from rdpjax.models.autoregressive import Autoregressive
from rdpjax.stages.optimiser import AveragedAdam
from rdpjax.stages.stage import Artefact, Context, Emit, Training


@dataclass(frozen=True)
class AutoregressiveStage:
    """Settings of the autoregressive network.

    Attributes:
      sampling_rate: share of the records expected in a batch, in (0, 1].
      steps: number of noisy steps.
      clip_norm: L2 bound on one record's gradient.
      learning_rate: Adam's initial learning rate; falls linearly to 0.
      hidden: number of hidden units.
      decay: decay per step of the released moving average of the parameters, in [0, 1).
    """

    sampling_rate: float = 0.12
    steps: int = 300
    clip_norm: float = 15.0
    learning_rate: float = 0.05
    hidden: int = 64
    decay: float = 0.98

    def training(self, context: Context) -> Training:
        model = self.model(context)
        prior, features = jnp.asarray(context.prior), jnp.asarray(context.features)
        optimiser = AveragedAdam(self.learning_rate, self.steps, self.decay)

        def loss(params: Params, codes: jax.Array, key: jax.Array) -> jax.Array:
            return model.loss(params, codes, prior, features)

        return Training(
            init=lambda key: optimiser.start(model.init(key)),
            objective=lambda state: (state.params, loss),
            update=lambda state, gradient, key: (optimiser.advance(state, gradient), {}),
            release=lambda state: state.mean,
        )

    def emit(self, context: Context) -> Emit:
        """Return a sampler of records, column by column; draws are independent records."""
        model = self.model(context)
        prior, features = jnp.asarray(context.prior), jnp.asarray(context.features)

        def emit(artefact: Artefact, key: jax.Array, rows: int, draws: int) -> jax.Array:
            codes = model.draw(artefact, key, draws * rows, prior, features)
            return codes.reshape(draws, rows, -1)

        return emit

    def model(self, context: Context) -> Autoregressive:
        tokenizer = context.tokenizer
        return Autoregressive.of(context.features, tokenizer.widths, tokenizer.given, self.hidden)
