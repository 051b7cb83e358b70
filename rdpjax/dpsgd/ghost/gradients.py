"""Forms of per-example gradients: squared norms and weighted sums, mostly from factors.

A dense layer's gradient is an outer product of the input (activations) and the output's cotangent
(signals), a convolution's or a recurrence's a sum of such products over positions. Norm and
weighted sum follow from the factors; the gradient itself is materialised only where that is
cheaper. Goodfellow 2015, arXiv 1510.01799; Li et al. 2022, arXiv 2110.05679; Bu et al. 2023, arXiv
2210.00038.

Every `squares()` is an upper bound of the squared L2 norms that is tight to a relative 1e-5 for
norms in 1e-15 to 1e15: what rounding or underflow could take away is added, so that a clip factor
from it is never too large. Overflow and NaN anywhere in a form give a non-finite square.
`weighted(factors)` is the sum over the batch; rows with a factor of zero add nothing, whatever
their signals or materialised gradients hold, but activations must be finite.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import register_dataclass
from jaxtyping import Array, Float, Int

from rdpjax.arrays import AnyArray

Rows: TypeAlias = Float[Array, " batch"]

TINY = float(np.finfo(np.float32).tiny)
"""Smallest normal float32: a square below it may be lost."""

ROUNDING = 8 * float(np.finfo(np.float32).eps)
"""Rounding allowance of a squared norm by Gram matrices, relative to its largest possible value."""

HUGE = 1e30
"""Replaces non-finite activations: finite itself, but its square overflows float32."""

GRAM = 16
"""Multiplications in Gram matrices that take as long as one gradient entry; measured on CPUs."""

MOST_POSITIONS = 16
"""Positions up to which the rounding allowance stays below a relative 1e-5 of the norm."""


class Formed(NamedTuple):
    """Materialised gradients, `(batch, ...)`: of small leaves, and where no better form exists."""

    gradient: Float[Array, "batch ..."]

    def squares(self) -> Rows:
        return _squares(self.gradient, self.gradient.ndim - 1)

    def weighted(self, factors: Rows) -> Float[Array, "..."]:
        return jnp.tensordot(factors, _blank(factors, self.gradient), axes=1)

    def formed(self) -> Formed:
        return self


class Products(NamedTuple):
    """Sums over positions of outer products, for each of a layer's independent groups.

    Attributes:
      activations: `(batch, groups, positions, inputs)`.
      signals: `(batch, groups, positions, outputs)`.
      gram: Gram matrices of the activations, given where they cost less from elsewhere.
    """

    activations: Float[Array, "batch groups positions inputs"]
    signals: Float[Array, "batch groups positions outputs"]
    gram: Float[Array, "batch groups positions positions"] | None = None

    def squares(self) -> Rows:
        """Bound squared norms by Gram matrices over positions; with one, a product of squares."""
        if self.activations.shape[2] == 1:
            return (_squares(self.activations, 1) * _squares(self.signals, 1)).sum(axis=(1, 2))
        factors = self.activations, self.signals
        grams = _gram(self.activations) if self.gram is None else self.gram, _gram(self.signals)
        value = (grams[0] * grams[1]).sum(axis=(1, 2, 3))
        inner, outer = (
            jnp.diagonal(gram, axis1=2, axis2=3) + x.shape[3] * TINY
            for gram, x in zip(grams, factors, strict=True)
        )
        # Products of different positions may cancel, and what is left may be all rounding.
        largest = jnp.square((jnp.sqrt(inner) * jnp.sqrt(outer)).sum(axis=2)).sum(axis=1)
        # Products of numbers below 1e-19 underflow, however large the other Gram matrix's entry.
        inputs, outputs = (jnp.square(jnp.sqrt(x).sum(axis=2)).sum(axis=1) for x in (inner, outer))
        lost = TINY * (self.activations.shape[3] * outputs + self.signals.shape[3] * inputs)
        return jnp.maximum(value, 0) + ROUNDING * largest + lost

    def weighted(self, factors: Rows) -> Float[Array, "groups inputs outputs"]:
        signals = _blank(factors, factors[:, None, None, None] * self.signals)
        return jnp.einsum("bntp,bntd->npd", self.activations, signals)

    def formed(self) -> Formed:
        """Materialise the gradients, `(batch, groups, inputs, outputs)`."""
        # A tiny signal times `HUGE` has a finite square: NaN makes sure that the row is dropped.
        broken = jnp.where(jnp.abs(self.activations) < HUGE, self.activations, jnp.nan)
        return Formed(jnp.einsum("bntp,bntd->bnpd", broken, self.signals))

    @property
    def better_unformed(self) -> bool:
        """Whether Gram matrices cost less than materialising the gradients and reading them twice.

        With many positions the rounding allowance would be more than a relative 1e-5.
        """
        positions, inputs = self.activations.shape[2:]
        outputs = self.signals.shape[3]
        if positions > MOST_POSITIONS:
            return False
        return positions == 1 or positions**2 * (inputs + outputs) < GRAM * inputs * outputs


@register_dataclass
@dataclass(frozen=True)
class Lookups:
    """Gradient of an embedding: signals that each belong to one row of a table.

    Attributes:
      rows: `(batch, positions)`; a row at or above `table` has no gradient.
      signals: `(batch, positions, outputs)`.
      table: number of rows of the table.
    """

    rows: Int[AnyArray, "batch positions"]
    signals: Float[AnyArray, "batch positions outputs"]
    table: int = field(metadata={"static": True})

    def squares(self) -> Rows:
        signals = jnp.where(self._inside, self.signals, 0)
        same = (self.rows[:, :, None] == self.rows[:, None, :]).astype(jnp.float32)
        # Every position gets its row's whole gradient, and a row of k positions comes k times.
        whole = _squares(jnp.einsum("bts,bsd->btd", same, signals), 1) / same.sum(axis=2)
        # The weighted sum adds position by position, and may round terms that cancel in the whole.
        rounding = ROUNDING * jnp.sqrt(_squares(signals, 1)).sum(axis=1)
        return whole.sum(axis=1) + jnp.square(rounding)

    def weighted(self, factors: Rows) -> Float[Array, "table outputs"]:
        signals = jnp.where(self._inside, factors[:, None, None] * self.signals, 0)
        signals = _blank(factors, signals)
        zero = jnp.zeros((self.table, signals.shape[-1]), jnp.float32)
        flat = signals.reshape(-1, signals.shape[-1])
        return zero.at[self.rows.reshape(-1)].add(flat, mode="drop")

    def formed(self) -> Formed:
        """Materialise the gradients, `(batch, table, outputs)`."""

        def alone(rows: AnyArray, signals: AnyArray) -> jax.Array:
            return Lookups(rows[None], signals[None], self.table).weighted(jnp.ones(1))

        return Formed(jax.vmap(alone)(self.rows, self.signals))

    @property
    def _inside(self) -> AnyArray:
        return ((self.rows >= 0) & (self.rows < self.table))[:, :, None]


@dataclass(frozen=True)
class Place:
    """Map from a form's array to the parameter's shape.

    Attributes:
      shape: shape of the parameter.
      order: the parameter's axes in the order in which the form has them.
    """

    shape: tuple[int, ...]
    order: tuple[int, ...]

    @staticmethod
    def as_it_is(shape: Sequence[int]) -> Place:
        return Place(tuple(shape), tuple(range(len(shape))))

    def __call__(self, array: jax.Array) -> jax.Array:
        spread = array.reshape([self.shape[i] for i in self.order])
        return spread.transpose([self.order.index(i) for i in range(len(self.shape))])


Gradient: TypeAlias = Formed | Products | Lookups


def joined(parts: Sequence[Products]) -> Products:
    """Join several uses of one weight: concatenate their positions."""
    if len(parts) == 1:
        return parts[0]
    return Products(
        jnp.concatenate([part.activations for part in parts], axis=2),
        jnp.concatenate([part.signals for part in parts], axis=2),
    )


def _gram(values: Float[Array, "batch groups positions numbers"]) -> jax.Array:
    return jnp.einsum("bntp,bnsp->bnts", values, values)


def _blank(factors: Rows, values: jax.Array) -> jax.Array:
    """Zero the rows with a factor of zero, by a select, since NaN times zero is NaN."""
    return jnp.where(factors.reshape(-1, *[1] * (values.ndim - 1)) > 0, values, 0)


def _squares(values: jax.Array, axes: int) -> jax.Array:
    """Sum squares over the last axes: no less than the true sums, even where squares underflow."""
    kept, size = values.shape[: values.ndim - axes], math.prod(values.shape[values.ndim - axes :])
    rows = values.reshape(math.prod(kept), size)
    return jnp.square(rows).sum(axis=1).reshape(kept) + size * TINY
