"""The properties that the claim rests on.

Each is a plain function that raises `AssertionError` where it does not hold. The engine is always
reached through its modules, so that what is patched is what runs.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from rdpjax.dpsgd import clipping, keys, loop, sampling
from rdpjax.dpsgd.execution import Execution
from rdpjax.dpsgd.plan import Plan

ROOTS = keys.Roots.make(7)
PARAMS = {"w": jnp.zeros(200), "b": jnp.zeros(20)}
CLIP = 2.0


def toy_loss(params: Any, record: jax.Array, key: jax.Array) -> jax.Array:
    """Its gradient is the record, and 0.3 beside it, so that a row of zeros is noticed too."""
    w, b = params["w"], params["b"]
    return (w[:2] * record[:2]).sum() + b[0] * record[2] + 0.3 * b[1]


EXECUTION = Execution(clipping="ghost", microbatch=4)


def plan(rate: float, noise: float = 1.5) -> Plan:
    return Plan.at_rate(rate, noise_multiplier=noise, clip_norm=CLIP, steps=100)


def records(count: int, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(3).normal(size=(count, 3)) * scale).astype(np.float32)


def oracle(rows: np.ndarray) -> np.ndarray:
    """Clipped gradients of `toy_loss` in float64, (rows, 220), `b` before `w`."""
    rows = rows.astype(np.float64)
    gradients = np.zeros((len(rows), 220))
    gradients[:, 0], gradients[:, 1], gradients[:, 20:22] = rows[:, 2], 0.3, rows[:, :2]
    norms = np.linalg.norm(gradients, axis=1, keepdims=True)
    return gradients * np.minimum(1, CLIP * (1 - clipping.MARGIN) / norms)


def noisy_gradients(plan: Plan, table: np.ndarray, steps: int, divisor: float = 1.0) -> np.ndarray:
    """What a stage would be given in each step, (steps, 220)."""

    def update(state: Any, gradient: Any, key: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
        return state, {"gradient": ravel_pytree(gradient)[0]}

    chunk = loop.make_chunk(plan, EXECUTION, lambda state: (state, toy_loss), update)
    state = jax.tree.map(jnp.copy, PARAMS)
    taken = keys.step_keys(ROOTS, "toy", 0, steps)
    _, metrics = chunk(state, jnp.asarray(table), taken, jnp.float32(divisor))
    return np.asarray(metrics["gradient"])


def drawn_sums(plan: Plan, tables: np.ndarray, steps: int) -> np.ndarray:
    """Sums before noise, (steps, 220), of one table or of one for each step."""
    tables = np.broadcast_to(tables, (steps, *tables.shape[-2:]))

    @jax.jit
    @jax.vmap
    def each(step_keys: keys.StepKeys, table: jax.Array) -> jax.Array:
        part, _ = loop.drawn_sum(plan, EXECUTION, toy_loss, PARAMS, table, step_keys)
        return ravel_pytree(part.gradient)[0]

    return np.asarray(each(keys.step_keys(ROOTS, "toy", 0, steps), tables))


def masks(draw: Any, plan: Plan, count: int, steps: int) -> np.ndarray:
    """Who is drawn, (steps, count)."""
    taken = keys.step_keys(ROOTS, "toy", 0, steps).sampling
    each = jax.jit(jax.vmap(lambda key, first, i: draw(key, count, plan.threshold, first, i)))
    found, first = np.zeros((steps, count + 1), bool), jnp.zeros(steps, jnp.uint32)
    for i in range(count):
        rows = np.asarray((drawn := each(taken, first, jnp.full(steps, i))).indices)
        alive = np.asarray(first) < count
        found[np.arange(steps)[alive, None], rows[alive]] = True
        first = jnp.where(alive, drawn.following, first)
        if (np.asarray(first) == count).all():
            break
    return found[:, :count]


def noise_has_the_planned_deviation() -> None:
    drawn = noisy_gradients(plan(2**-32), records(4), steps=30, divisor=4.0) * 4.0
    for leaf in (drawn[:, :20], drawn[:, 20:]):
        band = 5 / np.sqrt(2 * leaf.size)
        assert abs(leaf.std() / (1.5 * CLIP) - 1) < band
        assert abs(leaf.mean()) < 5 * 1.5 * CLIP / np.sqrt(leaf.size)


def noise_is_fresh_in_every_step_and_leaf() -> None:
    drawn = noisy_gradients(plan(2**-32), records(4), steps=30)
    between_steps = np.corrcoef(drawn) - np.eye(30)
    assert np.abs(between_steps).max() < 5.5 / np.sqrt(drawn.shape[1])
    b, w = drawn[:, :20], drawn[:, 20:40]
    assert abs(np.corrcoef(b.ravel(), w.ravel())[0, 1]) < 5 / np.sqrt(b.size)


def noise_has_the_resolution_of_float32() -> None:
    drawn = noisy_gradients(plan(2**-32), records(4), steps=30)
    assert drawn.dtype == np.float32
    assert len(np.unique(drawn)) > 0.99 * drawn.size


def an_empty_draw_is_a_step_of_pure_noise() -> None:
    """Noise as with no records to draw from, and no step is skipped."""
    drawn = noisy_gradients(plan(2**-32), records(3), steps=3)
    other = noisy_gradients(plan(2**-32), records(11, scale=9), steps=3)
    np.testing.assert_array_equal(drawn, other)
    assert (drawn != 0).all()


def one_record_moves_the_sum_by_at_most_the_clip_norm() -> None:
    rows = np.concatenate([records(6, 0.3), records(6, 9), records(6, 1e10)])
    alone = drawn_sums(plan(1.0), rows[:, None], len(rows))
    assert (np.linalg.norm(alone.astype(np.float64), axis=1) <= CLIP).all()
    np.testing.assert_allclose(alone, oracle(rows), rtol=1e-5, atol=1e-6)


def the_sum_is_over_all_that_are_drawn_and_no_others() -> None:
    """Equal to a loop over the drawn records in float64."""
    table, each = records(23, 2.0), plan(0.4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "MOST", 6)  # several rounds a step
        expected = masks(sampling.draw, each, 23, 4) @ oracle(table)
        np.testing.assert_allclose(drawn_sums(each, table, 4), expected, rtol=1e-5, atol=1e-5)


def a_record_without_a_finite_gradient_counts_nothing() -> None:
    table = records(6)
    broken = table.copy()
    broken[1], broken[3, 0], broken[4, 2] = np.nan, np.inf, 3e38
    expected = oracle(table[[0, 2, 5]]).sum(axis=0)
    np.testing.assert_allclose(drawn_sums(plan(1.0), broken, 1)[0], expected, rtol=1e-5, atol=1e-6)


def padding_changes_nothing_bit_for_bit() -> None:
    def curved(params: Any, record: jax.Array, key: jax.Array) -> jax.Array:
        return jnp.tanh(toy_loss(params, record, key) + params["w"] @ jnp.log1p(params["w"] ** 2))

    @jax.jit
    def summed(rows: jax.Array) -> clipping.ClippedSum:
        return EXECUTION.clipped_sum(curved, params, rows, valid, row_keys, CLIP)

    def result(fill: float) -> list[np.ndarray]:
        rows = records(8)
        rows[~valid] = fill
        return [np.asarray(leaf) for leaf in jax.tree.leaves(summed(rows))]

    params = {"w": jnp.linspace(0.1, 1, 200), "b": jnp.ones(20)}
    valid = np.array([True, False, True, True, False, True, True, False])
    row_keys = jax.random.split(jax.random.key(0), 8)
    reference = result(0.0)
    assert all(np.isfinite(leaf).all() for leaf in reference)
    for fill in (np.nan, np.inf, 1e30, 5.0):
        for value, expected in zip(result(fill), reference, strict=True):
            np.testing.assert_array_equal(value, expected)


def the_divisor_is_the_given_number_whatever_is_drawn() -> None:
    table, steady = records(23), plan(0.4, noise=1e-9)
    sums = drawn_sums(steady, table, 4)
    assert len({tuple(row.round(3)) for row in sums}) == 4
    given = noisy_gradients(steady, table, 4, divisor=7.0)
    np.testing.assert_allclose(given * 7.0, sums, rtol=1e-5, atol=1e-5)


def inclusion_is_bernoulli_and_independent() -> None:
    steps, count, rate = 600, 40, 0.3
    drawn = masks(loop.draw, plan(rate), count, steps)
    variance = rate * (1 - rate)
    chi_square = ((drawn.sum(0) - steps * rate) ** 2).sum() / (steps * variance)
    assert abs(chi_square - count) < 6 * np.sqrt(2 * count)
    # Batch sizes are Binomial(records, q): right mean and right variance.
    sizes = drawn.sum(1)
    assert abs(sizes.mean() - count * rate) < 5 * np.sqrt(count * variance / steps)
    assert abs(sizes.var() / (count * variance) - 1) < 5 * np.sqrt(2 / steps)
    # No pair of records goes together, and no pair of steps.
    between_records = np.corrcoef(drawn.T.astype(float)) - np.eye(count)
    assert np.abs(between_records).max() < 5.5 / np.sqrt(steps)
    following = np.corrcoef(drawn[1:].ravel(), drawn[:-1].ravel())[0, 1]
    assert abs(following) < 5 / np.sqrt(drawn.size)


def no_two_draws_share_a_key() -> None:
    """Over more steps than any shipped plan has."""
    steps = 2000
    found = [
        row.tobytes()
        for stage in ("vae", "gan", "labeler")
        for column in keys.step_keys(ROOTS, stage, 0, steps)
        for row in np.asarray(column)
    ]
    assert len(found) == 3 * 4 * steps == len(set(found))
