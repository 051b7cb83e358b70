"""Ghost clipping at its edges: what was once too long, what is broken, what is tiny or huge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.tree_util import register_dataclass

from rdpjax.dpsgd import clipping
from rdpjax.dpsgd.ghost import clipped as ghost
from rdpjax.dpsgd.ghost.gradients import Formed, Products

Loss = Callable[..., jax.Array]
ROWS = 4
KEYS = jax.random.split(jax.random.key(0), ROWS)
EVERYONE = np.ones(ROWS, bool)


def draw(*shape: int, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng([seed, *shape])
    return (rng.normal(size=shape) * scale).astype(np.float32)


def flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.ravel(np.asarray(x, np.float64)) for x in jax.tree.leaves(tree)])


def close(value: np.ndarray, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    assert np.linalg.norm(value - expected) <= tolerance * np.linalg.norm(expected)


# Gradients of which nearly everything cancels: what is left is rounding, and has to be short too.


def cancelling_bias() -> tuple[Loss, Any, Any]:
    rng = np.random.default_rng(0)
    a = rng.uniform(1e7, 1e8, (40, 2)).astype(np.float32)
    left = np.float32(32) * rng.integers(1, 4, 40).astype(np.float32)
    rows = np.stack([a[:, 0], a[:, 1], -a[:, 0], left - a[:, 1]], axis=1)
    loss = lambda b, x, key: (jnp.broadcast_to(b, x.shape) * x).sum()  # noqa: E731
    return loss, np.zeros(40, np.float32), rows


def weight_norm_along_itself() -> tuple[Loss, Any, Any]:
    w = draw(40, 3)
    loss = lambda w, x, key: ((w / jnp.sqrt((w * w).sum())) * x).sum()  # noqa: E731
    return loss, w, w * np.float32(1e9)


def two_views_of_one_weight() -> tuple[Loss, Any, Any]:
    a = draw(40, 2, 2, scale=1e8)
    rows = np.stack([a, -a.transpose(0, 2, 1) * np.float32(1 + 2e-7)], axis=1)
    loss = lambda w, x, key: jnp.vdot(w, x[0]) + jnp.vdot(w.T, x[1])  # noqa: E731
    return loss, np.zeros((40, 2, 2), np.float32), rows


def two_functions_of_one_number() -> tuple[Loss, Any, Any]:
    rows = np.random.default_rng(0).uniform(1, 2, (500, 4)).astype(np.float32) * np.float32(1e6)
    rows[:, 3] = rows[:, 0].astype(float) * rows[:, 1] / rows[:, 2]

    def loss(w: jax.Array, x: jax.Array, key: jax.Array) -> jax.Array:
        return jnp.tanh(w * 1e-3) * x[0] * x[1] - jnp.sin(w * 1e-3) * x[2] * x[3]

    return loss, np.zeros(500, np.float32), rows


CANCELLING = [
    cancelling_bias,
    weight_norm_along_itself,
    two_views_of_one_weight,
    two_functions_of_one_number,
]
cancelling = pytest.mark.parametrize("problem", CANCELLING, ids=lambda f: f.__name__)


def contributions_are_short(problem: Callable[[], tuple[Loss, Any, Any]]) -> None:
    """Each row by itself, with parameters of its own."""
    loss, params, rows = problem()

    def alone(own: tuple[Any, Any]) -> Any:
        params, row = own
        return ghost.clipped_sum(loss, params, row[None], EVERYONE[:1], KEYS[:1], 1.0).gradient

    found = jax.jit(lambda own: jax.lax.map(alone, own))((params, rows))
    norms = np.linalg.norm(np.asarray(found, np.float64).reshape(len(rows), -1), axis=1)
    assert (norms <= 1.0).all()
    assert norms.max() > 0.99


@cancelling
def test_what_is_left_of_a_cancelling_gradient_is_short(problem: Any) -> None:
    contributions_are_short(problem)


@register_dataclass
@dataclass(frozen=True)
class NormByLeaf:
    """The norm of one array and the sum of another: equal but for rounding, hence unsafe."""

    by_leaf: Formed
    by_view: list[jax.Array]
    back: Callable[..., Any] = field(metadata={"static": True})

    def squares(self) -> jax.Array:
        return self.by_leaf.squares()

    def weighted(self, factors: jax.Array) -> Any:
        return self.back([jnp.tensordot(factors, x, axes=1) for x in self.by_view])[0][0]


@cancelling
def test_norms_and_sums_of_other_numbers_would_be_noticed(
    problem: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = ghost._parts

    def parts(found: Any, leaves: list[Any], uses: list[ghost.Use]) -> list[ghost.Use]:
        (part,) = true(found, leaves, uses)
        views = list(dict.fromkeys(use.view for use in uses))
        by_view = [ghost._formed([u for u in uses if u.view == v]).gradient for v in views]
        _, back = jax.vjp(lambda leaves: found.view_values(leaves, views), leaves)
        return [part._replace(gradient=NormByLeaf(part.gradient, by_view, lambda x: back(x)))]

    monkeypatch.setattr(ghost, "_parts", parts)
    monkeypatch.setattr(ghost, "_kept", lambda gradient: gradient)
    with pytest.raises(AssertionError):
        contributions_are_short(problem)


# One network with all forms in it, compiled once.

PARAMS = {
    "in": draw(6, 8),
    "bias": draw(8),
    "out": draw(8, 2),
    "table": draw(5, 8),
    "scale": draw(2),
}
EXAMPLES = {
    "x": draw(ROWS, 2, 6),
    "i": np.array([[0, 3], [1, 1], [4, 2], [9, 0]], np.int32),
}


def network(p: Any, example: Any, key: jax.Array) -> jax.Array:
    hidden = jnp.tanh(example["x"] @ p["in"] + jnp.broadcast_to(p["bias"], (2, 8)))
    seen = p["table"].at[example["i"]].get(mode="fill", fill_value=0)
    scores = ((hidden + 0.3 * seen) @ p["out"]).sum(axis=0)
    return jnp.square(scores * p["scale"] - 1).sum()


def summed(loss: Loss, *ways: Any) -> Callable[..., list[clipping.ClippedSum]]:
    """`(params, examples, valid, bound, scale)` to the sums by each way, of the scaled loss."""
    ways = ways or (ghost.clipped_sum, clipping.clipped_sum)

    def call(p: Any, examples: Any, valid: Any, bound: Any, scale: Any) -> Any:
        scaled = lambda *args: loss(*args) * scale  # noqa: E731
        return [way(scaled, p, examples, valid, KEYS[: len(valid)], bound) for way in ways]

    return jax.jit(call)


@cache
def both() -> Callable[..., list[clipping.ClippedSum]]:
    return summed(network)


def alone(i: int) -> np.ndarray:
    return np.arange(ROWS) == i


def test_norms_from_1e_15_to_1e15_are_exact_to_1e_5() -> None:
    for i in range(ROWS):
        norm = np.linalg.norm(flat(both()(PARAMS, EXAMPLES, alone(i), np.inf, 1.0)[1].gradient))
        for exponent in range(-15, 16, 3):
            length = 10.0**exponent
            bound = length * 1e-3
            ours, oracle = both()(PARAMS, EXAMPLES, alone(i), bound, length / norm)
            close(flat(ours.gradient), flat(oracle.gradient))
            found = np.linalg.norm(flat(ours.gradient)) / bound / (1 - clipping.MARGIN)
            assert 1 - 1e-5 <= found <= 1 + 1e-6
            ours, oracle = both()(PARAMS, EXAMPLES, alone(i), length * 2, length / norm)
            close(flat(ours.gradient), flat(oracle.gradient))  # unclipped


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_an_example_without_a_finite_gradient_counts_nothing(value: float) -> None:
    params, rows = np.zeros((3, 2), np.float32), draw(ROWS, 2, 3)
    rows[1, 0, 2] = rows[1, 1, 0] = value
    for bound in (1.0, np.inf):
        broken, _ = linear("one position")(params, rows, alone(1), bound, 1.0)
        assert not np.any(flat(broken.gradient))
        assert float(broken.clipped) == 0
        with_it, oracle = linear("one position")(params, rows, EVERYONE, bound, 1.0)
        without, _ = linear("one position")(params, rows, ~alone(1), bound, 1.0)
        close(flat(with_it.gradient), flat(without.gradient))
        close(flat(with_it.gradient), flat(oracle.gradient))


@pytest.mark.parametrize("fill", [np.nan, np.inf, 1e30])
def test_what_padding_holds_is_never_seen(fill: float) -> None:
    valid = np.array([True, False, True, False])
    for bound in (0.5, np.inf):
        reference = both()(PARAMS, EXAMPLES, valid, bound, 1.0)[0]
        filled = {
            "x": np.where(valid[:, None, None], EXAMPLES["x"], np.float32(fill)),
            "i": np.where(valid[:, None], EXAMPLES["i"], np.int32(2**31 - 1)),
        }
        found = both()(PARAMS, filled, valid, bound, 1.0)[0]
        np.testing.assert_array_equal(flat(found), flat(reference))
        nobody = both()(PARAMS, filled, EVERYONE & False, bound, 1.0)[0]
        assert not np.any(flat(nobody))


@pytest.mark.parametrize("name", PARAMS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_parameter_that_is_not_finite_gives_zero(name: str, value: float) -> None:
    params = {**PARAMS, name: PARAMS[name].copy()}
    params[name].flat[-1] = value
    for bound in (1.0, np.inf):
        assert not np.any(flat(both()(params, EXAMPLES, EVERYONE, bound, 1.0)[0].gradient))


@pytest.mark.parametrize("size", [1e-25, 1e-10, 1e10, 1e25, 1e38])
def test_contributions_are_short_at_extreme_parameters_and_activations(size: float) -> None:
    large = {**EXAMPLES, "x": EXAMPLES["x"] * np.float32(size)}
    for name in (None, *PARAMS):
        params = {k: v * np.float32(size) if k == name else v for k, v in PARAMS.items()}
        for i in range(ROWS):
            for bound in (0.0, 1e-6, 1.0):
                ours = both()(params, EXAMPLES if name else large, alone(i), bound, 1.0)[0]
                assert np.linalg.norm(flat(ours.gradient)) <= bound


# Any numbers at all, in the forms whose norms are not simply read off.

numbers = st.one_of(
    st.floats(-4, 4, width=32),
    st.sampled_from([1e-30, 1e-20, 1e-8, 1e8, -1e8, 1e18, 1e30, 3.4e38, np.nan, np.inf, -np.inf]),
)


def side_by_side(signal: jax.Array, *starts: int) -> jax.Array:
    return jnp.concatenate([signal[start : start + 3] for start in starts], axis=1)


LINEAR: dict[str, tuple[Loss, Any, tuple[int, ...]]] = {
    "one position": (lambda w, x, k: (x[0] @ w) @ x[1, :2], np.zeros((3, 2)), (2, 3)),
    "Gram": (lambda w, x, k: ((x[:, :2] @ w) * x[:, 2:]).sum(), np.zeros((2, 2)), (3, 4)),
    "windows": (
        lambda w, x, k: ((side_by_side(x[:, :2], 0, 1, 2) @ w) * x[:3, 2:]).sum(),
        np.zeros((6, 2)),
        (5, 4),
    ),
    "lookups": (
        lambda w, x, k: (w[jnp.array([0, 1, 0])] * x[:, :2]).sum(),
        np.zeros((2, 2)),
        (3, 2),
    ),
}


@cache
def linear(name: str) -> Callable[..., list[clipping.ClippedSum]]:
    def forced(*args: Any) -> clipping.ClippedSum:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Products, "better_unformed", property(lambda self: True))
            return ghost.clipped_sum(*args)

    return summed(LINEAR[name][0], forced, clipping.clipped_sum)


@settings(max_examples=25)
@given(
    st.data(),
    st.sampled_from(sorted(LINEAR)),
    st.lists(st.booleans(), min_size=ROWS, max_size=ROWS),
    st.sampled_from([0.0, 1e-6, 1.0, 1e6, np.inf]),
    st.sampled_from([1e-30, 1e-6, 1.0, 1e6, 1e30]),
)
def test_any_example_contributes_at_most_the_clip_norm(
    data: st.DataObject, name: str, valid: list[bool], bound: float, scale: float
) -> None:
    _, params, shape = LINEAR[name]
    few = data.draw(st.lists(numbers, min_size=1, max_size=4))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    rows = rng.choice(np.array(few + [-x for x in few], np.float32), (ROWS, *shape))
    keep, each = np.array(valid), []
    for i in range(ROWS):
        found = linear(name)(params.astype(np.float32), rows, keep & alone(i), bound, scale)[0]
        each.append(flat(found.gradient))
        assert np.isfinite(each[-1]).all()
        assert np.linalg.norm(each[-1]) <= (bound if valid[i] else 0.0)
    together = flat(linear(name)(params.astype(np.float32), rows, keep, bound, scale)[0].gradient)
    most = np.abs(each).sum()
    np.testing.assert_allclose(together, np.sum(each, axis=0), rtol=0, atol=1e-5 * most)


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1.0, 1e6, 1e12])
@pytest.mark.parametrize("name", sorted(LINEAR))
def test_equals_vmap_at_any_scale(name: str, scale: float) -> None:
    _, params, shape = LINEAR[name]
    for seed, bound in enumerate((1e-3, 1.0, 10.0, np.inf)):
        rows = draw(ROWS, *shape, seed=seed)
        ours, oracle = linear(name)(params.astype(np.float32), rows, EVERYONE, bound * scale, scale)
        close(flat(ours.gradient), flat(oracle.gradient))


# Losses that meet the example in no ordinary way.

ODD: dict[str, Loss] = {
    "a constant": lambda w, x, k: jnp.float32(3),
    "the example alone": lambda w, x, k: x.sum(),
    "the parameter alone": lambda w, x, k: (w * w).sum(),
    "a gradient that is stopped": lambda w, x, k: (jax.lax.stop_gradient(w) * x).sum(),
    "an index made of parameters": lambda w, x, k: x[jnp.argmax(w)] * w.sum(),
    "an index alone": lambda w, x, k: x[jnp.argmax(w)],
    "a comparison": lambda w, x, k: jnp.where(x > w, x * w, w).sum(),
    "a branch": lambda w, x, k: jax.lax.cond(x[0] > 0, jnp.vdot, lambda w, x: -w @ x, w, x),
    "sorted parameters": lambda w, x, k: (jnp.sort(w) * x).sum(),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_losses_are_clipped_like_any_other(name: str) -> None:
    params, rows = draw(3), draw(ROWS, 3)
    way = summed(ODD[name])
    for bound in (0.0, 0.3, 1e3):
        ours, oracle = way(params, rows, EVERYONE, bound, 1.0)
        close(flat(ours.gradient), flat(oracle.gradient))
        assert float(ours.loss) == pytest.approx(float(oracle.loss), rel=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1e-10, 1e-18, 1e-22, 1e-30])
def test_a_clip_norm_of_zero_gives_zero_where_norms_underflow(scale: float) -> None:
    for name, (_, params, shape) in LINEAR.items():
        rows = draw(ROWS, *shape, scale=scale)
        for whole in linear(name)(params.astype(np.float32), rows, EVERYONE, 0.0, 1.0):
            assert not np.any(flat(whole.gradient))


@pytest.mark.parametrize("bound", [1e-6, 1e-3, 0.1])
@pytest.mark.parametrize("name", sorted(LINEAR))
def test_a_factor_whose_square_underflows_hides_no_long_gradient(name: str, bound: float) -> None:
    """Activations of 1e-20 under signals of 1e18, and the other way round."""
    _, params, shape = LINEAR[name]
    rows = np.full((ROWS, *shape), 1e-20, np.float32)
    rows[:2, ..., shape[-1] // 2 :] = rows[2:, ..., : shape[-1] // 2] = 1e18
    for scale in (1e-18, 1.0, 1e18):
        for i in range(ROWS):
            ours, _ = linear(name)(params.astype(np.float32), rows, alone(i), bound, scale)
            assert np.linalg.norm(flat(ours.gradient)) <= bound


@pytest.mark.parametrize("unformed", [True, False], ids=["Gram", "formed"])
def test_a_broken_activation_beside_a_tiny_signal_drops_the_row(
    unformed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its product could be squared: the activation itself has to show."""
    better = property(lambda self: unformed)
    monkeypatch.setattr(Products, "better_unformed", better)
    x = jnp.ones((3, 2, 3)).at[1, 0, 0].set(jnp.inf).at[2, 1, 2].set(jnp.nan)
    keys = jax.random.split(jax.random.key(0), 3)

    def loss(w: jax.Array, x: jax.Array, key: jax.Array) -> jax.Array:
        return 1e-25 * (x @ w).sum()

    whole = ghost.clipped_sum(loss, jnp.ones((3, 2)), x, jnp.ones(3, bool), keys, 1.0)
    first = ghost.clipped_sum(loss, jnp.ones((3, 2)), x[:1], jnp.ones(1, bool), keys[:1], 1.0)
    np.testing.assert_array_equal(whole.gradient, first.gradient)
    assert (np.asarray(first.gradient) > 0).all()
