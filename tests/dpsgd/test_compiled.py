from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rdpjax.dpsgd import compiled
from rdpjax.dpsgd.compiled import Compiled, compiler_options


def closing_over(constant: np.ndarray, seen: list[Any] | None = None) -> Callable[..., Any]:
    array = jnp.asarray(constant)

    def function(x: jax.Array, tree: dict[str, jax.Array]) -> dict[str, jax.Array]:
        if seen is not None:
            seen.append(x)
        return {"sum": x.astype(array.dtype) @ array + tree["b"], "same": x}

    return function


X, TREE = np.arange(3, dtype=np.float32), {"b": np.float32(1)}
CONSTANT = np.arange(6, dtype=np.float32).reshape(3, 2)


def test_gives_what_jit_gives() -> None:
    def function(x: jax.Array, tree: dict[str, jax.Array]) -> Any:
        found = closing_over(CONSTANT)(x, {"b": tree["b"][None]})
        return jax.tree.map(jnp.sin, found)

    tree = {"b": jnp.float32(1)}
    ours, theirs = Compiled(function)(jnp.asarray(X), tree), jax.jit(function)(jnp.asarray(X), tree)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def lowered(constant: np.ndarray) -> tuple[str, list[Any]]:
    function = closing_over(constant)
    tree = {"b": jnp.ones(1)}
    run, closed_over = Compiled(function)._hoisted((jnp.asarray(X), tree))
    return run.lower(closed_over, jnp.asarray(X), tree).as_text(), closed_over


def test_closed_over_arrays_are_arguments() -> None:
    """Two functions that differ in what they close over are one program."""
    (text, closed_over), (other, others) = lowered(CONSTANT), lowered(CONSTANT + 7.125)
    assert text == other
    assert "7.125" not in other
    np.testing.assert_array_equal(np.asarray(closed_over[0]), CONSTANT)
    np.testing.assert_array_equal(np.asarray(others[0]), CONSTANT + 7.125)


def test_each_function_uses_its_own() -> None:
    tree = {"b": jnp.zeros(1)}
    for shift in (0.0, 3.0):
        found = Compiled(closing_over(CONSTANT + np.float32(shift)))(jnp.asarray(X), tree)
        np.testing.assert_allclose(np.asarray(found["sum"]), X @ (CONSTANT + shift))


def test_traced_once_for_each_kind_of_arguments() -> None:
    seen: list[Any] = []
    run = Compiled(closing_over(CONSTANT, seen))
    tree = {"b": jnp.zeros(1)}
    for _ in range(3):
        run(jnp.asarray(X), tree)
    assert len(seen) == 1
    run(jnp.ones((4, 3)), {"b": jnp.zeros((1, 1))})
    assert len(seen) == 2
    run(jnp.asarray(X + 1), tree)
    assert len(seen) == 2
    run(jnp.asarray(X).astype(jnp.bfloat16), tree)
    assert len(seen) == 3


def test_the_first_argument_is_donated_on_request_only() -> None:
    for donate in (False, True):
        run = Compiled(lambda state, x: jax.tree.map(lambda s: s + x, state), donate=donate)
        state, x = {"a": jnp.zeros(3)}, jnp.ones(3)
        found = run(state, x)
        np.testing.assert_array_equal(np.asarray(found["a"]), np.ones(3))
        assert state["a"].is_deleted() is donate
        assert not x.is_deleted()


def test_what_is_closed_over_outlives_donation() -> None:
    array = jnp.ones(3)
    run = Compiled(lambda state: state + array, donate=True)
    state = jnp.zeros(3)
    for _ in range(3):
        state = run(state)
    np.testing.assert_array_equal(np.asarray(state), np.full(3, 3.0))
    assert not array.is_deleted()


@pytest.mark.parametrize("empty", [(), {}, None])
def test_results_may_be_empty(empty: Any) -> None:
    assert Compiled(lambda x: empty)(jnp.ones(2)) == empty


def test_closed_over_arrays_are_moved_to_the_devices_once() -> None:
    everywhere = NamedSharding(Mesh(np.array(jax.devices()[:1]), ("devices",)), PartitionSpec())
    shift = np.arange(3, dtype=np.float32)
    compiled = Compiled(lambda x: x + shift, sharding=everywhere)
    x = jax.device_put(X, everywhere)
    first = compiled(x)
    with jax.transfer_guard("disallow"):
        second = compiled(x)
    np.testing.assert_array_equal(np.asarray(first), X + shift)
    np.testing.assert_array_equal(np.asarray(second), X + shift)


@pytest.fixture
def x86(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An x86 processor, and nothing asked of XLA in the environment."""
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(compiled, "compiler_options", cache(compiler_options.__wrapped__))
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    return monkeypatch


def test_xla_takes_the_options(x86: pytest.MonkeyPatch) -> None:
    assert compiled.compiler_options() == compiled.FOR_X86


def test_the_environment_has_precedence(x86: pytest.MonkeyPatch) -> None:
    x86.setenv("XLA_FLAGS", "--xla_cpu_prefer_vector_width=128")
    assert compiled.compiler_options() == {}


def test_no_options_where_they_mean_nothing(x86: pytest.MonkeyPatch) -> None:
    x86.setattr(compiled, "FOR_X86", {"xla_of_another_time": 1})
    assert compiled.compiler_options() == {}
    compiled.compiler_options.cache_clear()
    x86.setattr("platform.machine", lambda: "arm64")
    assert compiled.compiler_options() == {}
    compiled.compiler_options.cache_clear()
    x86.setattr(jax, "default_backend", lambda: "gpu")
    assert compiled.compiler_options() == {}


def test_may_be_called_inside_of_a_trace() -> None:
    shift = jnp.arange(3.0)
    run = Compiled(lambda x: x + shift)
    np.testing.assert_array_equal(jax.jit(lambda x: run(x) * 2)(jnp.ones(3)), 2 + 2 * shift)
    np.testing.assert_array_equal(run(jnp.ones(3)), 1 + shift)
