"""Ghost clipping rules: per-example gradients of an equation with respect to a parameter.

A rule takes the equation's inputs and the signal at its output, for a batch, and returns the
gradient in the cheapest form it has, with a function that maps an array of that form to the
parameter's shape. An equation without a rule is transposed by JAX itself, example by example:
always correct, and as small as the parameter where the equation is elementwise (biases, scales).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from rdpjax.dpsgd.ghost.equations import Equation
from rdpjax.dpsgd.ghost.gradients import Formed, Gradient, Lookups, Place, Products


class Input(NamedTuple):
    """One input of an equation.

    Attributes:
      value: its value.
      batched: whether the value has a leading batch axis.
      gram: Gram matrix of windows, `(batch, 1, positions, positions)`; see
        `rdpjax.dpsgd.ghost.windows`.
    """

    value: jax.Array
    batched: bool
    gram: jax.Array | None = None


Inputs: TypeAlias = Sequence[Input]

FACTORED = {"dot_general", "conv_general_dilated"}
"""Primitives whose gradients are kept as activations and signals."""

ELEMENTWISE = {"add", "sub", "mul", "div", "max", "min", "select_n", "add_any"}


def gradient_of(
    equation: Equation, position: int, inputs: Inputs, signals: list[Any]
) -> tuple[Gradient, Place]:
    """Return per-example gradients with respect to input `position` of `equation`.

    Args:
      equation: the equation, for one example.
      position: which input holds parameters.
      inputs: all inputs; the one at `position` has no batch axis.
      signals: derivatives of each example's loss with respect to the outputs, batch first.
    """
    rule = RULES.get(equation.primitive.name)
    found = rule(equation, position, inputs, signals[0]) if rule else None
    return found or _transposed(equation, position, inputs, signals)


def has_rule(equation: Equation, position: int) -> bool:
    """Test whether no gradient as large as a weight matrix is materialised for want of a rule."""
    name = equation.primitive.name
    if name == "dot_general":
        return True
    if name == "conv_general_dilated":
        return position == 1 and _plain(equation)
    if name == "gather":
        return position == 0 and _picks_rows(equation)
    if name == "dynamic_slice":
        return position == 0 and _picks_a_row(equation)
    return name in ELEMENTWISE


def _transposed(
    equation: Equation, position: int, inputs: Inputs, signals: list[Any]
) -> tuple[Gradient, Place]:
    values = [given.value for given in inputs]
    axes = [0 if given.batched else None for given in inputs]

    def one(values: list[Any], signals: list[Any]) -> jax.Array:
        def outputs(weight: jax.Array) -> list[Any]:
            return equation.apply([*values[:position], weight, *values[position + 1 :]])

        made, back = jax.vjp(outputs, values[position])
        cotangents = [
            signal.astype(out.dtype)
            if jnp.issubdtype(out.dtype, jnp.inexact)
            else np.zeros(out.shape, jax.dtypes.float0)
            for out, signal in zip(made, signals, strict=True)
        ]
        gradient: jax.Array = back(cotangents)[0]
        return gradient.astype(jnp.float32)

    gradient = jax.vmap(one, in_axes=(axes, 0))(values, signals)
    return Formed(gradient), Place.as_it_is(gradient.shape[1:])


def _dot_general(
    equation: Equation, position: int, inputs: Inputs, signal: jax.Array
) -> tuple[Gradient, Place] | None:
    contracted, batch = equation.params["dimension_numbers"]
    other = 1 - position
    weight = equation.before[position].shape
    w_batch, x_batch = batch[position], batch[other]
    w_in, x_in = contracted[position], contracted[other]
    w_out = [i for i in range(len(weight)) if i not in (*w_batch, *w_in)]
    x_free = [
        i for i in range(equation.before[other].ndim) if i not in (*x_batch, *x_in)
    ]  # `ndim`: of one example
    groups, inner = _size(weight, w_batch), _size(weight, w_in)
    outer = _size(weight, w_out)
    positions = _size(equation.before[other].shape, x_free)

    x = _batched(inputs[other], signal.shape[0])
    x = x.transpose(0, *(i + 1 for i in (*x_batch, *x_free, *x_in)))
    x = x.reshape(-1, groups, positions, inner)
    if position == 1:  # the output's axes: groups, then the example's, then the weight's
        g = signal.reshape(-1, groups, positions, outer)
    else:
        g = jnp.swapaxes(signal.reshape(-1, groups, outer, positions), 2, 3)
    by_position = x_in == (1,) and not x_batch  # the layout of windows
    products = Products(_wide(x), _wide(g), inputs[other].gram if by_position else None)
    return products, Place(weight, (*w_batch, *w_in, *w_out))


def _conv(
    equation: Equation, position: int, inputs: Inputs, signal: jax.Array
) -> tuple[Gradient, Place] | None:
    if position != 1 or not _plain(equation):
        return None
    params, kernel = equation.params, equation.before[1].shape
    numbers = params["dimension_numbers"]
    lhs, rhs, out = numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec
    sizes = [kernel[i] for i in rhs[2:]]

    def unfold(x: jax.Array) -> jax.Array:
        # Patches of (batch, channels, *space): features are channels, then kernel positions.
        patches = jax.lax.conv_general_dilated_patches(
            x.transpose(lhs),
            sizes,
            params["window_strides"],
            params["padding"],
            params["lhs_dilation"],
            params["rhs_dilation"],
            precision=jax.lax.Precision.HIGHEST,
        )
        return jnp.moveaxis(patches, 1, -1).reshape(-1, patches.shape[1])

    def rows(g: jax.Array) -> jax.Array:
        return jnp.moveaxis(g.transpose(out), 1, -1).reshape(-1, g.shape[out[1]])

    x = jax.vmap(unfold)(_wide(_batched(inputs[0], signal.shape[0])))
    g = jax.vmap(rows)(_wide(signal))
    return Products(x[:, None], g[:, None]), Place(kernel, (rhs[1], *rhs[2:], rhs[0]))


def _gather(
    equation: Equation, position: int, inputs: Inputs, signal: jax.Array
) -> tuple[Gradient, Place] | None:
    if position != 0 or not _picks_rows(equation):
        return None
    table = equation.before[0].shape
    numbers, mode = equation.params["dimension_numbers"], equation.params["mode"]
    rows = _batched(inputs[1], signal.shape[0])
    rows = rows.reshape(rows.shape[0], -1)
    if mode == jax.lax.GatherScatterMode.CLIP:
        rows = jnp.clip(rows, 0, table[0] - 1)
    offsets = [i + 1 for i in numbers.offset_dims]
    looked_up = [i for i in range(1, signal.ndim) if i not in offsets]
    g = signal.transpose(0, *looked_up, *offsets).reshape(*rows.shape, -1)
    return Lookups(rows, _wide(g), table[0]), Place.as_it_is(table)


def _dynamic_slice(
    equation: Equation, position: int, inputs: Inputs, signal: jax.Array
) -> tuple[Gradient, Place] | None:
    if position != 0 or not _picks_a_row(equation):
        return None
    table = equation.before[0].shape
    row = _batched(inputs[1], signal.shape[0])
    rows = jnp.clip(row, 0, table[0] - 1)[:, None]  # dynamic_slice clamps its start
    return Lookups(rows, _wide(signal).reshape(len(rows), 1, -1), table[0]), Place.as_it_is(table)


RULES: dict[str, Callable[..., tuple[Gradient, Place] | None]] = {
    "dot_general": _dot_general,
    "conv_general_dilated": _conv,
    "gather": _gather,
    "dynamic_slice": _dynamic_slice,
}


def _plain(equation: Equation) -> bool:
    params = equation.params
    return bool(params["feature_group_count"] == 1 and params["batch_group_count"] == 1)


def _picks_rows(equation: Equation) -> bool:
    """Test whether a gather takes whole rows, by one index each: `table[indices]`."""
    numbers, shape = equation.params["dimension_numbers"], equation.before[0].shape
    return bool(
        numbers.collapsed_slice_dims == (0,)
        and numbers.start_index_map == (0,)
        and not numbers.operand_batching_dims
        and tuple(equation.params["slice_sizes"]) == (1, *shape[1:])
    )


def _picks_a_row(equation: Equation) -> bool:
    """Test whether a dynamic slice is one whole row: `table[index]`."""
    return tuple(equation.params["slice_sizes"]) == (1, *equation.before[0].shape[1:])


def _batched(given: Input, batch: int) -> jax.Array:
    value = given.value
    return value if given.batched else jnp.broadcast_to(value, (batch, *value.shape))


def _wide(values: jax.Array) -> jax.Array:
    return values.astype(jnp.float32)


def _size(shape: Sequence[int], axes: Sequence[int]) -> int:
    return math.prod(shape[i] for i in axes)
