"""Layers that vectorise over examples: convolution as slices and one matmul, dense by position.

`lax.conv` inside a scan is an order of magnitude slower on CPUs, and a vmapped one becomes a
grouped convolution; shifted slices and a matmul avoid both. Every layer computes in the precision
of its parameters.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, Integer

from rdpjax.arrays import AnyArray


def tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Compute tanh by the logistic function: on CPUs XLA's own takes ten times as long.

    The absolute error is at most 2e-7; computed in float32.
    """
    return (2 * nn.sigmoid(2 * x.astype(jnp.float32)) - 1).astype(x.dtype)


class Conv1d(nn.Module):
    """1-D convolution over positions, "same" zero padding, stride 1.

    Parameters have the layout of `flax.linen.Conv`: `kernel` (size, in, out) and `bias` (out,).

    Attributes:
      features: number of output channels.
      size: odd kernel size.
    """

    features: int
    size: int = 3

    @nn.compact
    def __call__(
        self, x: Float[AnyArray, "*batch length channels"]
    ) -> Float[Array, "*batch length features"]:
        channels, length = x.shape[-1], x.shape[-2]
        kernel = self.param(
            "kernel", nn.initializers.lecun_normal(), (self.size, channels, self.features)
        )
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        reach = self.size // 2
        padded = jnp.pad(x.astype(kernel.dtype), [(0, 0)] * (x.ndim - 2) + [(reach, reach), (0, 0)])
        windows = [padded[..., i : i + length, :] for i in range(self.size)]
        unfolded = jnp.concatenate(windows, axis=-1)
        y = unfolded @ kernel.reshape(self.size * channels, self.features)
        return y + jnp.broadcast_to(bias, y.shape)


class Dense(nn.Module):
    """Dense layer like `flax.linen.Dense`, in the precision of its parameters.

    Attributes:
      features: number of outputs.
      kernel_init: initialiser of the weights.
    """

    features: int
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Float[Array, "*batch channels"]) -> Float[Array, "*batch features"]:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        y = x.astype(kernel.dtype) @ kernel
        return y + jnp.broadcast_to(bias, y.shape)


class PositionDense(nn.Module):
    """Dense layer with separate weights at every position: no weight sharing, no pooling.

    Attributes:
      features: number of output channels.
      scale: scale of the initial weights, in units of LeCun's.
      bias_init: initial bias, shape (length, features); zeros by default.
    """

    features: int
    scale: float = 1.0
    bias_init: nn.initializers.Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(
        self, x: Float[AnyArray, "*batch length channels"]
    ) -> Float[Array, "*batch length features"]:
        length, channels = x.shape[-2:]
        spread = nn.initializers.variance_scaling(
            self.scale**2, "fan_in", "truncated_normal", batch_axis=(0,)
        )
        kernel = self.param("kernel", spread, (length, channels, self.features))
        bias = self.param("bias", self.bias_init, (length, self.features))
        y = jnp.einsum("...lc,lcf->...lf", x.astype(kernel.dtype), kernel)
        return y + jnp.broadcast_to(bias, y.shape)


def draw_codes(
    key: jax.Array, logits: Float[Array, "*batch width"], draws: int | None = None
) -> Int[Array, "..."]:
    """Draw tokens (draws, *batch) from softmaxes by the inverse distribution function.

    One uniform a draw, where Gumbel noise takes `width`. Rounding may carry a uniform past the last
    token of positive probability, hence the minimum. Without `draws`, one draw, of shape (*batch).
    """
    edges = jnp.cumsum(jax.nn.softmax(logits), axis=-1)
    last = (edges < edges[..., -1:]).sum(axis=-1)
    shape = (() if draws is None else (draws,)) + last.shape
    uniforms = jax.random.uniform(key, (*shape, 1))
    edges, last = (jnp.broadcast_to(x, shape + x.shape[last.ndim :]) for x in (edges, last))
    return jnp.minimum((uniforms >= edges).sum(axis=-1), last)


def one_hot(
    codes: Integer[AnyArray, "*batch length"], width: int
) -> Float[Array, "*batch length width"]:
    """Encode tokens as float32 one-hots; a token at or above `width` gives zeros."""
    return jax.nn.one_hot(codes, width, dtype=jnp.float32)


def code_features(
    codes: Integer[AnyArray, "*batch length"], features: Float[AnyArray, "length width order"]
) -> Float[Array, "*batch length order"]:
    """Look up `features[l, codes[..., l]]` at each position l; tokens are below `width`."""
    return jnp.asarray(features)[jnp.arange(features.shape[0]), codes]


def look_up(
    record: Float[Array, "*batch length width"], features: Float[Array, "length width order"]
) -> Float[Array, "*batch length order"]:
    """Compute `code_features` of one-hot records, differentiable in them."""
    return jnp.einsum("...lw,lwf->...lf", record, features)
