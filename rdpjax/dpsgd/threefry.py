"""JAX's default random numbers, bit for bit, as one pass instead of a loop.

On CPUs JAX compiles ThreeFry as a loop of five turns over whole arrays, so that a handful of
numbers costs dozens of small operations and many numbers travel through memory five times. Written
out, all twenty rounds (and whatever is done with the bits) become one pass over the output.

Salmon et al. 2011, Parallel Random Numbers: As Easy as 1, 2, 3 (ThreeFry-2x32, 20 rounds).
"""

from __future__ import annotations

import math
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import define_prng_impl
from jaxtyping import Array, Float, UInt32

Words: TypeAlias = tuple[UInt32[Array, "..."], UInt32[Array, "..."]]

ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
PARITY = 0x1BD11BDA
ROUNDS = 20

BLOCKS = 4


def threefry(key: UInt32[Array, "2"], high: jax.Array, low: jax.Array) -> Words:
    """The block cipher: 64 random bits of every 64-bit counter `(high, low)`.

    Examples:
      >>> import jax.numpy as jnp
      >>> zero = jnp.uint32(0)
      >>> [hex(int(word)) for word in threefry(jnp.zeros(2, jnp.uint32), zero, zero)]
      ['0x6b200159', '0x99ba4efe']
    """
    schedule = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(PARITY))
    high, low = high + schedule[0], low + schedule[1]
    for turn in range(ROUNDS):
        high = high + low
        rotation = ROTATIONS[turn % 8]
        low = high ^ ((low << rotation) | (low >> (32 - rotation)))
        if turn % 4 == 3:
            injected = turn // 4 + 1
            high = high + schedule[injected % 3]
            low = low + schedule[(injected + 1) % 3] + jnp.uint32(injected)
    return high, low


def normals(
    key: UInt32[Array, "2"], first: UInt32[Array, ""] | int, count: int
) -> Float[Array, " count"]:
    """Numbers `first` to `first + count` of `jax.random.normal(key, (n,))`, whatever `n` is.

    Args:
      key: raw words of a key.
      first: how many numbers of the key's stream are passed over.
      count: how many are wanted; `first + count` is below 2**32.
    """
    bits = _bits_once(key, jnp.uint32(first), count)
    fraction = (bits >> 9) | jnp.uint32(0x3F800000)  # of a float32 in [1, 2)
    below_one = jax.lax.bitcast_convert_type(fraction, jnp.float32) - 1
    lowest = np.nextafter(np.float32(-1), np.float32(0))
    uniform = jnp.maximum(lowest, below_one * (1 - lowest) + lowest)
    return np.float32(np.sqrt(2)) * jax.lax.erf_inv(uniform)


def _bits_once(key: UInt32[Array, "2"], first: jax.Array, count: int) -> UInt32[Array, " count"]:
    """Random words of the counters from `first` on, by a loop: what leaves one is not made twice.

    What is made by simple operations alone, XLA makes anew wherever it is used.
    """
    size = -(-_few(count) // BLOCKS)

    def block(_: None, start: jax.Array) -> tuple[None, jax.Array]:
        high, low = threefry(key, jnp.uint32(0), start + _counters((size,))[1])
        return None, high ^ low

    starts = first + jnp.uint32(size) * _counters((BLOCKS,))[1]
    return jax.lax.scan(block, None, starts)[1].reshape(-1)[:count]


def _few(count: int) -> int:
    if count >= 2**32:
        raise ValueError(f"{count} random numbers from one key")
    return count


def _counters(shape: tuple[int, ...]) -> Words:
    """0, 1, 2, ... in the given shape."""
    size = _few(math.prod(shape))
    low = jax.lax.iota(jnp.uint32, size).reshape(shape)
    return jnp.zeros_like(low), low


def _random_bits(key: jax.Array, width: int, shape: tuple[int, ...]) -> jax.Array:
    if width > 32:
        raise ValueError(f"random numbers of {width} bits")
    high, low = threefry(key, *_counters(shape))
    return (high ^ low).astype(jnp.dtype(f"uint{width}"))


def _split(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jnp.stack(threefry(key, *_counters(shape)), axis=-1)


def _fold_in(key: jax.Array, number: jax.Array | int) -> jax.Array:
    return jnp.stack(threefry(key, jnp.uint32(0), jnp.uint32(number)))


def _seed(seed: jax.Array) -> jax.Array:
    return jnp.stack([jnp.uint32(0), jnp.uint32(seed)])


THREEFRY = define_prng_impl(
    key_shape=(2,),
    seed=_seed,
    split=_split,
    random_bits=_random_bits,
    fold_in=_fold_in,
    name="threefry2x32_written_out",
    tag="fryw",
)
"""The `impl` of typed keys whose numbers are those of JAX's own `threefry2x32`, bit for bit."""
