"""Conv1d variational autoencoder of tokenised records.

Kingma, Welling 2014, Auto-Encoding Variational Bayes, arXiv 1312.6114. A record is one token per
column. The decoder has one softmax head per column: nothing is regressed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32, Integer

from rdpjax.arrays import AnyArray
from rdpjax.models.layers import Conv1d, Dense, PositionDense, code_features, one_hot, tanh

Params = dict[str, Any]
Latent = Float[Array, "*batch latent"]
Logits = Float[Array, "*batch columns width"]

INPUT_SCALE = 0.5
"""Scale of the input features: keeps gradients small relative to the clip norm."""

Features = Float[Array, "columns width order"]


class Encoder(nn.Module):
    """Encoder: features of a record to the mean and log-variance of the latent."""

    channels: int
    latent: int

    @nn.compact
    def __call__(self, x: Float[Array, "*batch columns order"]) -> tuple[Latent, Latent]:
        x = PositionDense(self.channels)(x * INPUT_SCALE)
        x = x + tanh(Conv1d(self.channels)(x))
        x = x.reshape(*x.shape[:-2], -1)
        mean = Dense(self.latent)(x)
        log_variance = Dense(self.latent, kernel_init=nn.initializers.zeros)(x)
        mean, log_variance = mean.astype(jnp.float32), log_variance.astype(jnp.float32)
        return mean, jnp.clip(log_variance, -6.0, 2.0)


class Decoder(nn.Module):
    """Decoder: latent to every column's weights of its features.

    Between latent and heads every column has `channels` numbers only. That bottleneck, rather than
    a wide hidden layer, suits the signal-to-noise ratio of DP-SGD. The condition column's features,
    if any, enter the bottleneck beside the latent, and every column's head directly.
    """

    channels: int
    columns: int
    order: int

    @nn.compact
    def __call__(
        self, z: Latent, known: Float[Array, "*batch order"] | None = None
    ) -> Float[Array, "*batch columns order"]:
        z = z * jnp.broadcast_to(fading(z.shape[-1]), z.shape)
        if known is not None:
            z = jnp.concatenate([z, known], axis=-1)
        x = Dense(self.columns * self.channels)(z)
        x = x.reshape(*x.shape[:-1], self.columns, self.channels)
        x = x + tanh(Conv1d(self.channels)(x))
        if known is not None:
            every = (*x.shape[:-1], known.shape[-1])
            known = jnp.broadcast_to(known[..., None, :], every)
            x = jnp.concatenate([x, known.astype(x.dtype)], axis=-1)
        return PositionDense(self.order, scale=0.5)(x)


def fading(latent: int) -> Float[Array, " latent"]:
    """Return fixed scales of the latent dimensions, exp(-k / 5), decreasing.

    Every dimension in use adds gradient norm, hence relative noise; so training uses the first
    ones, and `latent` need not be tuned to the budget.
    """
    return jnp.exp(-jnp.arange(latent) / 5)


@dataclass(frozen=True)
class Vae:
    """Variational autoencoder as pure functions.

    Attributes:
      columns: number of columns of a record.
      width: number of tokens of the widest column.
      order: number of features of a token.
      latent: number of latent dimensions.
      channels: number of channels of the convolutions.
      given: index of the condition column, an input of the decoder and not modelled; None for none.
    """

    columns: int
    width: int
    order: int
    latent: int = 32
    channels: int = 8
    given: int | None = None

    def init(self, key: jax.Array) -> Params:
        """Initialise parameters, `{"encoder": ..., "decoder": ...}`."""
        first, second = jax.random.split(key)
        record = jnp.zeros((self.columns, self.order))
        return {
            "encoder": self._encoder.init(first, record)["params"],
            "decoder": self._decoder.init(
                second,
                jnp.zeros((self.latent,)),
                None if self.given is None else jnp.zeros((self.order,)),
            )["params"],
        }

    def encode(
        self, params: Params, codes: Integer[AnyArray, "*batch columns"], features: Features
    ) -> tuple[Latent, Latent]:
        """Compute mean and log-variance of q(z | codes)."""
        seen = code_features(codes, features)
        posterior: Any = self._encoder.apply({"params": params["encoder"]}, seen)
        mean, log_variance = posterior
        return mean, log_variance

    def decode(
        self,
        decoder: Params,
        z: Latent,
        prior: Float[AnyArray, "columns width"],
        features: Features,
        known: Integer[ArrayLike, "*batch"] | None = None,
    ) -> Logits:
        """Compute logits of p(codes | z), or of p(other codes | z, the condition column's token).

        Args:
          decoder: the decoder's parameters.
          z: latents.
          prior: `log_prior` of the noisy shares; the condition column's logits are its prior.
          features: features of the tokens.
          known: tokens of the condition column, if there is one.
        """
        weights: Any
        if self.given is None:
            weights = self._decoder.apply({"params": decoder}, z)
        else:
            seen = features[self.given][known] * INPUT_SCALE
            weights = self._decoder.apply({"params": decoder}, z, seen)
            features = features.at[self.given].set(0)
        logits = jnp.einsum("...lf,lwf->...lw", weights.astype(features.dtype), features)
        return logits + jnp.broadcast_to(prior, logits.shape)

    def loss(
        self,
        params: Params,
        codes: Integer[AnyArray, " columns"],
        key: jax.Array,
        prior: Float[AnyArray, "columns width"],
        features: Features,
        beta: float | Float[Array, ""] = 1.0,
    ) -> Float[Array, ""]:
        """Compute one record's negative evidence lower bound, in nats, with KL weight `beta`.

        The likelihood leaves out the condition column.
        """
        mean, log_variance = self.encode(params, codes, features)
        z = mean + jnp.exp(log_variance / 2) * jax.random.normal(key, mean.shape)
        known = None if self.given is None else codes[self.given]
        logits = jax.nn.log_softmax(self.decode(params["decoder"], z, prior, features, known))
        chances = (one_hot(codes, self.width) * logits).sum(axis=-1)
        if self.given is not None:
            chances = chances.at[self.given].set(0)
        likelihood = chances.sum()
        divergence = 0.5 * (jnp.exp(log_variance) + mean**2 - 1 - log_variance).sum()
        return beta * divergence - likelihood

    @property
    def _encoder(self) -> Encoder:
        return Encoder(self.channels, self.latent)

    @property
    def _decoder(self) -> Decoder:
        return Decoder(self.channels, self.columns, self.order)


def log_prior(
    shares: Float[np.ndarray, "columns width"], widths: tuple[int, ...]
) -> Float32[np.ndarray, "columns width"]:
    """Compute initial biases of softmax heads: log shares, floored; -1e9 beyond a column's tokens.

    Args:
      shares: (columns, width) noisy shares.
      widths: number of tokens of each column.
    """
    floor = 1e-4
    exists = np.arange(shares.shape[1]) < np.asarray(widths)[:, None]
    return np.where(exists, np.log(np.maximum(shares, floor)), -1e9).astype(np.float32)
