"""How a plan is computed on this machine: changes speed and memory, never the law."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from rdpjax.dpsgd import clipping, lattice
from rdpjax.dpsgd.clipping import ClippedSum, Loss, Params, zero_sum
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
    """Settings that two runs of one plan may differ in: their parameters agree to 1e-5.

    Attributes:
      clipping: `ghost` (no per-example gradients) or `vmap` (all of them, for any loss); `lattice`
        (all of them, in whole numbers) for plans with discrete noise, and for no others.
      precision: of parameters and activations inside losses; norms, sums and noise are float32.
        A loss computes in the precision of its parameters.
      microbatch: records whose gradients are taken at once.
      mesh: devices along one axis `AXIS` that share the microbatches; None for the default one.

    Guarantees:
      Sampling, sensitivity and noise are those of the plan under every setting. `bfloat16` changes
      the losses that are trained on (and so the parameters, to its rounding), not their bound.
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
        self, loss: Loss, params: Params, examples: Any, valid: Any, keys: Any, clip_norm: float
    ) -> ClippedSum:
        """`rdpjax.dpsgd.clipping.clipped_sum` in the way and the precision of these settings."""
        summed = CLIPPED_SUMS[self.clipping]
        return summed(self._rounded(loss), params, examples, valid, keys, clip_norm)

    def microbatches(self, most: int) -> tuple[int, ...]:
        """Rows of the microbatches that a round of at most so many rows is taken in, falling.

        What the large ones leave over is often less than half of one, and takes half the work.

        Guarantees:
          On a lattice there is one size: an example's whole numbers come from one program, wherever
          in the draw it stands, and so do not depend on who else is drawn.
        """
        size = min(self.microbatch, most)
        return (size,) if self.clipping == "lattice" else (size, (size + 1) // 2)

    def zero_sum(self, params: Params) -> ClippedSum:
        """The sum over no examples, of the type that `clipped_sum` gives."""
        return zero_sum(params, jnp.int32 if self.clipping == "lattice" else jnp.float32)

    def _rounded(self, loss: Loss) -> Loss:
        if self.precision == "float32":
            return loss
        dtype = jnp.dtype(self.precision)

        def rounded(params: Params, example: Any, key: jax.Array) -> jax.Array:
            return loss(jax.tree.map(lambda leaf: leaf.astype(dtype), params), example, key)

        return rounded


def default_microbatch(platform: str, expected: float) -> int:
    """Records of a microbatch, for so many expected in a device's share of a batch.

    On a CPU what its caches hold (at a batch of 1,024, 48 rows are within a tenth of the best size
    for every workload of the benchmarks), and few enough that the last microbatch wastes little; on
    an accelerator nearly always the whole share.
    """
    if platform == "cpu":
        return 16 * int(min(max(expected / 4, 16), 48) // 16)
    return min(4096, 256 * math.ceil((expected + 4 * math.sqrt(expected)) / 256))


def default_clipping(loss: Loss, params: Params, example: Any, key: Any) -> tuple[Clipping, str]:
    """`ghost`, unless some per-example gradient would have to be formed all the same; and why."""
    formed = ghost.formed_for_want_of_a_rule(loss, params, example, key)
    if not formed:
        return "ghost", "every layer has a rule"
    return "vmap", f"ghost clipping has no rule for {', '.join(formed)}"
