"""`jax.jit` with closed-over arrays hoisted to arguments: one compiled program for all runs.

A stage's loss closes over what earlier stages released (noisy marginals, a frozen decoder). As
constants of the program these would differ between runs, and the persistent compilation cache would
never hit.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Sharding

FOR_X86 = {"xla_cpu_prefer_vector_width": 512}
"""Twice XLA's default: random bits are generated twice as fast in full vectors."""


@cache
def compiler_options() -> dict[str, Any]:
    """Return XLA compiler options for this backend: they change speed and results' last bits.

    `XLA_FLAGS` takes precedence. Empty on anything but an x86 processor, and where this version of
    XLA does not know the options.
    """
    if jax.default_backend() != "cpu" or platform.machine().lower() not in ("x86_64", "amd64"):
        return {}
    flags = os.environ.get("XLA_FLAGS", "")
    options = {name: value for name, value in FOR_X86.items() if name not in flags}
    with contextlib.suppress(Exception):
        jax.jit(lambda: jnp.int32(0), compiler_options=options).lower().compile()
        return options
    return {}


class Compiled:
    """`jax.jit` of a function whose closed-over arrays are arguments.

    Args:
      function: pure, of positional pytrees of arrays; traced once per structure, shape and dtype.
      donate: whether the first argument's buffers are donated to the result.
      sharding: of arguments and results; None leaves them where they are.

    Examples:
      >>> import jax.numpy as jnp
      >>> shift = jnp.arange(3.0)
      >>> Compiled(lambda x: x + shift)(jnp.ones(3)).tolist()
      [1.0, 2.0, 3.0]
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        donate: bool = False,
        sharding: Sharding | None = None,
    ) -> None:
        self._function = function
        self._sharding = sharding
        self._options: dict[str, Any] = {"donate_argnums": (1,) if donate else ()}
        if sharding is not None:
            self._options |= {"in_shardings": sharding, "out_shardings": sharding}
        self._traced: dict[Any, tuple[Callable[..., Any], list[Any]]] = {}

    def __call__(self, *args: Any) -> Any:
        leaves, structure = jax.tree.flatten(args)
        inside = any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
        kind = (inside, structure, *(jax.typeof(leaf) for leaf in leaves))
        if kind not in self._traced:
            self._traced[kind] = self._hoisted(args, inside)
        run, closed_over = self._traced[kind]
        return run(closed_over, *args)

    def prepare(self, *args: Any) -> None:
        """Compile for arguments of these shapes and types, into the persistent cache."""
        run, closed_over = self._hoisted(args)
        run.lower(closed_over, *args).compile()

    def _hoisted(self, args: tuple[Any, ...], inside: bool = False) -> tuple[Any, list[Any]]:
        closed, shapes = jax.make_jaxpr(self._function, return_shape=True)(*args)
        structure = jax.tree.structure(shapes)

        def run(closed_over: list[Any], *args: Any) -> Any:
            flat = jax.core.eval_jaxpr(closed.jaxpr, closed_over, *jax.tree.leaves(args))
            return jax.tree.unflatten(structure, flat)

        consts = list(closed.consts)
        if self._sharding is not None:
            consts = jax.device_put(consts, self._sharding)  # transferred once, not per call
        options = None if inside else compiler_options()  # not accepted under a trace
        return jax.jit(run, compiler_options=options, **self._options), consts
