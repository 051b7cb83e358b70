from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from rdpjax.dpsgd import feed, sampling
from rdpjax.dpsgd.execution import Execution
from rdpjax.dpsgd.feed import HOST_ROOM, make_fed_chunk, room
from rdpjax.dpsgd.keys import Roots, step_keys
from rdpjax.dpsgd.loop import chunk_keys, make_chunk
from rdpjax.dpsgd.plan import Plan

ROOTS = Roots.make(11)
RECORDS = 30
TABLE = {
    "x": np.random.default_rng(0).normal(size=(RECORDS, 3)).astype(np.float32),
    "y": np.random.default_rng(1).integers(0, 2, RECORDS).astype(np.uint8),
}
HERE = Execution(microbatch=4)


def loss(params: Any, record: dict[str, jax.Array], key: jax.Array) -> jax.Array:
    """A logistic regression with noise of its own, so that a record's key matters."""
    z = params["w"] @ record["x"] + params["b"] + 0.1 * jax.random.normal(key)
    return jax.nn.softplus(jnp.where(record["y"] == 1, -z, z))


def objective(state: Any) -> Any:
    return state["params"], loss


def update(state: Any, gradient: Any, key: jax.Array) -> Any:
    moved = jax.tree.map(lambda p, g: p - 0.1 * g, state["params"], gradient)
    return {"params": moved, "taken": state["taken"] + 1}, {"key": key}


def plan(rate: float = 0.4) -> Plan:
    return Plan.at_rate(rate, noise_multiplier=1.0, clip_norm=0.5, steps=9)


def begin() -> Any:
    params = {"w": jnp.linspace(-1, 1, 3), "b": jnp.float32(0.5)}
    return {"params": params, "taken": jnp.int32(0)}


def run(chunk: Any, first: int = 0, steps: int = 3, table: Any = TABLE, state: Any = None) -> Any:
    keys = step_keys(ROOTS, "toy", first, steps)
    return chunk(state or begin(), table, keys, jnp.float32(12.0))


def both(rate: float, execution: Execution = HERE) -> tuple[Any, Any]:
    """What three steps give, on the device and fed."""
    held = run(make_chunk(plan(rate), execution, objective, update))
    return held, run(make_fed_chunk(plan(rate), execution, objective, update))


def same(a: Any, b: Any) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def near(a: Any, b: Any) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "execution",
    [HERE, Execution(microbatch=64), Execution("vmap", microbatch=7)],
    ids=["microbatch=4", "microbatch=64", "vmap"],
)
def test_records_on_the_host_give_the_same_steps(execution: Execution):
    (held, metrics), (fed, others) = both(0.4, execution)
    near((held, metrics), (fed, others))
    same((metrics["drawn"], metrics["key"]), (others["drawn"], others["key"]))
    assert metrics.keys() == others.keys() and int(fed["taken"]) == 3


@pytest.mark.parametrize("rate", [2**-32, 0.4, 1.0], ids=["empty", "some", "all"])
def test_whole_numbers_are_the_same_bit_for_bit(rate: float):
    """Also where one record more or less decides which of the two a data set is given."""
    execution = Execution("lattice", microbatch=4)
    discrete = dataclasses.replace(plan(rate), discrete=True)
    shapes = {"w": jnp.zeros(3), "b": jnp.float32(0)}
    keys = chunk_keys(discrete, ROOTS, "toy", 0, 3, shapes)

    def told(state: Any, gradient: Any, key: jax.Array) -> Any:
        state, metrics = update(state, gradient, key)
        return state, metrics | {"gradient": ravel_pytree(gradient)[0]}

    for count in (RECORDS - 1, RECORDS):
        table = {name: column[:count] for name, column in TABLE.items()}
        found = [
            make(discrete, execution, objective, told)(begin(), table, keys, jnp.float32(12.0))
            for make in (make_chunk, make_fed_chunk)
        ]
        (held, metrics), (fed, others) = found
        same((metrics["gradient"], metrics["drawn"]), (others["gradient"], others["drawn"]))
        same(held, fed)


@pytest.mark.parametrize("rate", [2**-32, 0.4, 1.0], ids=["empty", "some", "all"])
def test_a_draw_of_any_size(rate: float):
    (held, metrics), (fed, others) = both(rate)
    near(held, fed)
    same(metrics["drawn"], others["drawn"])
    if rate != 0.4:
        assert set(np.asarray(others["drawn"]).tolist()) == {RECORDS if rate == 1 else 0}


def test_a_draw_of_several_rounds(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sampling, "MOST", 5)
    # A function of its own: one that was traced before the patch would be remembered.
    fresh = jax.jit(lambda *args: sampling.draw(*args), static_argnums=(1, 2))
    monkeypatch.setattr(feed, "_draw", fresh)
    (held, metrics), (fed, others) = both(0.7)
    near(held, fed)
    same(metrics["drawn"], others["drawn"])
    assert (np.asarray(others["drawn"]) > 5).all()


def test_chunks_continue_and_a_mapped_file_is_like_memory(tmp_path: Path):
    chunk = make_fed_chunk(plan(), HERE, objective, update)
    for name, column in TABLE.items():
        np.save(tmp_path / name, column)
    mapped = {name: np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in TABLE}
    whole, metrics = run(chunk)
    half, first = run(chunk, 0, 1, mapped)
    rest, second = run(chunk, 1, 2, mapped, half)
    same(whole, rest)
    same(metrics, jax.tree.map(lambda a, b: np.concatenate([a, b]), first, second))


def test_it_works_one_round_ahead_and_no_more(monkeypatch: pytest.MonkeyPatch):
    taken, gathered, ahead = 0, 0, []
    gather, on_all = feed._gathered, feed.on_all

    def counted_gather(*args: Any) -> Any:
        nonlocal gathered
        gathered += 1
        return gather(*args)

    def counted_steps(execution: Any, function: Any, **settings: Any) -> Any:
        step = on_all(execution, function, **settings)

        def call(*args: Any) -> Any:
            nonlocal taken
            ahead.append(gathered - taken)
            taken += 1
            return step(*args)

        return call

    monkeypatch.setattr(feed, "_gathered", counted_gather)
    monkeypatch.setattr(feed, "on_all", counted_steps)
    run(make_fed_chunk(plan(), HERE, objective, update), steps=6)
    assert taken == gathered == 6 and max(ahead) <= 2


@pytest.mark.parametrize("problem", [OSError("gone"), KeyboardInterrupt()], ids=["disk", "stop"])
def test_it_stops_at_once_and_leaves_no_thread(
    problem: BaseException, monkeypatch: pytest.MonkeyPatch
):
    chunk = make_fed_chunk(plan(), HERE, objective, update)
    whole = run(chunk)
    before, gather, calls = threading.active_count(), feed._gathered, 0

    def failing(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise problem
        return gather(*args)

    with monkeypatch.context() as patch:
        patch.setattr(feed, "_gathered", failing)
        with pytest.raises(type(problem)):
            run(chunk)
    assert threading.active_count() == before
    same(run(chunk), whole)


def test_what_a_device_has_room_for():
    gpu = Mock(jax.Device, platform="gpu", memory_stats=lambda: {"bytes_limit": 80 * 2**30})
    silent = Mock(jax.Device, platform="tpu", memory_stats=lambda: None)
    assert room(gpu) == 20 * 2**30
    assert room(silent) == room(jax.devices("cpu")[0]) == HOST_ROOM
    assert room() > 0
