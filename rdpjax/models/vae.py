"""A Conv1d variational autoencoder of coded records.

Kingma, Welling 2014, Auto-Encoding Variational Bayes, arXiv 1312.6114. A record is one code per
column. The decoder's heads are one softmax per column: nothing is regressed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int

from rdpjax.models.layers import Conv1d, PositionDense, one_hot

Params = dict[str, Any]
Latent = Float[Array, "*batch latent"]
Logits = Float[Array, "*batch columns width"]

INPUT_SCALE = 0.5
"""One-hots are scaled down so that gradients are short beside the clip norm."""


class Encoder(nn.Module):
    """Codes to the mean and log-variance of the latent."""

    channels: int
    hidden: int
    latent: int
    width: int

    @nn.compact
    def __call__(self, codes: Int[Array, "*batch columns"]) -> tuple[Latent, Latent]:
        x = PositionDense(self.channels)(one_hot(codes, self.width) * INPUT_SCALE)
        x = x + nn.tanh(Conv1d(self.channels)(x))
        x = x.reshape(*x.shape[:-2], -1)
        x = nn.tanh(nn.Dense(self.hidden)(x))
        mean = nn.Dense(self.latent)(x)
        log_variance = nn.Dense(self.latent)(x)
        return mean, jnp.clip(log_variance, -6.0, 2.0)


class Decoder(nn.Module):
    """Latent to one row of logits per column, as offsets to the columns' log shares."""

    channels: int
    hidden: int
    columns: int
    width: int

    @nn.compact
    def __call__(self, z: Latent) -> Logits:
        x = nn.tanh(nn.Dense(self.hidden)(z))
        x = nn.Dense(self.columns * self.channels)(x)
        x = x.reshape(*x.shape[:-1], self.columns, self.channels)
        x = nn.tanh(x + Conv1d(self.channels)(nn.tanh(x)))
        return PositionDense(self.width, scale=0.3)(x)


@dataclass(frozen=True)
class Vae:
    """The autoencoder as pure functions.

    Attributes:
      columns: positions of a record.
      width: codes of the widest column.
      latent: latent dimensions.
      hidden: width of the dense layers.
      channels: channels of the convolutions.
    """

    columns: int
    width: int
    latent: int = 32
    hidden: int = 128
    channels: int = 16

    def init(self, key: jax.Array) -> Params:
        """Fresh parameters, `{"encoder": ..., "decoder": ...}`."""
        first, second = jax.random.split(key)
        codes = jnp.zeros((self.columns,), jnp.uint8)
        return {
            "encoder": self._encoder.init(first, codes)["params"],
            "decoder": self._decoder.init(second, jnp.zeros((self.latent,)))["params"],
        }

    def encode(self, params: Params, codes: Int[Array, "*batch columns"]) -> tuple[Latent, Latent]:
        """Mean and log-variance of q(z | codes)."""
        return self._encoder.apply({"params": params["encoder"]}, codes)  # type: ignore[return-value]

    def decode(self, decoder: Params, z: Latent, prior: Float[Array, "columns width"]) -> Logits:
        """Logits of p(codes | z); `prior` is `log_prior` of the noisy shares."""
        return prior + self._decoder.apply({"params": decoder}, z)  # type: ignore[operator]

    def loss(
        self,
        params: Params,
        codes: Int[Array, " columns"],
        key: jax.Array,
        prior: Float[Array, "columns width"],
        beta: Float[Array, ""] | float = 1.0,
    ) -> Float[Array, ""]:
        """Negative evidence lower bound of one record, in nats, the KL term weighted by `beta`."""
        mean, log_variance = self.encode(params, codes)
        z = mean + jnp.exp(log_variance / 2) * jax.random.normal(key, mean.shape)
        logits = jax.nn.log_softmax(self.decode(params["decoder"], z, prior))
        likelihood = (one_hot(codes, self.width) * logits).sum()
        divergence = 0.5 * (jnp.exp(log_variance) + mean**2 - 1 - log_variance).sum()
        return beta * divergence - likelihood

    @property
    def _encoder(self) -> Encoder:
        return Encoder(self.channels, self.hidden, self.latent, self.width)

    @property
    def _decoder(self) -> Decoder:
        return Decoder(self.channels, self.hidden, self.columns, self.width)


def log_prior(shares: np.ndarray, widths: tuple[int, ...]) -> np.ndarray:
    """Starting biases of softmax heads: log shares, floored, and -1e9 where there is no code.

    Args:
      shares: (columns, width) noisy shares.
      widths: how many codes each column has.
    """
    floor = 1e-4
    exists = np.arange(shares.shape[1]) < np.asarray(widths)[:, None]
    return np.where(exists, np.log(np.maximum(shares, floor)), -1e9).astype(np.float32)
