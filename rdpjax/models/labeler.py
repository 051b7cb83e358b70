"""Conv1d classifier of the label, with a parallel linear path."""

from __future__ import annotations

from flax import linen as nn
from jaxtyping import Array, Float

from rdpjax.models.layers import Conv1d, Dense, PositionDense, tanh
from rdpjax.models.vae import INPUT_SCALE


class Labeler(nn.Module):
    """Classifier: features of a record to the logit of the label's positive level; starts at zero.

    Attributes:
      label: position of the label column, which is masked.
      channels: channels of the convolution.
      hidden: width of the dense layer.
    """

    label: int
    channels: int = 4
    hidden: int = 8

    @nn.compact
    def __call__(self, x: Float[Array, "*batch columns order"]) -> Float[Array, "*batch"]:
        x = x.at[..., self.label, :].set(0) * INPUT_SCALE
        zero = nn.initializers.zeros
        linear = Dense(1, kernel_init=zero)(x.reshape(*x.shape[:-2], -1))
        x = PositionDense(self.channels)(x)
        x = x + tanh(Conv1d(self.channels)(x))
        x = x.reshape(*x.shape[:-2], -1)
        x = tanh(Dense(self.hidden)(x))
        return (linear + Dense(1, kernel_init=zero)(x))[..., 0]
