"""Stage C: p(label | record) under DP-SGD. Reads records; releases a classifier."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from rdpjax.dpsgd.clipping import Params
from rdpjax.models.labeler import Labeler
from rdpjax.stages.optimiser import AveragedAdam, Trained
from rdpjax.stages.stage import Artefact, Context, Training


@dataclass(frozen=True)
class LabelerStage:
    """Settings of the labeler; see `rdpjax.stages.vae.VaeStage` for the shared ones."""

    sampling_rate: float = 0.04
    steps: int = 300
    clip_norm: float = 3.0
    learning_rate: float = 0.05
    hidden: int = 32
    channels: int = 8
    decay: float = 0.98
    microbatch: int = 256

    def training(self, context: Context) -> Training:
        model = self.model(context)
        label = context.codec.schema.position(context.codec.schema.label)
        columns = len(context.codec.groups)
        optimiser = AveragedAdam(self.learning_rate, self.steps, self.decay)

        def init(key: jax.Array) -> Trained:
            return optimiser.start(model.init(key, jnp.zeros((columns,), jnp.uint8))["params"])

        def loss(params: Params, codes: jax.Array, key: jax.Array) -> jax.Array:
            logit = model.apply({"params": params}, codes)
            return jax.nn.softplus(jnp.where(codes[label] == 1, -logit, logit))

        return Training(
            init=init,
            objective=lambda state: (state.params, loss),
            update=lambda state, gradient, key: (optimiser.advance(state, gradient), {}),
            release=lambda state: state.mean,
        )

    def logits(self, context: Context, artefact: Artefact, codes: jax.Array) -> jax.Array:
        """Logit of the label's second level for codes (rows, columns)."""
        return self.model(context).apply({"params": artefact}, codes)  # type: ignore[return-value]

    def model(self, context: Context) -> Labeler:
        codec = context.codec
        label = codec.schema.position(codec.schema.label)
        return Labeler(label, codec.width, self.channels, self.hidden)


STAGE = LabelerStage
