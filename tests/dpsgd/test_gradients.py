"""The forms of per-example gradients against dense arrays in float64."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdpjax.dpsgd.ghost.gradients import (
    GRAM,
    MOST_POSITIONS,
    TINY,
    Formed,
    Gradient,
    Lookups,
    Place,
    Products,
    joined,
)

BATCH = 3
FACTORS = np.array([0.5, 0.0, 1.0], np.float32)
SHAPES = ((1, 1, 3, 2), (2, 1, 4, 3), (1, 3, 5, 4), (2, 16, 2, 3), (1, 20, 2, 2))
"""Groups, positions, inputs, outputs."""
LOOKED_UP = ((1, 4, 2), (5, 4, 3), (16, 30, 2))
"""Positions, rows of the table, outputs."""


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


@jax.jit
def asked(form: Gradient, factors: jax.Array) -> tuple[np.ndarray, ...]:
    with jax.default_matmul_precision("highest"):
        return form.squares(), form.weighted(factors), form.formed().gradient


def dense(form: Gradient) -> np.ndarray:
    """Per-example gradients in float64, (batch, ...)."""
    if isinstance(form, Formed):
        return np.asarray(form.gradient, np.float64)
    if isinstance(form, Products):
        both = (np.asarray(x, np.float64) for x in (form.activations, form.signals))
        return np.einsum("bntp,bntd->bnpd", *both)
    rows, signals = np.asarray(form.rows), np.asarray(form.signals, np.float64)
    gradient = np.zeros((len(rows), form.table, signals.shape[-1]))
    for b, t in np.ndindex(rows.shape):
        if 0 <= rows[b, t] < form.table:
            gradient[b, rows[b, t]] += signals[b, t]
    return gradient


def products(groups: int, positions: int, inputs: int, outputs: int, seed: int = 0) -> Products:
    activations = draw(BATCH, groups, positions, inputs, seed=seed)
    return Products(activations, draw(BATCH, groups, positions, outputs, seed=seed + 100))


def lookups(positions: int, table: int, outputs: int, seed: int = 0) -> Lookups:
    rng = np.random.default_rng([seed, positions, table])
    rows = rng.integers(-2, table + 2, (BATCH, positions)).astype(np.int32)
    return Lookups(rows, draw(BATCH, positions, outputs, seed=seed), table)


FORMS = {
    "formed": Formed(draw(BATCH, 2, 5)),
    "formed, one number": Formed(draw(BATCH)),
    "formed, nothing": Formed(draw(BATCH, 0)),
    **{f"products {shape}": products(*shape) for shape in SHAPES},
    **{f"lookups {shape}": lookups(*shape) for shape in LOOKED_UP},
}


@pytest.mark.parametrize("name", FORMS)
def test_lengths_and_sums_are_those_of_dense_gradients(name: str) -> None:
    form = FORMS[name]
    expected = dense(form)
    squares, weighted, formed = (np.asarray(x, np.float64) for x in asked(form, FACTORS))
    lengths = np.square(expected.reshape(BATCH, -1)).sum(axis=1)
    summed = np.tensordot(FACTORS.astype(np.float64), expected, axes=1)
    np.testing.assert_allclose(formed, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(weighted, summed, rtol=1e-5, atol=1e-6)
    assert (squares >= lengths * (1 - 1e-6)).all()
    if "20" not in name:  # so many positions are never left to a Gram form
        np.testing.assert_allclose(np.sqrt(squares), np.sqrt(lengths), rtol=1e-5, atol=1e-15)


numbers = st.sampled_from([0.0, 1e-30, -1e-20, 1e-6, 1.0, -1.0, 1.0001, 3.0, 1e6, -1e12, 1e18])


def filled(data: st.DataObject, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of any size, or few different ones, so that products of positions cancel."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    few = data.draw(st.lists(numbers, min_size=1, max_size=4))
    return rng.choice(np.array(few + [-x for x in few], np.float32), shape)


def bounds_its_squares(form: Gradient) -> None:
    """But for squares that float32 cannot hold, of norms below 1e-17."""
    squares = np.asarray(asked(form, FACTORS)[0], np.float64)
    gradients = dense(form).reshape(BATCH, -1)
    lengths = np.square(gradients).sum(axis=1)
    over = np.isinf(squares) | np.isnan(squares)  # what overflows counts nothing
    lost = gradients.shape[1] * TINY
    assert (over | (squares + lost >= lengths * (1 - 1e-6))).all()


@settings(max_examples=25)
@given(st.data(), st.sampled_from(SHAPES))
def test_squares_of_products_are_never_too_small(
    data: st.DataObject, shape: tuple[int, ...]
) -> None:
    groups, positions, inputs, outputs = shape
    activations = filled(data, (BATCH, groups, positions, inputs))
    bounds_its_squares(Products(activations, filled(data, (BATCH, groups, positions, outputs))))


@settings(max_examples=25)
@given(st.data(), st.sampled_from(LOOKED_UP))
def test_squares_of_lookups_are_never_too_small(
    data: st.DataObject, shape: tuple[int, ...]
) -> None:
    positions, table, outputs = shape
    rows = data.draw(st.sampled_from([np.zeros((BATCH, positions), np.int32), None]))
    rows = lookups(*shape).rows if rows is None else rows
    bounds_its_squares(Lookups(rows, filled(data, (BATCH, positions, outputs)), table))


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-23, 1e-19, 1e-15, 1e-8, 1e8, 1e15, 1e18])
def test_squares_that_underflow_are_replaced_by_more(scale: float) -> None:
    for form in (Formed(draw(BATCH, 2, 5)), products(2, 1, 4, 3), lookups(5, 4, 3)):
        scaled = jax.tree.map(
            lambda x: x if jnp.issubdtype(x.dtype, jnp.integer) else x * np.float32(scale), form
        )
        bounds_its_squares(scaled)


@pytest.mark.parametrize(("small", "large"), [(1e-20, 1e18), (1e18, 1e-20), (1e-22, 1e10)])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_factor_whose_square_underflows_is_not_taken_for_zero(
    shape: tuple[int, ...], small: float, large: float
) -> None:
    groups, positions, inputs, outputs = shape
    activations = np.full((BATCH, groups, positions, inputs), small, np.float32)
    signals = np.full((BATCH, groups, positions, outputs), large, np.float32)
    bounds_its_squares(Products(activations, signals))


@pytest.mark.parametrize("broken", [np.nan, np.inf, 3e38])
@pytest.mark.parametrize("name", ["formed", "products (2, 1, 4, 3)", "products (1, 3, 5, 4)"])
def test_what_is_not_finite_shows_in_its_row_alone(name: str, broken: float) -> None:
    leaves, form = jax.tree.flatten(FORMS[name])
    leaves = [leaf.copy() for leaf in leaves]
    leaves[-1][1] = broken
    squares = np.asarray(asked(jax.tree.unflatten(form, leaves), FACTORS)[0])
    np.testing.assert_array_equal(np.isfinite(squares), [True, False, True])


def test_rows_outside_the_table_have_no_gradient_even_where_signals_are_nan() -> None:
    rows = np.array([[-1, 0, 4], [7, 5, -9], [4, 1, 1]], np.int32)
    signals = np.where((rows < 0) | (rows >= 4), np.nan, 1)[:, :, None].astype(np.float32)
    squares, weighted, _ = asked(Lookups(rows, signals, 4), np.ones(BATCH, np.float32))
    np.testing.assert_allclose(squares, [1, 0, 4], rtol=1e-5, atol=1e-30)
    np.testing.assert_array_equal(np.ravel(weighted), [1, 2, 0, 0])


def test_uses_of_one_weight_join_before_the_norm() -> None:
    """Two uses that cancel leave nothing; two equal ones are twice as long."""
    one = products(2, 3, 4, 3)
    other = Products(one.activations, -one.signals)
    for both, times in (((one, one), 2.0), ((one, other), 0.0), ((one,), 1.0)):
        together = joined(both)
        np.testing.assert_allclose(dense(together), times * dense(one), atol=1e-6)
        squares = np.asarray(asked(together, FACTORS)[0])
        expected = np.square(times * dense(one)).sum(axis=(1, 2, 3))
        np.testing.assert_allclose(squares, expected, rtol=2e-5, atol=1e-3)


@pytest.mark.parametrize(
    ("positions", "inputs", "outputs", "better"),
    [
        (1, 1, 1, True),
        (2, 6, 8, True),
        (16, 600, 600, True),
        (17, 10**4, 10**4, False),
        (4, 2, 2, False),
    ],
)
def test_gram_forms_only_where_they_are_cheap_and_exact(
    positions: int, inputs: int, outputs: int, better: bool
) -> None:
    form = Products(
        np.broadcast_to(np.float32(0), (1, 1, positions, inputs)),
        np.broadcast_to(np.float32(0), (1, 1, positions, outputs)),
    )
    assert form.better_unformed is better
    assert (GRAM, MOST_POSITIONS) == (16, 16)


@pytest.mark.parametrize(
    ("shape", "order"),
    [
        ((), ()),
        ((4,), (0,)),
        ((2, 3), (1, 0)),
        ((2, 3, 4), (2, 0, 1)),
        ((2, 3, 4, 5), (3, 1, 0, 2)),
    ],
)
def test_a_place_brings_every_number_home(shape: tuple[int, ...], order: tuple[int, ...]) -> None:
    param = draw(*shape)
    form = param.transpose(order)
    merged = form.reshape(form.shape[0], -1) if form.ndim > 1 else form
    for array in (form, merged, form.ravel()):
        np.testing.assert_array_equal(Place(shape, order)(jnp.asarray(array)), param)
    np.testing.assert_array_equal(Place.as_it_is(shape)(jnp.asarray(param)), param)


def test_forms_pass_through_transformations() -> None:
    def scaled(form: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf + leaf, form)

    found = jax.jit(scaled)(FORMS["lookups (5, 4, 3)"])
    assert isinstance(found, Lookups)
    assert found.table == 4
