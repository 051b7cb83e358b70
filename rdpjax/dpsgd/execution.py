"""Execution settings of a plan: they change speed and memory, never the mechanism."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Shaped

from rdpjax.arrays import AnyArray
from rdpjax.dpsgd import clipping, lattice
from rdpjax.dpsgd.clipping import ClippedSum, Examples, Loss, Params, zero_sum
from rdpjax.dpsgd.ghost import clipped as ghost
from rdpjax.errors import UserError

Clipping: TypeAlias = Literal["vmap", "ghost", "lattice"]
Precision: TypeAlias = Literal["float32", "bfloat16"]

CLIPPED_SUMS: dict[str, Callable[..., ClippedSum]] = {
    "vmap": clipping.clipped_sum,
    "ghost": ghost.clipped_sum,
    "lattice": lattice.lattice_sum,
}

AXIS = "devices"


@dataclass(frozen=True)
class Execution:
    """Settings in which two runs of one plan may differ: their parameters agree to 1e-5.

    Attributes:
      clipping: `ghost` (no per-example gradients) or `vmap` (materialises them, for any loss);
        `lattice` (materialises them, in integer units) for plans with discrete noise, and for no
        others.
      precision: of parameters and activations inside losses; norms, sums and noise are float32.
        A loss computes in the precision of its parameters.
      microbatch: examples whose gradients are computed at once.
      mesh: devices along one axis `AXIS` that share the microbatches; None for the default device.

    Guarantees:
      Sampling, sensitivity and noise are those of the plan under every setting. `bfloat16` changes
      the losses that are trained on (and so the parameters, to its rounding), not the bound on
      their gradients.
    """

    clipping: Clipping = "ghost"
    precision: Precision = "float32"
    microbatch: int = 128
    mesh: Mesh | None = None

    def __post_init__(self) -> None:
        if self.clipping not in CLIPPED_SUMS:
            raise UserError(f"clipping must be vmap, ghost or lattice, got {self.clipping!r}")
        if self.precision not in ("float32", "bfloat16"):
            raise UserError(f"precision must be float32 or bfloat16, got {self.precision!r}")
        if self.microbatch < 1:
            raise UserError(f"microbatch must be 1 or more, got {self.microbatch}")

    def clipped_sum(
        self,
        loss: Loss,
        params: Params,
        examples: Examples,
        valid: Bool[AnyArray, " batch"],
        keys: Shaped[Array, " batch"],
        clip_norm: float | Float[Array, ""],
    ) -> ClippedSum:
        """Compute `rdpjax.dpsgd.clipping.clipped_sum` by these settings' method and precision."""
        summed = CLIPPED_SUMS[self.clipping]
        return summed(self._rounded(loss), params, examples, valid, keys, clip_norm)

    def microbatches(self, most: int) -> tuple[int, ...]:
        """Return the microbatch sizes, descending, for a round of at most `most` rows.

        The rows left over by full microbatches are often less than half of one, and cost half.

        Guarantees:
          On a lattice there is one size: an example's integers come from one program, wherever in
          the draw it stands, and so do not depend on the other records drawn.
        """
        size = min(self.microbatch, most)
        return (size,) if self.clipping == "lattice" else (size, (size + 1) // 2)

    def zero_sum(self, params: Params) -> ClippedSum:
        """Return the sum over no examples, of the dtype that `clipped_sum` returns."""
        return zero_sum(params, jnp.int32 if self.clipping == "lattice" else jnp.float32)

    def _rounded(self, loss: Loss) -> Loss:
        if self.precision == "float32":
            return loss
        dtype = jnp.dtype(self.precision)

        def rounded(params: Params, example: Any, key: jax.Array) -> jax.Array:
            return loss(jax.tree.map(lambda leaf: leaf.astype(dtype), params), example, key)

        return rounded


def default_microbatch(platform: str, expected: float) -> int:
    """Choose the microbatch size for the expected records in a device's share of a batch.

    On a CPU what its caches hold (at a batch of 1,024, 48 rows are within a tenth of the best size
    for every workload of the benchmarks), and small enough that the last microbatch wastes little;
    on an accelerator nearly always the whole share.
    """
    if platform == "cpu":
        return 16 * int(min(max(expected / 4, 16), 48) // 16)
    return min(4096, 256 * math.ceil((expected + 4 * math.sqrt(expected)) / 256))


def default_clipping(loss: Loss, params: Any, example: Any, key: Any) -> tuple[Clipping, str]:
    """Choose `ghost`, or `vmap` if some layer has no ghost rule; return it with the reason."""
    formed = ghost.formed_for_want_of_a_rule(loss, params, example, key)
    if not formed:
        return "ghost", "every layer has a rule"
    return "vmap", f"ghost clipping has no rule for {', '.join(formed)}"
