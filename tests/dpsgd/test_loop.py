from __future__ import annotations

import math
from functools import cache
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from rdpjax.dpsgd import loop
from rdpjax.dpsgd.clipping import ClippedSum
from rdpjax.dpsgd.execution import Execution
from rdpjax.dpsgd.keys import Roots, StepKeys, as_key, step_keys
from rdpjax.dpsgd.loop import Seen, drawn_sum, make_chunk, metrics_of, private_gradient
from rdpjax.dpsgd.noise import add_gaussian
from rdpjax.dpsgd.plan import Plan
from rdpjax.dpsgd.sampling import Draw, draw

PLATFORMS = ("cpu", "cuda", "tpu")
ROOTS = Roots.make(11)
TABLE = {
    "x": jnp.asarray(np.random.default_rng(0).normal(size=(30, 3)), jnp.float32),
    "y": jnp.asarray(np.random.default_rng(1).integers(0, 2, 30), jnp.uint8),
}


def loss(params: Any, record: dict[str, jax.Array], key: jax.Array) -> jax.Array:
    """A logistic regression with noise of its own, so that a record's key matters."""
    z = params["w"] @ record["x"] + params["b"] + 0.1 * jax.random.normal(key)
    return jax.nn.softplus(jnp.where(record["y"] == 1, -z, z))


def start() -> dict[str, jax.Array]:
    return {"w": jnp.linspace(-1, 1, 3), "b": jnp.float32(0.5)}


def plan(rate: float = 0.4, noise: float = 1.0) -> Plan:
    return Plan.at_rate(rate, noise_multiplier=noise, clip_norm=0.5, steps=9)


HERE = Execution(microbatch=4)


def update(state: Any, gradient: Any, key: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
    moved = jax.tree.map(lambda p, g: p - 0.1 * g, state["params"], gradient)
    steps = {"params": moved, "taken": state["taken"] + 1}
    return steps, {"gradient": ravel_pytree(gradient)[0], "key": key}


def new_chunk(plan: Plan, execution: Execution = HERE) -> Any:
    return make_chunk(plan, execution, lambda state: (state["params"], loss), update)


compiled = cache(new_chunk)


def run(
    plan: Plan, first: int, steps: int, state: Any = None, table: Any = TABLE, make: Any = compiled
) -> Any:
    chunk = make(plan)
    state = state or {"params": start(), "taken": jnp.int32(0)}
    return chunk(state, table, step_keys(ROOTS, "toy", first, steps), jnp.float32(12.0))


def keys_of(step: int) -> StepKeys:
    return jax.tree.map(lambda column: column[0], step_keys(ROOTS, "toy", step, 1))


def same(a: Any, b: Any) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def near(a: Any, b: Any) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5)


@pytest.mark.parametrize(
    "execution",
    [
        pytest.param(Execution(microbatch=1), marks=pytest.mark.slow),
        Execution(microbatch=64),
        Execution("vmap", microbatch=7),
    ],
    ids=["microbatch=1", "microbatch=64", "vmap"],
)
def test_the_execution_changes_nothing_but_rounding(execution: Execution):
    state, metrics = run(plan(), 0, 3)
    other, others = run(plan(), 0, 3, make=lambda plan: new_chunk(plan, execution))
    near(state["params"], other["params"])
    np.testing.assert_array_equal(metrics["drawn"], others["drawn"])
    near(metrics["loss"], others["loss"])


def test_a_chunk_continues_where_the_last_one_ended_bit_for_bit():
    whole, metrics = run(plan(), 0, 3)
    half, first = run(plan(), 0, 1)
    both, second = run(plan(), 1, 2, half)
    same(whole, both)
    same(metrics, jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second))
    assert int(both["taken"]) == 3


def test_a_chunk_is_replayed_bit_for_bit():
    same(run(plan(), 0, 3), run(plan(), 0, 3))


@pytest.mark.parametrize("size", [1, 4, 30])
def test_every_record_of_a_step_has_a_key_of_its_own(size: int):
    """Used once: keys of a round are sliced in a loop, where jax's checker cannot follow them."""

    def nothing(words: jax.Array) -> ClippedSum:
        return ClippedSum(words, jnp.float32(0), jnp.float32(0))

    class Keyed(Execution):
        def zero_sum(self, params: Any) -> ClippedSum:
            return nothing(jnp.zeros((30, 2), jnp.int32))

        def clipped_sum(
            self, loss: Any, params: Any, examples: Any, valid: Any, keys: Any, clip: Any
        ) -> ClippedSum:
            words = jax.lax.bitcast_convert_type(jax.random.key_data(keys), jnp.int32)
            used = jnp.where(valid[:, None], words, 0)
            return nothing(jnp.zeros((30, 2), jnp.int32).at[examples["i"]].add(used))

    records, own = {"i": jnp.arange(30)}, keys_of(0)
    part, _ = jax.jit(
        lambda: drawn_sum(plan(1.0), Keyed(microbatch=size), loss, {}, records, own)
    )()
    expected = jax.vmap(lambda i: jax.random.fold_in(as_key(own.loss), i))(jnp.arange(30))
    words = np.asarray(part.gradient).view(np.uint32)
    np.testing.assert_array_equal(words, jax.random.key_data(expected))
    assert len({tuple(row) for row in words.tolist()}) == 30


