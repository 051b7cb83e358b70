"""Compile once, for every run: arrays that a function closes over become arguments.

A stage's loss closes over what earlier stages released (noisy shares, a frozen decoder). Written
into the program as constants they would make every run's program another one, and the persistent
compilation cache would never find it again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax


def compiled(function: Callable[..., Any], *, donate: bool = False) -> Callable[..., Any]:
    """`jax.jit(function)` whose closed-over arrays are arguments.

    Args:
      function: of positional trees of arrays; traced once for each structure, shape and type.
      donate: whether the first argument's memory is used for the result.
    """
    traced: dict[Any, tuple[Callable[..., Any], list[Any]]] = {}

    def call(*args: Any) -> Any:
        leaves, structure = jax.tree.flatten(args)
        kind = (structure, *(jax.typeof(leaf) for leaf in leaves))
        if kind not in traced:
            traced[kind] = _hoisted(function, args, donate)
        run, closed_over = traced[kind]
        return run(closed_over, *args)

    return call


def _hoisted(
    function: Callable[..., Any], args: tuple[Any, ...], donate: bool
) -> tuple[Callable[..., Any], list[Any]]:
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
    structure = jax.tree.structure(shapes)

    def run(closed_over: list[Any], *args: Any) -> Any:
        flat = jax.core.eval_jaxpr(closed.jaxpr, closed_over, *jax.tree.leaves(args))
        return jax.tree.unflatten(structure, flat)

    return jax.jit(run, donate_argnums=(1,) if donate else ()), list(closed.consts)
