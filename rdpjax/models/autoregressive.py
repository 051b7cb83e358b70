"""Masked autoregressive network over the columns of a record.

Each column's conditional is its noisy marginal, exponentially tilted given the columns before it:
the logits of column c are its log prior plus t_c times the features of its tokens, where the few
tilts t_c are a linear function plus one hidden layer of the features before c. Masks enforce the
order (Germain et al. 2015, MADE, arXiv 1502.03509).

Few weights are masked here, since a masked weight matrix has no ghost clipping rule. Columns after
the first are divided into groups. Between groups, the block-triangular matrix is a binary tree of
dense blocks: the first half feeds the second, the first quarter the second and the third the
fourth, and so on, with the blocks of one level as one batched product. Within a group, and from
the hidden units, copies of the inputs are masked instead of weights; weights of a masked input
have zero gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer

from rdpjax.arrays import AnyArray
from rdpjax.models.layers import draw_codes, one_hot, tanh

Params = dict[str, Any]
Features = Float[AnyArray, "columns width order"]
Prior = Float[AnyArray, "columns width"]

LEVELS = 4
"""Most levels of the tree: 2**4 groups of columns."""


@dataclass(frozen=True)
class Autoregressive:
    """Autoregressive network as pure functions.

    Attributes:
      order: the columns in the order in which they are drawn.
      widths: number of tokens of each column, by column.
      live: number of features of each column, by column; later ones are ignored.
      given: whether the first column is the condition column: drawn from its prior, not trained.
      hidden: number of hidden units, rounded up to a multiple of the number of groups. The units of
        a group have the first column and all earlier groups as inputs; their outputs go to their
        own group and to later ones.
    """

    order: tuple[int, ...]
    widths: tuple[int, ...]
    live: tuple[int, ...]
    given: bool = False
    hidden: int = 64

    @staticmethod
    def of(
        features: Float[np.ndarray, "columns width order"],
        widths: tuple[int, ...],
        given: int | None,
        hidden: int,
    ) -> Autoregressive:
        """Build the network of a table.

        Args:
          features: (columns, width, order); features of a column that are 0 stand last.
          widths: number of tokens of each column: n tokens identify at most n - 1 features.
          given: the condition column, drawn first, from its prior; None to train all, in their
            order.
          hidden: number of hidden units.
        """
        some = np.abs(features).max(axis=1) > 0
        live = np.minimum(some.sum(axis=1), np.asarray(widths) - 1).tolist()
        rest = tuple(c for c in range(len(widths)) if c != given)
        order = rest if given is None else (given, *rest)
        return Autoregressive(order, widths, tuple(live), given is not None, hidden)

    def init(self, key: jax.Array) -> Params:
        """Initialise parameters such that the columns are independent, with the prior's shares."""
        groups, inputs, units = self._groups, self._size * self._each, self._units
        keys = jax.random.split(key, self._levels + 1)
        spread = 1 / np.sqrt(self._head + inputs * groups / 2)

        def inward(key: jax.Array, rows: tuple[int, ...], groups: int) -> jax.Array:
            """Stack zeros for the tilts of so many groups, and normal weights for their units."""
            weights = spread * jax.random.normal(key, (*rows, groups, units))
            both = jnp.concatenate([jnp.zeros((*rows, groups, inputs)), weights], axis=-1)
            return both.reshape(*rows, -1)

        halves = [groups >> (level + 1) for level in range(self._levels)]
        tree = [
            inward(keys[level], (2**level, half * inputs), half)
            for level, half in enumerate(halves)
        ]
        start = {} if self.given else {"start": jnp.zeros((self._head,))}
        return start | {
            "first": inward(keys[-1], (self._head,), groups),
            **{f"tree_{level}": kernel for level, kernel in enumerate(tree)},
            "near": jnp.zeros((groups, self._size, inputs, self._each)),
            "unit_bias": jnp.zeros((groups, units)),
            "outward": jnp.zeros((groups, groups * units, inputs)),
            "bias": jnp.zeros((groups, inputs)),
        }

    def loss(
        self, params: Params, codes: Integer[AnyArray, " columns"], prior: Prior, features: Features
    ) -> Float[Array, ""]:
        """Compute one record's negative log-likelihood, in nats; less the column `given`."""
        first, table, priors = self._tables(prior, features)
        placed = codes[np.asarray(self.order)].astype(jnp.int32)
        seen = table[np.arange(len(table)), jnp.pad(placed[1:], (0, len(table) - self._rest))]
        tilts = self._tilts(params, first[placed[0]], seen)
        logits = priors + jnp.einsum("ck,cwk->cw", tilts, table[: self._rest])
        found = (jax.nn.logsumexp(logits, axis=1) - _at(logits, placed[1:])).sum()
        if self.given:
            return found
        logits = self._first_logits(params, prior, first)[None]
        return found + (jax.nn.logsumexp(logits, axis=1) - _at(logits, placed[:1])).sum()

    def draw(
        self, params: Params, key: jax.Array, rows: int, prior: Prior, features: Features
    ) -> Int[Array, "rows columns"]:
        """Draw records, column by column: inputs of columns not drawn yet are 0."""
        first, table, priors = self._tables(prior, features)
        first_key, key = jax.random.split(key)
        skip, inward = self._dense(params)
        groups, size, each = self._groups, self._size, self._each
        outward = params["outward"] * self._open[..., None].astype(np.float32)
        outward = jnp.swapaxes(outward.reshape(groups, -1, size, each), 1, 2)
        layers = {
            "bias": params["bias"].reshape(-1, each, 1),
            "skip": jnp.moveaxis(skip.reshape(len(skip), -1, each), 0, 2),
            "inward": jnp.swapaxes(inward[self._head :].reshape(-1, each, inward.shape[1]), 1, 2),
            "outward": jnp.swapaxes(outward.reshape(-1, outward.shape[2], each), 1, 2),
            "heads": table,
        }
        layers = {name: values[: self._rest] for name, values in layers.items()}
        layers["start"] = self._head + each * jnp.arange(self._rest)
        layers["prior"] = priors[..., None]
        layers["key"] = jax.random.split(key, self._rest)

        def step(
            carry: tuple[jax.Array, jax.Array], layer: dict[str, jax.Array]
        ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
            seen, inward = carry
            tilts = layer["skip"] @ seen + layer["outward"] @ tanh(inward)
            tilts = tilts + jnp.broadcast_to(layer["bias"], tilts.shape)
            logits = layer["heads"] @ tilts
            logits = logits + jnp.broadcast_to(layer["prior"], logits.shape)
            codes = draw_codes(layer["key"], logits.T)
            written = layer["heads"].T[:, codes]
            start = (layer["start"], jnp.zeros_like(layer["start"]))
            seen = jax.lax.dynamic_update_slice(seen, written, start)
            return (seen, inward + layer["inward"] @ written), codes

        logits = prior[self.order[0]] if self.given else self._first_logits(params, prior, first)
        begun = draw_codes(first_key, logits, rows)
        written = first.T[:, begun]
        bias = jnp.broadcast_to(params["unit_bias"].reshape(-1, 1), (inward.shape[1], rows))
        carry = (
            jnp.pad(written, [(0, len(skip) - self._head), (0, 0)]),
            bias + inward[: self._head].T @ written,
        )
        _, drawn = jax.lax.scan(step, carry, layers)
        return jnp.concatenate([begun[None], drawn])[np.argsort(self.order)].T

    def _tilts(
        self,
        params: Params,
        first: Float[Array, " head"],
        rest: Float[Array, "places each"],
    ) -> Float[Array, "rest each"]:
        """Compute tilts of one record's columns after the first, each from the features before."""
        dtype = params["bias"].dtype
        linear, inward = self._linear(params, first.astype(dtype), rest.astype(dtype))
        units = tanh(inward + params["unit_bias"]).reshape(-1)
        bent = jnp.einsum("gh,gho->go", _masked(units, self._open), params["outward"])
        tilts: jax.Array = (linear + bent + params["bias"]).astype(jnp.float32)
        return tilts.reshape(-1, self._each)[: self._rest]

    def _linear(
        self, params: Params, first: jax.Array, rest: jax.Array
    ) -> tuple[Float[Array, "groups inputs"], Float[Array, "groups units"]]:
        """Compute the linear parts: of the tilts, and the inputs of the hidden units."""
        groups, inputs = self._groups, self._size * self._each
        out = (first @ params["first"]).reshape(groups, -1)
        for level in range(self._levels):
            said = rest.reshape(2**level, 2, -1)[:, 0]
            heard = jnp.einsum("bi,bio->bo", said, params[f"tree_{level}"])
            heard = heard.reshape(2**level, 1, -1, out.shape[-1])
            out = out + jnp.pad(heard, [(0, 0), (1, 0), (0, 0), (0, 0)]).reshape(out.shape)
        # Strictly lower triangular: within a group, a column depends on those before it.
        before = np.repeat(np.tri(self._size, k=-1), self._each, axis=1)
        mask = np.broadcast_to(before, (groups, *before.shape))
        near = jnp.einsum(
            "gci,gcik->gck", _masked(rest.reshape(groups, 1, inputs), mask), params["near"]
        )
        return out[:, :inputs] + near.reshape(groups, inputs), out[:, inputs:]

    def _dense(
        self, params: Params
    ) -> tuple[Float[Array, "features tilts"], Float[Array, "features units"]]:
        """Materialise `_linear` as matrices."""
        basis = jnp.eye(self._head + self._groups * self._size * self._each)

        def linear(features: jax.Array) -> tuple[jax.Array, jax.Array]:
            return self._linear(params, features[: self._head], features[self._head :])

        tilts, units = jax.vmap(linear)(basis)
        return tilts.reshape(len(basis), -1), units.reshape(len(basis), -1)

    def _first_logits(self, params: Params, prior: Prior, first: jax.Array) -> jax.Array:
        heard: jax.Array = (first @ params["start"]).astype(jnp.float32)
        return prior[self.order[0]] + heard

    def _tables(
        self, prior: Prior, features: Features
    ) -> tuple[
        Float[Array, "width head"], Float[Array, "places most each"], Float[Array, "rest most"]
    ]:
        """Tabulate features of the first column; those of the others by place; and their prior.

        The tables of the others are as wide as the widest of them.
        """
        live = np.arange(features.shape[-1]) < np.asarray(self.live)[:, None]
        looked_at = jnp.asarray(live, features.dtype)[:, None, :] * features
        rest = np.asarray(self.order[1:], int)
        width = max((self.widths[c] for c in self.order[1:]), default=1)
        table = looked_at[rest][:, :width, : self._each]
        empty = self._groups * self._size - self._rest
        return (
            looked_at[self.order[0], :, : self._head],
            jnp.pad(table, [(0, empty), (0, 0), (0, 0)]),
            prior[rest][:, :width],
        )

    @property
    def _rest(self) -> int:
        """Number of columns after the first."""
        return len(self.order) - 1

    @property
    def _head(self) -> int:
        """Number of features of the first column."""
        return self.live[self.order[0]]

    @property
    def _each(self) -> int:
        """Most features of a column after the first."""
        return max((self.live[c] for c in self.order[1:]), default=1)

    @property
    def _levels(self) -> int:
        """Number of levels of the tree, with at least one column for each of its groups."""
        return min(LEVELS, max(self._rest, 1).bit_length() - 1)

    @property
    def _groups(self) -> int:
        groups: int = 2**self._levels
        return groups

    @property
    def _size(self) -> int:
        """Number of places of a group; the last ones may be empty."""
        return max(1, -(-self._rest // self._groups))

    @property
    def _units(self) -> int:
        """Number of hidden units of a group."""
        return -(-self.hidden // self._groups)

    @property
    def _open(self) -> np.ndarray:
        """Mask from the units of one group to another, bool (groups, groups * units)."""
        groups = np.arange(self._groups)
        return np.repeat(groups, self._units)[None] <= groups[:, None]


def _at(logits: Float[Array, "columns width"], codes: Integer[Array, " columns"]) -> jax.Array:
    """Select each column's logit at its token; a product, since a gather has no clipping rule."""
    return (logits * one_hot(codes, logits.shape[1])).sum(axis=1)


def _masked(values: jax.Array, mask: np.ndarray) -> jax.Array:
    return jnp.broadcast_to(values, mask.shape) * jnp.asarray(mask, values.dtype)
