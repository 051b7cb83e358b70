"""Stage C: p(label | record) under DP-SGD. Reads records; releases a classifier."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from rdpjax.data.schema import Schema
from rdpjax.dpsgd.clipping import Params
from rdpjax.models.labeler import Labeler
from rdpjax.models.layers import code_features
from rdpjax.stages.optimiser import AveragedAdam, Trained
from rdpjax.stages.requirements import need_two_levels
from rdpjax.stages.stage import Artefact, Context, Training


@dataclass(frozen=True)
class LabelerStage:
    """Settings of the labeler.

    Attributes:
      sampling_rate: share of the records expected in a batch, in (0, 1].
      steps: number of noisy steps.
      clip_norm: L2 bound on one record's gradient.
      learning_rate: Adam's initial learning rate; falls linearly to 0.
      hidden: width of the dense layers, in units.
      channels: number of channels of the convolutions.
      decay: decay per step of the released moving average of the parameters, in [0, 1).
    """

    sampling_rate: float = 0.04
    steps: int = 200
    clip_norm: float = 4.0
    learning_rate: float = 0.02
    hidden: int = 8
    channels: int = 4
    decay: float = 0.98

    def check(self, schema: Schema) -> None:
        """Raise UserError unless the label has two levels."""
        need_two_levels(schema, "labeler")

    def training(self, context: Context) -> Training:
        schema = context.tokenizer.schema
        self.check(schema)
        model = self.model(context)
        label, positive = schema.position(schema.label), jnp.asarray(schema.is_positive)
        features = jnp.asarray(context.features)
        optimiser = AveragedAdam(self.learning_rate, self.steps, self.decay)

        def init(key: jax.Array) -> Trained:
            return optimiser.start(model.init(key, jnp.zeros_like(features[:, 0]))["params"])

        def loss(params: Params, codes: jax.Array, key: jax.Array) -> jax.Array:
            logit = self._logit(model, params, code_features(codes, features))
            return jax.nn.softplus(jnp.where(positive[codes[label]], -logit, logit))

        return Training(
            init=init,
            objective=lambda state: (state.params, loss),
            update=lambda state, gradient, key: (optimiser.advance(state, gradient), {}),
            release=lambda state: state.mean,
        )

    def logits(self, context: Context, artefact: Artefact, codes: jax.Array) -> jax.Array:
        """Compute the logit of the label's positive level for tokens (rows, columns)."""
        seen = code_features(codes, jnp.asarray(context.features))
        return self._logit(self.model(context), artefact, seen)

    def model(self, context: Context) -> Labeler:
        schema = context.tokenizer.schema
        return Labeler(schema.position(schema.label), self.channels, self.hidden)

    @staticmethod
    def _logit(model: Labeler, params: Params, seen: jax.Array) -> jax.Array:
        logit: jax.Array = model.apply({"params": params}, seen)  # type: ignore[assignment]
        return logit
