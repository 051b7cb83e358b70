"""Forms of per-example gradients: what is kept of them, how long they are, how they are summed.

A dense layer's gradient is an outer product of what went in (activations) and what comes back
(signals), a convolution's or a recurrence's a sum of such products over positions. Length and
weighted sum follow from the factors; the gradient itself is formed only where that is cheaper.
Goodfellow 2015, arXiv 1510.01799; Li et al. 2022, arXiv 2110.05679; Bu et al. 2023, arXiv
2210.00038.

Every `squares()` is an upper bound of the squared L2 norms that is tight to a relative 1e-5 for
norms in 1e-15 to 1e15: what rounding or underflow could take away is added, so that a clip factor
from it is never too large. Overflow and NaN anywhere in a form show as a non-finite square.
`weighted(factors)` is the sum over the batch; rows with a factor of zero count nothing, whatever
their signals or formed gradients hold, but activations must be finite.
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

Rows: TypeAlias = Float[Array, " batch"]

TINY = float(np.finfo(np.float32).tiny)
"""A float32 square below this may be lost."""

ROUNDING = 8 * float(np.finfo(np.float32).eps)
"""Relative error allowed to a Gram form, in units of its largest possible value."""

HUGE = 1e30
"""Stands in activations for what is not finite: finite itself, but its square is not."""

GRAM = 16
"""Multiplications in Gram matrices that take as long as one number formed; measured on CPUs."""

MOST_POSITIONS = 16
"""Positions up to which what is allowed for rounding stays below a relative 1e-5 of the norm."""


class Formed(NamedTuple):
    """Gradients in full, `(batch, ...)`: of small leaves, and of what has no better form."""

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
      gram: products of the activations between positions, where they cost less from elsewhere.
    """

    activations: Float[Array, "batch groups positions inputs"]
    signals: Float[Array, "batch groups positions outputs"]
    gram: Float[Array, "batch groups positions positions"] | None = None

    def squares(self) -> Rows:
        """By Gram matrices over positions; with one position, a product of two squares."""
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
        # Products of numbers below 1e-19 are lost, whatever large ones they would have met.
        inputs, outputs = (jnp.square(jnp.sqrt(x).sum(axis=2)).sum(axis=1) for x in (inner, outer))
        lost = TINY * (self.activations.shape[3] * outputs + self.signals.shape[3] * inputs)
        return jnp.maximum(value, 0) + ROUNDING * largest + lost

    def weighted(self, factors: Rows) -> Float[Array, "groups inputs outputs"]:
        signals = _blank(factors, factors[:, None, None, None] * self.signals)
        return jnp.einsum("bntp,bntd->npd", self.activations, signals)

    def formed(self) -> Formed:
        """`(batch, groups, inputs, outputs)`."""
        # Beside a tiny signal even `HUGE` would make a gradient that can be squared.
        broken = jnp.where(jnp.abs(self.activations) < HUGE, self.activations, jnp.nan)
        return Formed(jnp.einsum("bntp,bntd->bnpd", broken, self.signals))

    @property
    def better_unformed(self) -> bool:
        """Whether Gram matrices are quicker than forming the gradients and reading them twice.

        With many positions what is allowed for rounding would be more than a relative 1e-5.
        """
        positions, inputs = self.activations.shape[2:]
        outputs = self.signals.shape[3]
        if positions > MOST_POSITIONS:
            return False
        return positions == 1 or positions**2 * (inputs + outputs) < GRAM * inputs * outputs


@register_dataclass
@dataclass(frozen=True)
class Lookups:
    """Signals that each belong to one row of a table: the gradient of an embedding.

    Attributes:
      rows: `(batch, positions)`; a row at or above `table` has no gradient.
      signals: `(batch, positions, outputs)`.
      table: rows of the table.
    """

    rows: Int[Array, "batch positions"]
    signals: Float[Array, "batch positions outputs"]
    table: int = field(metadata={"static": True})

    def squares(self) -> Rows:
        signals = jnp.where(self._inside, self.signals, 0)
        same = (self.rows[:, :, None] == self.rows[:, None, :]).astype(jnp.float32)
        # Every position gets its row's whole gradient, and a row of k positions comes k times.
        whole = _squares(jnp.einsum("bts,bsd->btd", same, signals), 1) / same.sum(axis=2)
        # The weighted sum adds position by position, and may round what cancels in the whole.
        rounding = ROUNDING * jnp.sqrt(_squares(signals, 1)).sum(axis=1)
        return whole.sum(axis=1) + jnp.square(rounding)

    def weighted(self, factors: Rows) -> Float[Array, "table outputs"]:
        signals = jnp.where(self._inside, factors[:, None, None] * self.signals, 0)
        signals = _blank(factors, signals)
        zero = jnp.zeros((self.table, signals.shape[-1]), jnp.float32)
        flat = signals.reshape(-1, signals.shape[-1])
        return zero.at[self.rows.reshape(-1)].add(flat, mode="drop")

    def formed(self) -> Formed:
        """`(batch, table, outputs)`."""

        def alone(rows: jax.Array, signals: jax.Array) -> jax.Array:
            return Lookups(rows[None], signals[None], self.table).weighted(jnp.ones(1))

        return Formed(jax.vmap(alone)(self.rows, self.signals))

    @property
    def _inside(self) -> jax.Array:
        return ((self.rows >= 0) & (self.rows < self.table))[:, :, None]


@dataclass(frozen=True)
class Place:
    """How an array of a form becomes one of the parameter's shape.

    Attributes:
      shape: of the parameter.
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
    """Several uses of one weight as one: their positions side by side."""
    if len(parts) == 1:
        return parts[0]
    return Products(
        jnp.concatenate([part.activations for part in parts], axis=2),
        jnp.concatenate([part.signals for part in parts], axis=2),
    )


def _gram(values: Float[Array, "batch groups positions numbers"]) -> jax.Array:
    return jnp.einsum("bntp,bnsp->bnts", values, values)


def _blank(factors: Rows, values: jax.Array) -> jax.Array:
    """Zeros in the rows with a factor of zero; a select, since NaN times zero is NaN."""
    return jnp.where(factors.reshape(-1, *[1] * (values.ndim - 1)) > 0, values, 0)


def _squares(values: jax.Array, axes: int) -> jax.Array:
    """Sums of squares over the last axes, no less than the true ones even where squares vanish."""
    kept, size = values.shape[: values.ndim - axes], math.prod(values.shape[values.ndim - axes :])
    rows = values.reshape(math.prod(kept), size)
    return jnp.square(rows).sum(axis=1).reshape(kept) + size * TINY
