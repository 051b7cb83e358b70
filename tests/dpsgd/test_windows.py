"""Windows on a signal: which are found, and that lengths from the signal are lengths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdpjax.dpsgd import clipping
from rdpjax.dpsgd.ghost import clipped as ghost
from rdpjax.dpsgd.ghost.equations import equations_of
from rdpjax.dpsgd.ghost.windows import Windows, windows_of
from rdpjax.models.layers import Conv1d

ROWS = 4
KEYS = jax.random.split(jax.random.key(0), ROWS)


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(list(shape)).normal(size=shape).astype(np.float32)


def side_by_side(signal: jax.Array, starts: tuple[int, ...], positions: int) -> jax.Array:
    return jnp.concatenate([signal[i : i + positions] for i in starts], axis=1)


def found_in(unfold: Callable[[jax.Array], jax.Array]) -> list[tuple[tuple[int, ...], int]]:
    """Starts and positions of all windows in a layer of an input of 8 positions."""
    example = jnp.zeros((8, 2))
    kernel = jnp.zeros((jax.eval_shape(unfold, example).shape[1], 3))
    found = equations_of(lambda w, x, key: (unfold(x) @ w).sum(), kernel, example, KEYS[0])
    return [(w.starts, w.positions) for w in windows_of(found.mixed).values()]


FOUND: dict[str, tuple[Callable[[jax.Array], jax.Array], tuple[int, ...]]] = {
    "a kernel of three": (lambda x: side_by_side(x, (0, 1, 2), 6), (0, 1, 2)),
    "turned round": (lambda x: side_by_side(x, (2, 1, 0), 6), (2, 1, 0)),
    "uneven": (lambda x: side_by_side(x, (0, 1, 3), 5), (0, 1, 3)),
    "one twice": (lambda x: side_by_side(x, (1, 1), 7), (1, 1)),
    "of a padded signal": (
        lambda x: side_by_side(jnp.pad(jnp.sin(x), [(1, 1), (0, 0)]), (0, 1, 2), 8),
        (0, 1, 2),
    ),
}

NOT_FOUND: dict[str, Callable[[jax.Array], jax.Array]] = {
    "two signals": lambda x: jnp.concatenate([x[:7], jnp.sin(x)[1:]], axis=1),
    "a signal and windows on it": lambda x: jnp.concatenate([x[:7], x[1:], x[1:] * 2], axis=1),
    "one after the other": lambda x: jnp.concatenate([x[:7], x[1:]], axis=0),
    "every second position": lambda x: jnp.concatenate([x[:7:2], x[1::2]], axis=1),
    "some of the channels": lambda x: jnp.concatenate([x[:7, :1], x[1:, 1:]], axis=1),
    "backwards": lambda x: jnp.concatenate([x[:7][::-1], x[1:][::-1]], axis=1),
    "more to multiply than without": lambda x: side_by_side(x, (0, 4), 4),
    "not side by side at all": lambda x: jnp.sin(x),
}


@pytest.mark.parametrize("name", FOUND)
def test_windows_are_found(name: str) -> None:
    unfold, starts = FOUND[name]
    ((found, _),) = found_in(unfold)
    assert found == starts


@pytest.mark.parametrize("name", NOT_FOUND)
def test_what_is_not_windows_is_left_alone(name: str) -> None:
    assert found_in(NOT_FOUND[name]) == []


def test_our_convolution_is_windows() -> None:
    layer = Conv1d(3)
    params = layer.init(KEYS[0], jnp.zeros((8, 2)))
    found = equations_of(lambda p, x, key: layer.apply(p, x).sum(), params, draw(8, 2), KEYS[0])
    ((slot, windows),) = windows_of(found.mixed).items()
    assert (windows.starts, windows.positions) == ((0, 1, 2), 8)
    assert [e.primitive.name for e in found.mixed if slot in e.inputs] == ["dot_general"]


@pytest.mark.parametrize("starts", [(0, 1, 2), (2, 0), (3, 3), (1,)])
def test_products_are_those_of_the_windows(starts: tuple[int, ...]) -> None:
    signal = draw(ROWS, 9, 2)
    unfolded = np.stack([side_by_side(one, starts, 5) for one in signal]).astype(np.float64)
    gram = Windows(0, starts, 5).gram(jnp.asarray(signal))
    np.testing.assert_allclose(gram[:, 0], unfolded @ unfolded.transpose(0, 2, 1), atol=1e-5)


def sums(unfold: Callable[[jax.Array], jax.Array], examples: np.ndarray) -> list[np.ndarray]:
    """The clipped sum in both ways, and what ghost sums of each example alone."""
    width = jax.eval_shape(unfold, jnp.asarray(examples[0])).shape[1]
    kernel = jnp.asarray(draw(width, 8))

    def loss(w: jax.Array, x: jax.Array, key: jax.Array) -> jax.Array:
        return jnp.square(unfold(x) @ w).sum()

    @jax.jit
    def both(valid: jax.Array) -> list[jax.Array]:
        ways = (ghost.clipped_sum, clipping.clipped_sum)
        return [way(loss, kernel, examples, valid, KEYS, 1.0).gradient for way in ways]

    alone = [both(jnp.arange(ROWS) == i)[0] for i in range(ROWS)]
    return [np.asarray(value, np.float64) for value in (*both(jnp.ones(ROWS, bool)), *alone)]


def lengths_hold() -> None:
    for unfold, _ in FOUND.values():
        ours, oracle, *alone = sums(unfold, draw(ROWS, 8, 2))
        np.testing.assert_allclose(ours, oracle, atol=1e-5 * np.abs(oracle).max())
        assert max(np.linalg.norm(one) for one in alone) <= 1.0


def test_lengths_from_the_signal_are_lengths() -> None:
    lengths_hold()


def a_window_forgotten(self: Windows, signal: jax.Array) -> jax.Array:
    return GRAM(self._replace(starts=self.starts[1:]), signal)


def windows_in_one_place(self: Windows, signal: jax.Array) -> jax.Array:
    return GRAM(self._replace(starts=(0,) * len(self.starts)), signal)


def rows_mixed_up(self: Windows, signal: jax.Array) -> jax.Array:
    return GRAM(self, jnp.roll(signal, 1, axis=0))


GRAM = Windows.gram


@pytest.mark.parametrize("wrong", [a_window_forgotten, windows_in_one_place, rows_mixed_up])
def test_wrong_products_would_be_noticed(wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Windows, "gram", wrong)
    with pytest.raises(AssertionError):
        lengths_hold()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 3, 7])
def test_a_broken_number_counts_where_a_window_has_it(value: float, at: int) -> None:
    """Position 7 is in no window: its row counts like any other."""
    examples = draw(ROWS, 8, 2)
    examples[1, at, 0] = value
    ours, oracle, *alone = sums(lambda x: side_by_side(x, (0, 1, 2), 5), examples)
    assert np.isfinite(ours).all()
    assert np.any(alone[1]) == (at == 7)
    np.testing.assert_allclose(ours, oracle, atol=1e-5 * np.abs(oracle).max())
