"""A Conv1d classifier of the label, with a linear path beside it."""

from __future__ import annotations

from flax import linen as nn
from jaxtyping import Array, Float, Int

from rdpjax.models.layers import Conv1d, PositionDense, one_hot
from rdpjax.models.vae import INPUT_SCALE


class Labeler(nn.Module):
    """Codes to the logit of the label's second level; starts at zero.

    Attributes:
      label: position of the label's own column, which is never looked at.
      width: codes of the widest column.
    """

    label: int
    width: int
    channels: int = 8
    hidden: int = 32

    @nn.compact
    def __call__(self, codes: Int[Array, "*batch columns"]) -> Float[Array, "*batch"]:
        record = one_hot(codes, self.width).at[..., self.label, :].set(0) * INPUT_SCALE
        linear = self.param("linear", nn.initializers.zeros, record.shape[-2:])
        bias = self.param("bias", nn.initializers.zeros, ())
        x = PositionDense(self.channels)(record)
        x = x + nn.tanh(Conv1d(self.channels)(x))
        x = x.reshape(*x.shape[:-2], -1)
        x = nn.tanh(nn.Dense(self.hidden)(x))
        bent = nn.Dense(1, kernel_init=nn.initializers.zeros)(x)[..., 0]
        return bias + (record * linear).sum((-2, -1)) + bent
