"""The networks with the compiler's own convolution, for a fair step without privacy.

rdpjax writes a convolution as slices and one matmul, since that is what vectorises and scans well.
A step that does neither may be faster with `lax.conv`: the hand-written step has both to choose
from.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest import mock

import jax
from flax import linen as nn

from benchmarks import workloads
from rdpjax.models import gan, labeler, vae


class Conv1d(nn.Module):
    """`rdpjax.models.layers.Conv1d` through `jax.lax`: the same parameters, the same values."""

    features: int
    size: int = 3

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param(
            "kernel", nn.initializers.lecun_normal(), (self.size, x.shape[-1], self.features)
        )
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        y = jax.lax.conv_general_dilated(
            x[None], kernel, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
        )
        return y[0] + bias


def lax_convolutions(loss: Callable[..., Any]) -> Callable[..., Any]:
    """The same loss, its convolutions by `lax.conv` while it is traced."""

    def traced(*args: Any) -> Any:
        with ExitStack() as stack:
            for module in (vae, gan, labeler, workloads):
                stack.enter_context(mock.patch.object(module, "Conv1d", Conv1d))
            return loss(*args)

    return traced
