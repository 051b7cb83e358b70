"""Whole-number gradients: never too long, summed exactly, under noise of exactly its law."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from rdpjax.dpsgd import lattice
from rdpjax.dpsgd.clipping import clipped_gradients
from rdpjax.dpsgd.execution import Execution
from rdpjax.dpsgd.feed import make_fed_chunk
from rdpjax.dpsgd.keys import Roots
from rdpjax.dpsgd.lattice import (
    UNITS,
    lattice_noise,
    lattice_sum,
    rounded,
    surely_short,
    too_long,
)
from rdpjax.dpsgd.loop import chunk_keys, drawn_sum, make_chunk
from rdpjax.dpsgd.plan import Plan

ROOTS = Roots.make(3)
PARAMS = {"a": jnp.linspace(-1, 1, 40).reshape(8, 5), "b": jnp.zeros(5)}
CLIP = 0.7


def loss(params: Any, record: jax.Array, key: jax.Array) -> jax.Array:
    return jnp.square(record @ params["a"] + params["b"] + 0.1 * jax.random.normal(key)).sum()


def records(count: int, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(count).normal(size=(count, 8)) * scale).astype(np.float32)


def plan(rate: float = 0.5, noise: float = 1.0) -> Plan:
    return Plan.at_rate(rate, noise_multiplier=noise, clip_norm=CLIP, steps=9, discrete=True)


def chunk(plan: Plan, microbatch: int = 4, make: Any = make_chunk) -> Any:
    def update(state: Any, gradient: Any, key: jax.Array) -> Any:
        moved = jax.tree.map(lambda p, g: p - 0.01 * g, state, gradient)
        return moved, {"gradient": ravel_pytree(gradient)[0]}

    execution = Execution(clipping="lattice", microbatch=microbatch)
    return make(plan, execution, lambda state: (state, loss), update)


def taken(plan: Plan, table: Any, microbatch: int = 4, make: Any = make_chunk) -> np.ndarray:
    """Noisy gradients of three steps, with a divisor of 1."""
    keys = chunk_keys(plan, ROOTS, "toy", 0, 3, PARAMS)
    state = jax.tree.map(jnp.copy, PARAMS)
    _, metrics = chunk(plan, microbatch, make)(state, table, keys, jnp.float32(1))
    return np.asarray(metrics["gradient"])


def exact_norms(whole: Any) -> list[int]:
    """Squared norms of rows, in Python's integers."""
    rows = np.concatenate([np.asarray(x).reshape(len(x), -1) for x in jax.tree.leaves(whole)], 1)
    return [sum(int(v) ** 2 for v in row) for row in rows]


def near_the_bound(rng: np.random.Generator, rows: int, numbers: int) -> np.ndarray:
    """Rows of integers whose norms lie within some steps of `UNITS`, on both sides."""
    drawn = rng.normal(size=(rows, numbers))
    target = UNITS + rng.uniform(-2, 2, (rows, 1))
    return np.rint(drawn / np.linalg.norm(drawn, axis=1, keepdims=True) * target).astype(np.int32)


