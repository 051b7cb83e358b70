"""Our ThreeFry against JAX's own: the same bits, by whatever function of `jax.random`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdpjax.dpsgd.keys import as_key
from rdpjax.dpsgd.threefry import THREEFRY, normals, threefry

WORDS = np.array([0x9E3779B9, 0xFFFFFFFF], np.uint32)


def both(draw: Callable[[jax.Array], Any]) -> tuple[Any, Any]:
    """What a function of a key gives with JAX's implementation, and with ours."""
    theirs = jax.random.wrap_key_data(jnp.asarray(WORDS), impl="threefry2x32")
    return draw(theirs), draw(as_key(WORDS))


@pytest.mark.parametrize(
    "draw",
    [
        lambda key: jax.random.bits(key, (7, 5)),
        lambda key: jax.random.bits(key, (9,), jnp.uint8),
        lambda key: jax.random.bits(key, (), jnp.uint16),
        lambda key: jax.random.bits(key, (0,)),
        lambda key: jax.random.uniform(key, (1000,)),
        lambda key: jax.random.normal(key, (3, 333)),
        lambda key: jax.random.normal(key, (64,), jnp.bfloat16),
        lambda key: jax.random.randint(key, (50,), 0, 1_000_003),
        lambda key: jax.random.permutation(key, 100),
        lambda key: jax.random.categorical(key, jnp.arange(5.0), shape=(40,)),
        lambda key: jax.random.key_data(jax.random.split(key)),
        lambda key: jax.random.key_data(jax.random.split(key, (3, 2))),
        lambda key: jax.random.key_data(jax.random.fold_in(key, 2**32 - 1)),
        lambda key: jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i), (4,)))(
            jnp.arange(6)
        ),
    ],
)
def test_every_number_is_jaxs_own(draw: Callable[[jax.Array], Any]):
    theirs, ours = both(jax.jit(draw))
    np.testing.assert_array_equal(theirs, ours)
    assert theirs.dtype == ours.dtype


@pytest.mark.parametrize("seed", [0, 5, 2**31 - 1])
def test_seeds_make_the_same_keys(seed: int):
    theirs, ours = jax.random.key(seed, impl="threefry2x32"), jax.random.key(seed, impl=THREEFRY)
    np.testing.assert_array_equal(jax.random.key_data(theirs), jax.random.key_data(ours))


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ((0, 0, 0, 0), (0x6B200159, 0x99BA4EFE)),
        ((2**32 - 1,) * 4, (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344, 0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_published_answers(word: tuple[int, ...], expected: tuple[int, int]):
    """The known answers of Random123."""
    first, second, high, low = (jnp.uint32(one) for one in word)
    assert tuple(int(one) for one in threefry(jnp.stack([first, second]), high, low)) == expected


@pytest.mark.parametrize(("first", "count"), [(0, 100), (7, 31), (99, 1), (50, 0)])
def test_a_stretch_of_normals_is_a_stretch_of_jaxs(first: int, count: int):
    whole, _ = both(lambda key: jax.random.normal(key, (100,)))
    found = jax.jit(normals, static_argnums=2)(jnp.asarray(WORDS), jnp.uint32(first), count)
    np.testing.assert_array_equal(found, whole[first : first + count])


def test_more_numbers_than_a_key_has_are_refused():
    with pytest.raises(ValueError, match="from one key"):
        jax.eval_shape(lambda: normals(jnp.asarray(WORDS), 0, 2**32))
    with pytest.raises(ValueError, match="64 bits"):
        THREEFRY._impl.random_bits(jnp.asarray(WORDS), 64, (3,))  # type: ignore[attr-defined]