@pytest.mark.parametrize(("size", "devices"), [(1, 1), (2, 3), (5, 1), (5, 4), (8, 2)])
def test_every_drawn_record_counts_once_over_all_devices(
    size: int, devices: int, monkeypatch: pytest.MonkeyPatch
):
    """Whatever the draw, and of whatever the last microbatch is then filled with."""

    class Summing(Execution):
        def clipped_sum(self, loss: Any, params: Any, examples: Any, valid: Any, *rest: Any) -> Any:
            kept = jnp.where(valid, examples["x"], 0)
            return ClippedSum(kept.sum(), jnp.float32(len(valid)), valid.sum(dtype=jnp.float32))

    @jax.jit
    def summed(drawn: Draw, mine: jax.Array) -> ClippedSum:
        monkeypatch.setattr(loop, "place", lambda execution: (mine, devices))
        here, params, step = Summing(microbatch=size), jnp.float32(0), keys_of(0)
        zero = here.zero_sum(params)
        return loop.add_drawn(zero, plan(), here, loss, params, drawn, fetch, 30, step)

    def fetch(rows: jax.Array, first: jax.Array) -> Any:
        return jax.tree.map(lambda leaf: leaf.at[rows].get(mode="fill", fill_value=0), table)

    table = {"x": 2.0 ** jnp.arange(30.0)}  # sums tell which records they are of
    half = (size + 1) // 2
    for count in range(18):
        rows = np.where(np.arange(20) < count, np.arange(20) + 3, 30)
        drawn = Draw(jnp.asarray(rows, jnp.int32), jnp.int32(count), jnp.uint32(30))
        parts = [summed(drawn, jnp.int32(mine)) for mine in range(devices)]
        assert sum(float(part.gradient) for part in parts) == sum(2.0 ** (rows[:count]))
        assert sum(int(part.clipped) for part in parts) == count
        for part in parts:  # what was computed for nothing
            assert 0 <= part.loss - part.clipped <= max(size - half - 1, half - 1)


def test_an_empty_draw_is_a_step_that_is_taken_and_counted():
    state, metrics = run(plan(rate=2**-32), 0, 3)
    assert (np.asarray(metrics["drawn"]) == 0).all()
    assert int(state["taken"]) == 3
    assert (state["params"]["w"] != start()["w"]).all()
    for step in range(3):
        pure = add_gaussian(keys_of(step).noise, jax.tree.map(jnp.zeros_like, start()), 0.5)
        expected = ravel_pytree(pure)[0] / 12.0
        np.testing.assert_allclose(metrics["gradient"][step], expected, rtol=1e-6)
    for name in ("loss", "clipped"):
        assert (np.asarray(metrics[name]) == 0).all()


def test_the_gradient_is_the_noisy_sum_over_the_divisor():
    @jax.jit
    def step(divisor: jax.Array) -> Any:
        return private_gradient(plan(), HERE, part.gradient, keys_of(0), divisor)

    part, _ = jax.jit(lambda: drawn_sum(plan(), HERE, loss, start(), TABLE, keys_of(0)))()
    gradient = step(12.0)
    expected = add_gaussian(keys_of(0).noise, part.gradient, 0.5)
    near(gradient, jax.tree.map(lambda leaf: leaf / 12.0, expected))
    # Half the divisor, twice the gradient, whatever was drawn.
    near(step(6.0), jax.tree.map(lambda leaf: leaf * 2, gradient))


def test_metrics_are_of_the_draw():
    seen = Seen(jnp.array([6.0, 0.0]), jnp.array([1.0, 0.0]), jnp.array([4, 0]))
    found = metrics_of(HERE, seen)
    assert {name: values.tolist() for name, values in found.items()} == {
        "loss": [1.5, 0.0],
        "clipped": [0.25, 0.0],
        "drawn": [4, 0],
    }


def test_neighbouring_draws_differ_by_one_contribution(monkeypatch: pytest.MonkeyPatch):
    """Record by record: at most C if it is drawn, nothing at all if it is not."""
    drawn = drawn_mask()
    assert 0 < drawn.sum() < 30
    with_or_without = jax.jit(
        lambda mask: ravel_pytree(masked_sum(monkeypatch, mask, TABLE).gradient)[0]
    )
    whole = np.asarray(with_or_without(drawn), np.float64)
    for i in range(30):
        without = drawn.copy()
        without[i] = False
        distance = np.linalg.norm(whole - np.asarray(with_or_without(without)))
        assert 0 < distance <= 0.5 if drawn[i] else distance == 0


