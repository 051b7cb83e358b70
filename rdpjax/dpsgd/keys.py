"""Keys for every step and purpose, derived on the host from secret 256-bit roots.

The device gets only 64-bit ThreeFry keys, fresh for each (stage, step, purpose): two draws never
share a key, and keys are independent as far as keyed BLAKE2b is a pseudo-random function.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int32, Shaped, UInt32

from rdpjax.arrays import AnyArray

ROOT_BYTES = 32


class StepKeys(NamedTuple):
    """Raw ThreeFry keys, shape `(steps, 2)` each (or `(2,)` inside a step).

    Attributes:
      sampling: which records are drawn.
      noise: the Gaussian noise on the clipped sum; where it is discrete, the noise itself, int32
        `(steps, numbers)`.
      loss: randomness inside per-example losses (reparameterisation).
      update: randomness of post-processing (fake batches); never touches records.
    """

    sampling: UInt32[AnyArray, "*steps 2"]
    noise: UInt32[AnyArray, "*steps 2"] | Int32[AnyArray, "*steps numbers"]
    loss: UInt32[AnyArray, "*steps 2"]
    update: UInt32[AnyArray, "*steps 2"]


@dataclass(frozen=True)
class Roots:
    """Secret root keys of one run, one for each purpose.

    Attributes:
      sampling: root key of the Poisson draws.
      noise: root key of all privacy noise; deleted when a run completes.
      initialisation: root key of parameter initialisation, loss and update randomness.
      holdout: key of the hash that selects the held-out records, which nothing else uses.
      secret: False if derived from a user's seed: with the seed anyone can subtract the noise.
    """

    sampling: bytes
    noise: bytes
    initialisation: bytes
    holdout: bytes
    secret: bool = field(default=True, kw_only=True)

    @staticmethod
    def make(seed: int | None = None) -> Roots:
        """Draw roots from the operating system, or derive reproducible ones from a user's seed.

        Examples:
          >>> Roots.make(1) == Roots.make(1), Roots.make(1).secret
          (True, False)
          >>> Roots.make() == Roots.make()
          False
        """
        if seed is None:
            return Roots(*(os.urandom(ROOT_BYTES) for _ in range(4)))
        master = hashlib.blake2b(str(seed).encode(), digest_size=ROOT_BYTES).digest()
        names = ("sampling", "noise", "initialisation", "holdout")
        return Roots(*(_digest(master, name, ROOT_BYTES) for name in names), secret=False)

    @property
    def noise_id(self) -> str:
        """Public fingerprint of the noise key; lets the ledger recognise replayed steps."""
        return _digest(self.noise, "noise id", 8).hex()


def derive(root: bytes, stage: str, purpose: str, step: int = 0) -> UInt32[np.ndarray, "2"]:
    """Derive the raw ThreeFry key, uint32 of shape (2,), of (root, stage, purpose, step).

    Guarantees:
      Distinct (stage, purpose, step) give independent keys as far as keyed BLAKE2b is a
      pseudo-random function; the field separator cannot occur in a name, so no two triples
      share an input. The same triple gives the same key: a replayed step replays its noise. A root
      that was deleted gives no key.
    """
    digest = _digest(root, _path(stage, purpose, step), 8)
    return np.frombuffer(digest, dtype="<u4").astype(np.uint32)


def stream_key(root: bytes, stage: str, purpose: str, step: int = 0) -> bytes:
    """Derive a 32-byte key for a bit stream, of (root, stage, purpose, step); see `derive`."""
    return _digest(root, f"{_path(stage, purpose, step)}\x00stream", ROOT_BYTES)


def step_keys(roots: Roots, stage: str, start: int, steps: int) -> StepKeys:
    """Derive on the host the keys of steps `start` to `start + steps`, stacked for a scan."""

    def column(root: bytes, purpose: str) -> UInt32[np.ndarray, "steps 2"]:
        return np.stack(
            [derive(root, stage, purpose, step) for step in range(start, start + steps)]
        )

    return StepKeys(
        sampling=column(roots.sampling, "sampling"),
        noise=column(roots.noise, "noise"),
        loss=column(roots.initialisation, "loss"),
        update=column(roots.initialisation, "update"),
    )


def as_key(raw: UInt32[AnyArray, "*batch 2"]) -> Shaped[jax.Array, "*batch"]:
    """Wrap raw ThreeFry words of shape (..., 2) as a typed JAX key."""
    key: jax.Array = jax.random.wrap_key_data(jnp.asarray(raw), impl="threefry2x32")
    return key


def _path(stage: str, purpose: str, step: int) -> str:
    if "\x00" in stage + purpose:
        raise ValueError("a stage or purpose must not contain NUL")
    return f"{stage}\x00{purpose}\x00{step}"


def _digest(root: bytes, text: str, size: int) -> bytes:
    if len(root) != ROOT_BYTES:  # with an empty key BLAKE2b is an unkeyed, public hash
        raise ValueError("this root is gone: nothing can be derived from it any more")
    return hashlib.blake2b(text.encode(), key=root, digest_size=size).digest()
