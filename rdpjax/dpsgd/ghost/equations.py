"""Flattened jaxpr of a per-example loss, split by dependence on parameters and example.

JAX traces every function to a list of primitive equations (its jaxpr). Ghost clipping takes from
that list where a parameter meets the example, and through which operations the parameter got there.
No layer needs annotation, so any network written in JAX will do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr, Literal, Primitive, Var

CALLS = {"jit", "pjit", "closed_call", "core_call", "checkpoint", "remat2"}
"""Primitives that only call an inner jaxpr, which is inlined."""

MOVES = {"reshape", "transpose", "squeeze", "rev", "copy", "broadcast_in_dim"}
"""Primitives that only move a parameter's numbers; where none is repeated, the gradient with
respect to the result has the same norm as the one with respect to the parameter."""

Slot: TypeAlias = int
Values: TypeAlias = dict[Slot, Any]


class Equation(NamedTuple):
    """`outputs = primitive(*inputs)`; values are named by slots, numbered over the whole list.

    `before` and `after` are the shapes and types of inputs and outputs, for one example.
    """

    primitive: Primitive
    params: dict[str, Any]
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    before: tuple[Any, ...]
    after: tuple[Any, ...]

    def apply(self, inputs: Iterable[Any]) -> list[Any]:
        primitive: Any = self.primitive
        found = primitive.bind(*inputs, **primitive.get_bind_params(self.params))
        return list(found) if self.primitive.multiple_results else [found]


@dataclass(frozen=True)
class Equations:
    """The equations of `loss(params, example, key)` for one example.

    Attributes:
      views: equations on parameters alone, in order.
      mixed: the other equations, in order: those that depend on the example (or the key).
      constants: values that depend on neither.
      leaves: slots of the parameters' leaves.
      rest: slots of the leaves of (example, key).
      loss: slot of the loss.
      origins: for every slot that holds parameters alone, the leaves that it comes from.
      moved: slots that hold all numbers of one leaf, each once, at most rounded.
    """

    views: tuple[Equation, ...]
    mixed: tuple[Equation, ...]
    constants: Values
    leaves: tuple[Slot, ...]
    rest: tuple[Slot, ...]
    loss: Slot
    origins: dict[Slot, frozenset[int]]
    moved: frozenset[Slot]

    def met(self, equation: Equation) -> list[int]:
        """Return the positions of a mixed equation's inputs that hold differentiable parameters."""
        return [
            i
            for i, (slot, aval) in enumerate(zip(equation.inputs, equation.before, strict=True))
            if slot in self.origins and jnp.issubdtype(aval.dtype, jnp.inexact)
        ]

    def view_values(self, leaves: list[Any], wanted: Iterable[Slot]) -> list[Any]:
        """Compute the values of slots that depend on parameters alone."""
        values = self.constants | dict(zip(self.leaves, leaves, strict=True))
        for equation in self.views:
            outputs = equation.apply(values[slot] for slot in equation.inputs)
            values |= zip(equation.outputs, outputs, strict=True)
        return [values[slot] for slot in wanted]

    def moved_back(
        self, leaves: list[Any], views: list[Slot], gradients: list[jax.Array]
    ) -> list[jax.Array]:
        """Map float32 gradients by `moved` slots to gradients by leaves; numbers are only moved."""

        def moves(leaves: list[Any]) -> list[Any]:
            values = dict(zip(self.leaves, leaves, strict=True))
            for equation in self.views:
                if equation.outputs[0] in self.moved:
                    inputs = [values[equation.inputs[0]]]
                    rounds = _rounds(equation)  # skipped: gradients stay float32
                    values[equation.outputs[0]] = inputs[0] if rounds else equation.apply(inputs)[0]
            return [values[slot] for slot in views]

        _, back = jax.vjp(moves, [leaf.astype(jnp.float32) for leaf in leaves])
        moved: list[jax.Array] = back(gradients)[0]
        return moved


