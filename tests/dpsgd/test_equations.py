from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdpjax.dpsgd.ghost.equations import Equations, equations_of

KEY = jax.random.key(0)
X = jnp.arange(4.0)
W = jnp.arange(12.0).reshape(4, 3)


def traced(loss: Callable[..., Any], params: Any, example: Any = X) -> Equations:
    return equations_of(loss, params, example, KEY)


def names(equations: tuple[Any, ...]) -> list[str]:
    return [equation.primitive.name for equation in equations]


def evaluated(found: Equations, params: Any, example: Any) -> jax.Array:
    """The loss, equation by equation."""
    values = found.constants | dict(zip(found.leaves, jax.tree.leaves(params), strict=True))
    rest = [*jax.tree.leaves((example, KEY)), jnp.float32(0)]
    values |= zip(found.rest, rest, strict=True)
    for equation in found.views + found.mixed:
        outputs = equation.apply(values[slot] for slot in equation.inputs)
        values |= zip(equation.outputs, outputs, strict=True)
    return values[found.loss]


@jax.jit
def layer(w: jax.Array, x: jax.Array) -> jax.Array:
    return jax.nn.relu(jax.jit(jnp.matmul)(x, w))


LOSSES: dict[str, Callable[..., jax.Array]] = {
    "nested calls": lambda p, x, k: jax.checkpoint(layer)(p["w"], x).sum() + p["b"][0],
    "a key": lambda p, x, k: (p["b"] * jax.random.normal(k, (3,))).sum(),
    "a scan": lambda p, x, k: jax.lax.scan(
        lambda h, row: (jnp.tanh(h + row), None), x[:3] * p["b"], p["w"]
    )[0].sum(),
    "no example": lambda p, x, k: (p["w"] ** 2).sum(),
    "no parameter": lambda p, x, k: x.sum(),
    "neither": lambda p, x, k: jnp.float32(3),
    "a parameter itself": lambda p, x, k: p["b"][1],
    "the example itself": lambda p, x, k: x[2],
    "half precision": lambda p, x, k: (
        x[:3].astype(jnp.bfloat16).astype(jnp.float32) * p["b"]
    ).sum(),
    "an integer view": lambda p, x, k: x[jnp.argmax(p["b"])] * p["b"].sum(),
}
PARAMS = {"b": jnp.array([0.5, -1.0, 0.25]), "w": W}


@pytest.mark.parametrize("name", LOSSES)
def test_equations_give_the_loss(name: str) -> None:
    found = traced(LOSSES[name], PARAMS)
    expected = np.float32(LOSSES[name](PARAMS, X, KEY))
    value = evaluated(found, PARAMS, X)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(np.asarray(value), expected, rtol=1e-6)


def test_calls_are_written_into_one_list() -> None:
    found = traced(LOSSES["nested calls"], PARAMS)
    assert not {"jit", "pjit", "checkpoint", "remat2"} & set(names(found.views + found.mixed))
    assert "dot_general" in names(found.mixed)


def test_shapes_and_types_are_enough() -> None:
    shapes = jax.eval_shape(lambda: PARAMS)
    example = jax.ShapeDtypeStruct((4,), jnp.float32)
    key = jax.eval_shape(lambda: KEY)
    for name, loss in LOSSES.items():
        found = equations_of(loss, shapes, example, key)
        assert names(found.mixed) == names(traced(loss, PARAMS).mixed), name


def test_views_depend_on_parameters_alone_and_know_which() -> None:
    def loss(p: Any, x: jax.Array, key: jax.Array) -> jax.Array:
        product = p["a"] @ p["b"]
        return (x @ product.T).sum() + (p["c"] * 2.0 * x[0]).sum() + jnp.sin(jnp.ones(2)).sum()

    params = {"a": jnp.ones((3, 2)), "b": jnp.ones((2, 4)), "c": jnp.ones(2)}
    found = traced(loss, params)
    met = {
        found.origins[equation.inputs[i]] for equation in found.mixed for i in found.met(equation)
    }
    assert met == {frozenset([0, 1]), frozenset([2])}
    assert all(
        slot in found.origins or slot in found.constants for e in found.views for slot in e.inputs
    )
    assert "sin" not in names(found.views + found.mixed)  # a constant: evaluated at once


def test_integers_made_of_parameters_are_not_differentiated_by() -> None:
    found = traced(LOSSES["an integer view"], PARAMS)
    for equation in found.mixed:
        for i in found.met(equation):
            assert jnp.issubdtype(equation.before[i].dtype, jnp.inexact)


MOVED: dict[str, tuple[Callable[[jax.Array], jax.Array], bool]] = {
    "itself": (lambda w: w, True),
    "transposed": (lambda w: w.T, True),
    "reshaped": (lambda w: w.reshape(2, 6)[None], True),
    "reversed": (lambda w: w[::-1], True),
    "rounded": (lambda w: w.astype(jnp.bfloat16).T, True),
    "rounded and back": (lambda w: w.astype(jnp.bfloat16).astype(jnp.float32), True),
    "repeated": (lambda w: jnp.broadcast_to(w, (2, 4, 3)), False),
    "cut": (lambda w: w[:2], False),
    "scaled": (lambda w: w * 2.0, False),
    "whole numbers": (lambda w: w.astype(jnp.int32).astype(jnp.float32), False),
    "padded": (lambda w: jnp.pad(w, 1), False),
    "concatenated": (lambda w: jnp.concatenate([w, w]), False),
    "scaled, then moved": (lambda w: (w * 2.0).T, False),
}


@pytest.mark.parametrize("name", MOVED)
def test_what_only_moves_numbers_is_known(name: str) -> None:
    view, moves = MOVED[name]
    found = traced(lambda w, x, k: (x[0].astype(view(w).dtype) * view(w)).sum(), W)
    views = {equation.inputs[i] for equation in found.mixed for i in found.met(equation)}
    assert len(views) == 1
    assert (views <= found.moved) is moves
    (value,) = found.view_values([W], views)
    np.testing.assert_array_equal(np.asarray(value), np.asarray(view(W)))


@pytest.mark.parametrize("name", [name for name, (_, moves) in MOVED.items() if moves])
def test_moved_gradients_come_home_with_no_bit_changed(name: str) -> None:
    view, _ = MOVED[name]
    found = traced(lambda w, x, k: (x[0].astype(view(w).dtype) * view(w)).sum(), W)
    (slot,) = {equation.inputs[i] for equation in found.mixed for i in found.met(equation)}
    gradient = np.random.default_rng(0).normal(size=view(W).shape).astype(np.float32)
    (home,) = found.moved_back([W], [slot], [jnp.asarray(gradient)])
    assert home.dtype == jnp.float32
    assert home.shape == W.shape
    np.testing.assert_array_equal(np.sort(np.ravel(home)), np.sort(gradient.ravel()))
    there = jax.vjp(lambda w: view(w).astype(jnp.float32), W)[1](jnp.asarray(gradient))[0]
    np.testing.assert_allclose(np.asarray(home), np.asarray(there), rtol=0.01)


def test_a_leaf_without_a_view_gets_zeros() -> None:
    params = {"a": jnp.ones(3), "b": jnp.ones(2)}
    found = traced(lambda p, x, k: (p["a"] * x[:3]).sum(), params)
    leaves = jax.tree.leaves(params)
    (slot,) = {equation.inputs[i] for equation in found.mixed for i in found.met(equation)}
    a, b = found.moved_back(leaves, [slot], [jnp.arange(3.0)])
    np.testing.assert_array_equal(np.asarray(a), np.arange(3.0))
    np.testing.assert_array_equal(np.asarray(b), np.zeros(2))