@pytest.mark.parametrize("numbers", [1, 2, 100, 20_000, 70_000])
def test_too_long_is_exact(numbers: int) -> None:
    rows = near_the_bound(np.random.default_rng(0), 12, numbers).clip(-UNITS, UNITS)
    tree = {"a": jnp.asarray(rows[:, : numbers // 2]), "b": jnp.asarray(rows[:, numbers // 2 :])}
    tree = {name: leaf for name, leaf in tree.items() if leaf.size}
    expected = [square > UNITS**2 for square in exact_norms(rows[:, :])]
    assert np.asarray(too_long(tree)).tolist() == expected
    assert not (np.asarray(surely_short(tree)) & np.array(expected)).any()


def test_the_bound_itself_is_not_too_long() -> None:
    edge = jnp.array([[UNITS, 0], [UNITS, 1], [-UNITS, 0], [0, 0], [UNITS, UNITS]], jnp.int32)
    assert too_long([edge]).tolist() == [False, True, False, False, True]
    most = jnp.full((1, 200_000), UNITS, jnp.int32)  # as far beyond the bound as can be
    assert bool(too_long([most])[0]) and not bool(surely_short([most])[0])


@settings(max_examples=20)  # each number of columns is a program of its own
@given(st.integers(1, 300), st.integers(0, 2**31), st.floats(-6, 3))
def test_rounded_rows_are_never_too_long(numbers: int, seed: int, magnitude: float) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(6, numbers)) * 10.0**magnitude
    rows[0] *= UNITS / np.linalg.norm(rows[0])
    rows[1] = np.floor(np.abs(rows[1])) + 0.5  # each number is rounded up
    rows[2] = rows[1] / np.linalg.norm(rows[1]) * UNITS
    found = rounded([jnp.asarray(rows, jnp.float32)])
    assert found[0].dtype == jnp.int32
    assert max(exact_norms(found)) <= UNITS**2
    short = np.linalg.norm(rows.astype(np.float32), axis=1) <= UNITS - math.sqrt(numbers) / 2 - 1
    near = np.abs(np.asarray(found[0]) - rows)[short]
    assert near.size == 0 or near.max() <= 0.5 + 1e-2


def test_what_is_no_number_counts_as_zero_and_what_is_too_large_too() -> None:
    rows = jnp.array([[jnp.nan, 1.0], [jnp.inf, jnp.inf], [1e30, -1e30], [3.2, 4.9]])
    assert rounded([rows])[0].tolist() == [[0, 1], [0, 0], [0, 0], [3, 5]]


def test_the_sum_is_that_of_the_rounded_gradients() -> None:
    table = np.concatenate([records(20), records(5, 1e-3), records(5, 1e12)])
    table[3], table[7, 2] = np.nan, np.inf
    valid = np.ones(30, bool)
    valid[[0, 11]] = False
    keys = jax.random.split(jax.random.key(0), 30)
    each = clipped_gradients(loss, PARAMS, table, valid, keys, CLIP)
    rows = [np.rint(np.asarray(g, np.float64) / CLIP * UNITS) for g in jax.tree.leaves(each)]
    found = lattice_sum(loss, PARAMS, table, valid, keys, CLIP)
    for leaf, row in zip(jax.tree.leaves(found.gradient), rows, strict=True):
        # A number that lies between two steps may round either way in float32.
        assert leaf.dtype == jnp.int32
        assert np.abs(np.asarray(leaf) - row.sum(axis=0)).max() <= 3


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_one_record_moves_the_sum_by_at_most_the_bound(scale: float) -> None:
    table, execution = records(12, scale), Execution(clipping="lattice", microbatch=5)
    keys = jax.tree.map(lambda x: x[0], chunk_keys(plan(1.0), ROOTS, "toy", 0, 1, PARAMS))

    def summed(rows: np.ndarray) -> Any:
        part, _ = drawn_sum(plan(1.0), execution, loss, PARAMS, jnp.asarray(rows), keys)
        return part.gradient

    with_all, without = summed(table), summed(table[:-1])
    moved = jax.tree.map(lambda a, b: (a - b)[None], with_all, without)
    assert 0 < exact_norms(moved)[0] <= UNITS**2


def test_sabotage_without_the_check_a_row_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = jnp.full((1, 40_000), 163.51)  # of norm 32,702; 164 in each place would be 32,800
    assert exact_norms(rounded([rows]))[0] <= UNITS**2
    monkeypatch.setattr(lattice, "surely_short", lambda whole: jnp.array(True))
    assert exact_norms(rounded([rows]))[0] > UNITS**2


def test_what_is_measured_is_what_is_summed() -> None:
    """The compiled program rounds every leaf at one place: nothing is computed a second time."""
    table, keys = records(4), jax.random.split(jax.random.key(0), 4)
    summed = jax.jit(lambda valid: lattice_sum(loss, PARAMS, table, valid, keys, CLIP).gradient)
    text = summed.lower(np.ones(4, bool)).compile().as_text()
    assert text.count("round-nearest-even(") == len(jax.tree.leaves(PARAMS))


def test_neither_microbatches_nor_order_change_a_bit() -> None:
    table = records(40, 3.0)
    reference = taken(plan(1.0), table)
    np.testing.assert_array_equal(taken(plan(1.0), table, microbatch=40), reference)
    fed = taken(plan(1.0), table, make=make_fed_chunk)
    np.testing.assert_array_equal(fed, reference)


def test_the_release_is_whole_steps_and_the_noise_is_once_in_it() -> None:
    steady = plan(2**-32, noise=2.0)
    numbers = ravel_pytree(PARAMS)[0].size
    noise = lattice_noise(ROOTS, "toy", 0, 3, numbers, 2.0)
    assert noise.dtype == np.int32 and len(set(noise.ravel().tolist())) > 100
    found = taken(steady, records(5)) / np.float32(CLIP / UNITS)
    np.testing.assert_allclose(found, noise, rtol=1e-6)


def test_the_noise_has_the_planned_deviation_and_is_fresh() -> None:
    noise = lattice_noise(ROOTS, "toy", 0, 40, 2_000, 1.5) / UNITS
    assert abs(noise.std() / 1.5 - 1) < 5 / math.sqrt(2 * noise.size)
    between = np.corrcoef(noise) - np.eye(40)
    assert np.abs(between).max() < 5.5 / math.sqrt(2_000)
    other = lattice_noise(ROOTS, "other", 0, 1, 2_000, 1.5)[0] / UNITS
    assert abs(np.corrcoef(noise[0], other)[0, 1]) < 5 / math.sqrt(2_000)
    again = lattice_noise(ROOTS, "toy", 7, 2, 2_000, 1.5) / UNITS
    np.testing.assert_array_equal(again, noise[7:9], "a resumed chunk replays it")


def test_sums_wrap_around_as_sums_and_noise_do_together() -> None:
    sums, noise = jnp.array([2**31 - 2, -(2**31)], jnp.int32), jnp.array([5, -7], jnp.int32)
    found = lattice.add_lattice_noise(noise, [sums], UNITS)[0]
    expected = (np.array([2**31 + 3, -(2**31) - 7]) + 2**31) % 2**32 - 2**31
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_event_says_which_noise_it_is() -> None:
    assert plan().event("vae", 0, 9).mechanism == "poisson_discrete_gaussian"
    with pytest.raises(Exception, match="noise multiplier"):
        Plan.at_rate(0.5, noise_multiplier=0.0, clip_norm=math.inf, steps=1, discrete=True)


@pytest.mark.parametrize(("discrete", "way"), [(True, "vmap"), (True, "ghost"), (False, "lattice")])
def test_plan_and_sum_must_agree(discrete: bool, way: Any) -> None:
    unlike = Plan.at_rate(0.5, noise_multiplier=1, clip_norm=CLIP, steps=9, discrete=discrete)
    run = make_chunk(
        unlike, Execution(clipping=way), lambda state: (state, loss), lambda s, g, k: (s, {})
    )
    keys = chunk_keys(unlike, ROOTS, "toy", 0, 1, PARAMS)
    with pytest.raises(ValueError, match="lattice"):
        run(PARAMS, records(5), keys, jnp.float32(1))


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_a_chunk_lowers_for_every_platform(platform: str) -> None:
    keys = chunk_keys(plan(), ROOTS, "toy", 0, 2, PARAMS)
    whole = jax.jit(lambda *args: chunk(plan())(*args))
    text = jax.export.export(whole, platforms=[platform])(
        PARAMS, jnp.asarray(records(20)), keys, jnp.float32(1)
    ).mlir_module()
    assert "f64" not in text and "callback" not in text


@pytest.mark.parametrize(
    ("stage", "size", "totals"),
    [
        ("labeler", 16, [17]),
        pytest.param("labeler", 16, [1, 15, 16, 17, 31], marks=pytest.mark.slow),
        pytest.param("vae", 13, [1, 12, 13, 14, 25], marks=pytest.mark.slow),
    ],
)
def test_what_a_record_adds_does_not_depend_on_its_row(
    stage: str, size: int, totals: list[int]
) -> None:
    """Nor on who else is drawn, nor on how many there are, under a run's compiler settings."""
    script = Path(__file__).with_name("row_positions.py")
    environ = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    command = [sys.executable, str(script), stage, str(size), *map(str, totals)]
    run = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["0"]