def equations_of(loss: Callable[..., jax.Array], params: Any, example: Any, key: Any) -> Equations:
    """Trace a loss; `example` and `key` may be shapes and types only."""
    leaves, structure = jax.tree.flatten(params)

    def flat(leaves: list[Any], rest: Any, nothing: jax.Array) -> jax.Array:
        # `nothing` makes the loss depend on the example even where the user's does not.
        value = loss(jax.tree.unflatten(structure, leaves), *rest)
        return value.astype(jnp.float32) + nothing

    closed = jax.make_jaxpr(flat)(leaves, (example, key), jnp.float32(0))
    return _split(*_Flattened.of(closed), len(leaves))


class _Flattened:
    """Builder of one list of equations from nested jaxprs."""

    def __init__(self) -> None:
        self.equations: list[Equation] = []
        self.constants: Values = {}
        self.slots = 0

    @staticmethod
    def of(closed: Any) -> tuple[list[Equation], Values, list[Slot], Slot]:
        flattened = _Flattened()
        inputs = [flattened.slot() for _ in closed.jaxpr.invars]
        consts = [flattened.constant(value) for value in closed.consts]
        (loss,) = flattened.write(closed.jaxpr, consts, inputs)
        return flattened.equations, flattened.constants, inputs, loss

    def slot(self) -> Slot:
        self.slots += 1
        return self.slots - 1

    def constant(self, value: Any) -> Slot:
        slot = self.slot()
        self.constants[slot] = value
        return slot

    def write(self, jaxpr: Jaxpr, consts: list[Slot], inputs: list[Slot]) -> list[Slot]:
        named: dict[Var, Slot] = dict(zip(jaxpr.constvars, consts, strict=True))
        named |= zip(jaxpr.invars, inputs, strict=True)

        def read(atom: Any) -> Slot:
            return self.constant(atom.val) if isinstance(atom, Literal) else named[atom]

        for eqn in jaxpr.eqns:
            given = [read(atom) for atom in eqn.invars]
            if eqn.primitive.name in CALLS:
                inner: Any = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
                bare = inner if isinstance(inner, Jaxpr) else inner.jaxpr
                values = () if isinstance(inner, Jaxpr) else inner.consts
                made = self.write(bare, [self.constant(value) for value in values], given)
            else:
                made = [self.slot() for _ in eqn.outvars]
                avals = [tuple(v.aval for v in side) for side in (eqn.invars, eqn.outvars)]
                self.equations.append(
                    Equation(eqn.primitive, eqn.params, tuple(given), tuple(made), *avals)
                )
            named |= zip(eqn.outvars, made, strict=True)
        return [read(atom) for atom in jaxpr.outvars]


def _split(
    equations: list[Equation], constants: Values, inputs: list[Slot], loss: Slot, count: int
) -> Equations:
    constants, views, mixed = dict(constants), [], []
    origins = {slot: frozenset([i]) for i, slot in enumerate(inputs[:count])}
    moved = set(inputs[:count])
    for equation in equations:
        if all(slot in constants for slot in equation.inputs):
            values = equation.apply([constants[slot] for slot in equation.inputs])
            constants |= zip(equation.outputs, values, strict=True)
        elif all(slot in constants or slot in origins for slot in equation.inputs):
            views.append(equation)
            found = frozenset[int]().union(*(origins.get(s, ()) for s in equation.inputs))
            origins |= dict.fromkeys(equation.outputs, found)
            if equation.inputs[0] in moved and (_moves(equation) or _rounds(equation)):
                moved |= set(equation.outputs)
        else:
            mixed.append(equation)
    return Equations(
        tuple(views),
        tuple(mixed),
        constants,
        tuple(inputs[:count]),
        tuple(inputs[count:]),
        loss,
        origins,
        frozenset(moved),
    )


def _moves(equation: Equation) -> bool:
    return equation.primitive.name in MOVES and equation.before[0].size == equation.after[0].size


def _rounds(equation: Equation) -> bool:
    return equation.primitive.name == "convert_element_type" and jnp.issubdtype(
        equation.after[0].dtype, jnp.inexact
    )
