"""Windows: a convolution's input as overlapping slices of one signal, side by side.

Where windows overlap, they repeat the signal's numbers. The Gram matrix over positions of the
windows is a sum of blocks of the Gram matrix over positions of the signal, of which there are
fewer: with a kernel of three, about a third.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from rdpjax.dpsgd.ghost.equations import Equation, Slot


class Windows(NamedTuple):
    """A value `(positions, channels * windows)`: slices of `signal`, `(length, channels)`.

    Attributes:
      signal: slot of the sliced value.
      starts: first position of each slice, along the first axis.
      positions: length of each slice.
    """

    signal: Slot
    starts: tuple[int, ...]
    positions: int

    def gram(
        self, signal: Float[Array, "batch length channels"]
    ) -> Float[Array, "batch 1 positions positions"]:
        """Return the Gram matrices over positions of the windows, for a batch of signals.

        Guarantees:
          They depend on the numbers inside the windows and on no others. A non-finite number in a
          window makes the diagonal non-finite.
        """
        products = jnp.einsum("btp,bsp->bts", signal, signal)[:, None]
        ends = [start + self.positions for start in self.starts]
        return sum(
            (products[..., i:j, i:j] for i, j in zip(self.starts, ends, strict=True)),
            jnp.zeros((), products.dtype),
        )


def windows_of(equations: Sequence[Equation]) -> dict[Slot, Windows]:
    """Find outputs of single-example equations that are windows with a cheaper Gram matrix.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> from rdpjax.dpsgd.ghost.equations import equations_of
      >>> def loss(kernel, x, key):
      ...     return (jnp.concatenate([x[:5], x[1:]], axis=1) @ kernel).sum()
      >>> found = equations_of(loss, jnp.ones((4, 3)), jnp.ones((6, 2)), jax.random.key(0))
      >>> [window.starts for window in windows_of(found.mixed).values()]
      [(0, 1)]
    """
    made = {slot: equation for equation in equations for slot in equation.outputs}
    found = {}
    for equation in equations:
        if equation.primitive.name == "concatenate" and equation.params["dimension"] == 1:
            parts = [made.get(slot) for slot in equation.inputs]
            if (windows := _side_by_side(parts)) is not None:
                found[equation.outputs[0]] = windows
    return found


def _side_by_side(parts: Sequence[Equation | None]) -> Windows | None:
    slices = [part for part in parts if part is not None and _is_window(part)]
    if len(slices) < len(parts) or len({part.inputs for part in slices}) > 1:
        return None
    (length, _), (positions, _) = slices[0].before[0].shape, slices[0].after[0].shape
    if length**2 >= len(slices) * positions**2:
        return None
    starts = tuple(part.params["start_indices"][0] for part in slices)
    return Windows(slices[0].inputs[0], starts, positions)


def _is_window(equation: Equation) -> bool:
    """Test whether an equation takes consecutive positions of a signal, with all channels."""
    if equation.primitive.name != "slice" or equation.before[0].ndim != 2:
        return False
    whole = equation.before[0].shape[1] == equation.after[0].shape[1]
    return bool(whole and equation.params["strides"] in (None, (1, 1)))