def masked_sum(patch: pytest.MonkeyPatch, mask: jax.Array, table: Any) -> Any:
    with patch.context() as inner:
        rows = jnp.nonzero(mask, size=30, fill_value=30)[0].astype(jnp.int32)
        only = Draw(rows, mask.sum(dtype=jnp.int32), jnp.uint32(30))
        inner.setattr(loop, "draw", lambda *_: only)
        return drawn_sum(plan(), HERE, loss, start(), table, keys_of(0))[0]


def drawn_mask() -> np.ndarray:
    """Who is drawn in the first step."""
    drawn = draw(keys_of(0).sampling, 30, plan().threshold)
    assert int(drawn.following) == 30
    return np.isin(np.arange(30), drawn.indices)


def test_records_that_are_not_drawn_are_not_seen():
    """Whatever stands in them, NaN included: bit for bit."""
    drawn = drawn_mask()
    summed = jax.jit(lambda table: drawn_sum(plan(), HERE, loss, start(), table, keys_of(0)))
    spoilt = {"x": jnp.where(drawn[:, None], TABLE["x"], np.nan), "y": TABLE["y"]}
    same(summed(TABLE), summed(spoilt))


def test_no_records_give_a_zero_sum():
    empty = jax.tree.map(lambda leaf: leaf[:0], TABLE)
    part, count = drawn_sum(plan(), HERE, loss, start(), empty, keys_of(0))
    assert int(count) == 0
    assert not ravel_pytree(part)[0].any()


def test_without_privacy_nothing_is_clipped_and_no_noise_is_added():
    free = Plan.at_rate(1.0, noise_multiplier=0, clip_norm=math.inf, steps=1)
    large = {"x": TABLE["x"] * 1e3, "y": TABLE["y"]}
    step = keys_of(0)

    @jax.jit
    def once() -> Any:
        part, _ = drawn_sum(free, Execution(microbatch=7), loss, start(), large, step)
        return private_gradient(free, HERE, part.gradient, step, 30.0), part.clipped

    gradient, clipped = once()
    row_keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.wrap_key_data(step.loss), i))(
        jnp.arange(30)
    )

    def mean(params: Any) -> jax.Array:
        return jax.vmap(loss, in_axes=(None, 0, 0))(params, large, row_keys).mean()

    exact = jax.jit(jax.grad(mean))(start())
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(exact), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-3)
    assert clipped == 0


def test_a_chunk_is_traced_once_for_each_number_of_steps():
    traces = 0

    def objective(state: Any) -> Any:
        nonlocal traces
        traces += 1
        return state["params"], loss

    chunk = make_chunk(plan(), HERE, objective, update)
    state = {"params": start(), "taken": jnp.int32(0)}
    seen = []
    for first, steps in ((0, 2), (2, 2), (4, 2), (6, 1), (7, 1), (8, 2)):
        taken = step_keys(ROOTS, "toy", first, steps)
        state, _ = chunk(state, TABLE, taken, jnp.float32(12.0 + first))
        seen.append(traces)
    assert seen[0] == seen[2] and seen[3] == seen[5]
    assert seen[5] == 2 * seen[0]


def test_the_state_is_donated():
    state = {"params": start(), "taken": jnp.int32(0)}
    run(plan(), 0, 3, state)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))


def test_update_hears_of_records_through_the_noisy_gradient_alone(monkeypatch: pytest.MonkeyPatch):
    """With the sum held, other records give the same state bit for bit."""
    true = loop.drawn_sum

    def held(*args: Any) -> Any:
        part, count = true(*args)
        return part._replace(gradient=jax.tree.map(jnp.ones_like, part.gradient)), count

    monkeypatch.setattr(loop, "drawn_sum", held)
    other = {"x": TABLE["x"][::-1] * 5, "y": 1 - TABLE["y"]}
    held_chunk = cache(new_chunk)
    state, metrics = run(plan(), 0, 3, make=held_chunk)
    swapped, others = run(plan(), 0, 3, table=other, make=held_chunk)
    same(state, swapped)
    assert (np.asarray(metrics["loss"]) != np.asarray(others["loss"])).all()


def test_update_gets_a_key_of_its_own():
    taken = step_keys(ROOTS, "toy", 0, 3)
    np.testing.assert_array_equal(run(plan(), 0, 3)[1]["key"], taken.update)


def test_a_chunk_lowers_for_every_platform():
    chunk = compiled(plan())
    arguments = (
        {"params": start(), "taken": jnp.int32(0)},
        TABLE,
        step_keys(ROOTS, "toy", 0, 2),
        jnp.float32(1),
    )
    text = jax.export.export(jax.jit(chunk), platforms=PLATFORMS)(*arguments).mlir_module()
    assert "callback" not in text
    assert "f64" not in text
    assert "custom_call" not in text  # of one platform only, each of them
