"""Every layer that ghost clipping knows, and many that it does not: three ways, one sum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from rdpjax.dpsgd import clipping
from rdpjax.dpsgd.ghost import clipped as ghost
from rdpjax.models.layers import Conv1d

ROWS = 4
KEYS = jax.random.split(jax.random.key(0), ROWS)
Case = tuple[Callable[..., jax.Array], Any, Any]


def draw(*shape: int, scale: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(list(shape))
    return (rng.normal(size=shape) * scale).astype(np.float32)


def codes(*shape: int, high: int = 6, low: int = 0) -> np.ndarray:
    rng = np.random.default_rng(list(shape))
    return rng.integers(low, high, (ROWS, *shape)).astype(np.int32)


def rows(*shape: int) -> np.ndarray:
    """Examples, a quarter of them long: some are clipped and some are not."""
    return draw(ROWS, *shape) * np.linspace(0.3, 2, ROWS, dtype=np.float32).reshape(
        -1, *[1] * len(shape)
    )


def total(x: jax.Array) -> jax.Array:
    """A loss that gives every number another signal."""
    weights = np.cos(np.arange(x.size, dtype=np.float32)).reshape(x.shape)
    return (x * weights + 0.1 * x * x).sum()


def along(leaf: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.broadcast_to(leaf, x.shape)


def module(layer: nn.Module, *shape: int) -> Case:
    kinds = jax.eval_shape(layer.init, KEYS[0], jnp.zeros(shape))
    params = jax.tree.map(lambda leaf: draw(*leaf.shape, scale=0.5), kinds)
    return lambda p, x, key: total(jnp.asarray(layer.apply(p, x))), params, rows(*shape)


def conv(kernel: tuple[int, ...], x: tuple[int, ...], **settings: Any) -> Case:
    form = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "OIHW", "NCHW")}[len(x) - 1]

    def loss(w: jax.Array, x: jax.Array, key: jax.Array) -> jax.Array:
        return total(jax.lax.conv_general_dilated(x[None], w, dimension_numbers=form, **settings))

    return loss, draw(*kernel, scale=0.5), rows(*x)


def looked_up(table: jax.Array, at: jax.Array, **mode: Any) -> jax.Array:
    return total(table.at[at].get(**mode) if mode else table[at])


def two_inputs(p: Any, x: jax.Array, key: jax.Array) -> jax.Array:
    def score(x: jax.Array) -> jax.Array:
        hidden = jax.nn.relu(x @ p["in"] + p["bias"])
        return jnp.square(hidden @ p["out"])[0]

    return score(x) + score(-0.5 * x + 1)


def penalty(p: Any, x: jax.Array, key: jax.Array) -> jax.Array:
    """The gradient by the input, within the loss: every weight is used in both directions."""

    def score(x: jax.Array) -> jax.Array:
        return (jnp.square(x @ p["in"] + p["bias"]) @ p["out"])[0]

    return score(x) + jnp.square(jnp.vdot(slope := jax.grad(score)(x), slope) - 1)


def recurrent(p: Any, x: jax.Array, key: jax.Array) -> jax.Array:
    def turn(h: jax.Array, x: jax.Array) -> tuple[jax.Array, None]:
        return jnp.tanh(p["h"] @ h + p["x"] @ x), None

    return total(jax.lax.scan(turn, jnp.zeros(3), x)[0])


def normalised(w: jax.Array, x: jax.Array, key: jax.Array) -> jax.Array:
    length = jnp.sqrt((w * w).sum(axis=0, keepdims=True))
    return total(x @ (w / along(length, w)))


@jax.jit
def sublayer(w: jax.Array, x: jax.Array) -> jax.Array:
    return jax.nn.relu(x @ w) - 0.2 * jax.nn.silu(x @ w)


def tree_example(p: Any, example: Any, key: jax.Array) -> jax.Array:
    x = example["x"] * (example["count"] + 1).astype(jnp.float32)
    kept = jnp.where(example["flag"], x, p["b"] * x)
    return total(kept @ p["w"]) + p["w"][example["count"], 0]


def elementwise(p: Any, x: jax.Array, key: jax.Array) -> jax.Array:
    a, b = p["a"], p["b"]
    mixed = jnp.maximum(a, x) - jnp.minimum(b, x) + x / (2 + a * a) - (b - x)
    return total(mixed + jnp.where(x > 0, a, b) + jnp.clip(x, a, a + 1))


DENSE = {"in": draw(4, 3), "bias": draw(3), "out": draw(3, 1)}

CASES: dict[str, Case] = {
    "dense from the right": (lambda w, x, k: total(x @ w), draw(5, 3), rows(5)),
    "dense at 2 positions": (lambda w, x, k: total(x @ w), draw(6, 8), rows(2, 6)),
    "dense at 20 positions": (lambda w, x, k: total(x @ w), draw(4, 3), rows(20, 4)),
    "dense at 3 positions, from the left": (
        lambda w, x, k: total(jnp.einsum("oi,tui->uot", w, x)),
        draw(8, 6),
        rows(3, 1, 6),
    ),
    "two axes contracted": (
        lambda w, x, k: total(jnp.einsum("ijk,aji->ka", w, x)),
        draw(2, 3, 4),
        rows(2, 3, 2),
    ),
    "grouped, from the left": (
        lambda w, x, k: total(jnp.einsum("gio,tgi->tgo", w, x)),
        draw(2, 5, 6),
        rows(2, 2, 5),
    ),
    "Conv1d": module(Conv1d(3), 5, 2),
    "flax Conv": module(nn.Conv(3, (3,), strides=2, kernel_dilation=2), 7, 2),
    "flax ConvTranspose": module(nn.ConvTranspose(2, (3,), strides=(2,)), 4, 3),
    "conv in two dimensions": conv(
        (3, 2, 2, 3),
        (5, 4, 2),
        window_strides=(2, 1),
        padding=[(1, 0), (0, 2)],
        lhs_dilation=(1, 2),
        rhs_dilation=(2, 1),
    ),
    "conv in feature groups": conv(
        (3, 2, 4), (5, 4), window_strides=(1,), padding="SAME", feature_group_count=2
    ),
    "upsampling conv": (
        lambda p, x, k: total(Conv1d(2).apply({"params": p}, jnp.repeat(x, 2, axis=0))),
        {"kernel": draw(3, 2, 2), "bias": draw(2)},
        rows(3, 2),
    ),
    "bias": (
        lambda p, x, k: total(x + along(p["b"], x) + p["one"]),
        {"b": draw(3), "one": np.float32(0.2)},
        rows(2, 3),
    ),
    "elementwise": (elementwise, {"a": draw(5), "b": draw(5, scale=0.5)}, rows(5)),
    "embedding": (lambda t, i, k: looked_up(t, i), draw(6, 3), codes(5)),
    "embedding, out of bounds dropped": (
        lambda t, i, k: looked_up(t, i, mode="fill", fill_value=0),
        draw(6, 3),
        codes(5, high=9, low=-8),
    ),
    "embedding, out of bounds clipped": (
        lambda t, i, k: looked_up(t, i, mode="clip"),
        draw(6, 3),
        codes(5, high=9, low=-8),
    ),
    "embedding of one code": (lambda t, i, k: looked_up(t, i), draw(6, 3), codes()),
    "embedding of a table of codes": (
        lambda t, i, k: looked_up(t, i),
        draw(300, 2, 2),
        codes(3, 2, high=250).astype(np.uint8),
    ),
    "embedding by position": (
        lambda t, i, k: total(t[jnp.arange(3), i]),
        draw(3, 6, 2),
        codes(3),
    ),
    "LayerNorm": module(nn.LayerNorm(), 2, 6),
    "GroupNorm": module(nn.GroupNorm(num_groups=2), 3, 4),
    "tied embedding and output": (
        lambda t, i, k: total(t @ t[i].sum(axis=0)),
        draw(6, 3),
        codes(2),
    ),
    "a weight and its transpose": (
        lambda w, x, k: total(w.T @ jax.nn.relu(w @ x)),
        draw(3, 5),
        rows(5),
    ),
    "a network on two inputs": (two_inputs, DENSE, rows(4)),
    "gradient penalty": (penalty, DENSE, rows(4)),
    "weight normalisation": (normalised, draw(4, 3), rows(4)),
    "product of parameters": (
        lambda p, x, k: total(x @ (p[0] @ p[1]) * p[2]),
        [draw(4, 2), draw(2, 3), np.float32(1.5)],
        rows(4),
    ),
    "recurrence": (recurrent, {"h": draw(3, 3), "x": draw(3, 2)}, rows(4, 2)),
    "jitted and recomputed": (
        lambda w, x, k: total(jax.checkpoint(sublayer)(w, x)),
        draw(5, 3),
        rows(5),
    ),
    "a parameter that the loss does not touch": (
        lambda p, x, k: total(x @ p["w"] + p["stopped"] - jax.lax.stop_gradient(p["stopped"])),
        {"w": draw(4, 3), "stopped": draw(3), "unused": draw(2, 2)},
        rows(4),
    ),
    "examples in a tree": (
        tree_example,
        {"w": draw(4, 3), "b": np.float32(0.5)},
        {"x": rows(4), "count": codes(high=3), "flag": np.arange(ROWS) % 2 == 0},
    ),
    "noise from the key": (
        lambda w, x, k: total((x + jax.random.uniform(k, x.shape)) @ w),
        draw(4, 3),
        rows(4),
    ),
}

WITHOUT_A_RULE = {
    "examples in a tree": ["['w'] (dynamic_slice)"],
    "conv in feature groups": [" (conv_general_dilated)"],
    "embedding by position": [" (gather)"],
    "recurrence": ["['h'] (scan)", "['x'] (scan)"],
}


def flat(tree: Any) -> np.ndarray:
    return np.concatenate([np.ravel(np.asarray(x, np.float64)) for x in jax.tree.leaves(tree)])


def close(value: np.ndarray, expected: np.ndarray) -> None:
    assert np.linalg.norm(value - expected) <= 1e-5 * np.linalg.norm(expected)


COMPOSED = {  # of what another case is tried with
    "two axes contracted",
    "Conv1d",
    "flax ConvTranspose",
    "conv in two dimensions",
    "embedding, out of bounds clipped",
    "embedding of a table of codes",
    "GroupNorm",
    "a weight and its transpose",
    "a network on two inputs",
    "weight normalisation",
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n in COMPOSED else []) for n in CASES],
)
def test_ghost_equals_vmap_equals_a_loop_and_contributions_are_short(name: str) -> None:
    loss, params, examples = CASES[name]
    params = jax.tree.map(jnp.asarray, params)

    @jax.jit
    def both(
        examples: Any, valid: Any, bound: Any, scale: Any, i: Any
    ) -> tuple[list[clipping.ClippedSum], Any]:
        """Two sums, and the loss and the gradient of example i by itself: compiled once."""

        def scaled(*args: Any) -> jax.Array:
            return loss(*args) * scale

        ways = (ghost.clipped_sum, clipping.clipped_sum)
        one = jax.tree.map(lambda leaf: leaf[i], examples)
        return (
            [way(scaled, params, examples, valid, KEYS, bound) for way in ways],
            jax.value_and_grad(loss)(params, one, KEYS[i]),
        )

    everyone = np.ones(ROWS, bool)
    found = [both(examples, everyone, 1.0, 1.0, i)[1] for i in range(ROWS)]
    gradients = np.stack([flat(gradient) for _, gradient in found])
    norms = np.linalg.norm(gradients, axis=1)
    valid = np.arange(ROWS) != 1
    bound = float(np.sort(norms[valid])[:2].mean())
    expected = gradients * np.minimum(1, bound * (1 - clipping.MARGIN) / norms)[:, None]

    for whole in both(examples, valid, bound, 1.0, 0)[0]:
        close(flat(whole.gradient), expected[valid].sum(axis=0))
        assert float(whole.loss) == pytest.approx(
            sum(float(value) for (value, _), v in zip(found, valid, strict=True) if v), rel=1e-5
        )
        assert int(whole.clipped) == (norms[valid] > bound).sum() > 0
        assert jax.tree.structure(whole.gradient) == jax.tree.structure(params)

    def alone(i: int, bound: float, scale: float) -> list[np.ndarray]:
        sums = both(examples, np.arange(ROWS) == i, bound, scale, 0)[0]
        return [flat(whole.gradient) for whole in sums]

    for i in range(ROWS):
        for vector in alone(i, bound, 1.0):
            close(vector, expected[i])
            assert np.linalg.norm(vector) <= bound
        for limit in (0.0, 1e-6, 1.0, 1e6):
            for scale in (1e-30, 1e-18, 1e15, 1e30):
                for vector in alone(i, limit, scale):
                    assert np.linalg.norm(vector) <= limit  # fails on NaN too
        for vector in alone(i, 1e-20, 1e-13 / norms[i]) + alone(i, 1.0, 1e15 / norms[i]):
            length = np.linalg.norm(vector)
            nominal = (1 - clipping.MARGIN) * (1.0 if length > 1e-6 else 1e-20)
            assert length == pytest.approx(nominal, rel=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_what_has_no_rule_is_named(name: str) -> None:
    loss, params, examples = CASES[name]
    example = jax.tree.map(lambda leaf: leaf[0], examples)
    formed = ghost.formed_for_want_of_a_rule(loss, params, example, KEYS[0])
    assert formed == WITHOUT_A_RULE.get(name, [])
