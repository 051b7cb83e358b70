"""Stage A: variational autoencoder under DP-SGD. Reads records; releases its decoder."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from rdpjax.dpsgd.clipping import Loss, Params
from rdpjax.models.layers import draw_codes
from rdpjax.models.vae import Vae
from rdpjax.stages.optimiser import AveragedAdam, Trained
from rdpjax.stages.stage import Artefact, Context, Emit, Training


@dataclass(frozen=True)
class VaeStage:
    """Settings of the autoencoder.

    Attributes:
      sampling_rate: share of the records expected in a batch, in (0, 1].
      steps: number of noisy steps.
      clip_norm: L2 bound on one record's gradient.
      learning_rate: Adam's initial learning rate; falls linearly to 0.
      latent: number of latent dimensions.
      channels: number of channels of the convolutions.
      warmup: share of the steps over which the KL term's weight rises from 0 to 1.
      decay: decay per step of the released moving average of the parameters, in [0, 1).
    """

    sampling_rate: float = 0.04
    steps: int = 500
    clip_norm: float = 10.0
    learning_rate: float = 0.02
    latent: int = 32
    channels: int = 8
    warmup: float = 0.1
    decay: float = 0.98

    def training(self, context: Context) -> Training:
        vae = self.model(context)
        prior, features = jnp.asarray(context.prior), jnp.asarray(context.features)
        optimiser = AveragedAdam(self.learning_rate, self.steps, self.decay)
        rise = max(1.0, self.warmup * self.steps)

        def objective(state: Trained) -> tuple[Params, Loss]:
            beta = jnp.minimum(1.0, (state.step + 1) / rise)
            return state.params, lambda p, codes, key: vae.loss(
                p, codes, key, prior, features, beta
            )

        return Training(
            init=lambda key: optimiser.start(vae.init(key)),
            objective=objective,
            update=lambda state, gradient, key: (optimiser.advance(state, gradient), {}),
            release=lambda state: {"decoder": state.mean["decoder"]},
        )

    def emit(self, context: Context) -> Emit:
        """Return a sampler: z ~ N(0, I) and the condition column's noisy share, decoded."""
        vae = self.model(context)
        prior, features = jnp.asarray(context.prior), jnp.asarray(context.features)

        def emit(artefact: Artefact, key: jax.Array, rows: int, draws: int) -> jax.Array:
            latent_key, given_key, draw_key = jax.random.split(key, 3)
            z = jax.random.normal(latent_key, (rows, vae.latent))
            known = None
            if vae.given is not None:
                known = draw_codes(given_key, prior[vae.given], rows)
            logits = vae.decode(artefact["decoder"], z, prior, features, known)
            codes = draw_codes(draw_key, logits, draws)
            return codes if known is None else codes.at[:, :, vae.given].set(known)

        return emit

    def model(self, context: Context) -> Vae:
        tokenizer = context.tokenizer
        return Vae(
            len(tokenizer.groups),
            tokenizer.width,
            context.features.shape[-1],
            self.latent,
            self.channels,
            tokenizer.given,
        )
