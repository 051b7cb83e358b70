"""Keyed hold-out split: each record's assignment is a keyed hash of its own identifier."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from rdpjax.errors import UserError

_PURPOSE = b"rdpjax holdout"


def holdout_mask(ids: Sequence[str], fraction: float, key: bytes) -> np.ndarray:
    """Assign each record to the hold-out where BLAKE2b(key, id) < fraction * 2**64.

    Args:
      ids: an identifier per record; the record's own text where the table has none.
      fraction: the expected share held out, in [0, 1).
      key: 16 to 64 secret bytes, drawn independently of the data.

    Returns:
      bool `[records]`, True where the record is held out.

    Raises:
      UserError: fraction outside [0, 1), or a key of another length.

    Guarantees:
      - A record's fate depends on its own identifier and on the key, on nothing else: adding,
        removing or reordering other records never changes it. So the training table's neighbours
        are the whole table's neighbours, and the split costs no privacy (nor is it ever claimed as
        amplification).
      - Equal identifiers fall together; where the record's text is the identifier, so do exact
        duplicates of a row. `7` and `07` are different identifiers.
      - A larger fraction under the same key only adds records.
      - The threshold is an exact integer, floor(fraction * 2**64): with BLAKE2b as a random
        function, the probability falls short of `fraction` by less than 2**-64.
      - Fraction 0 holds out none. No records give an empty mask. Any table may, by chance, lose
        none or all of its few records: the number is binomial, not fixed.

    Examples:
      >>> holdout_mask(["a", "b", "a"], 0.5, bytes(16))
      array([False,  True, False])
      >>> int(holdout_mask([str(i) for i in range(10_000)], 0.2, bytes(16)).sum())
      1989
    """
    if not 0 <= fraction < 1:
        raise UserError(f"holdout {fraction}: must be at least 0 and below 1, such as 0.2")
    if not 16 <= len(key) <= 64:
        raise UserError(f"holdout key of {len(key)} bytes: give 16 to 64 bytes")
    # Digests of equal length compare as the big-endian integers that they encode.
    threshold = int(Fraction(fraction) * 2**64).to_bytes(8, "big")
    keyed = hashlib.blake2b(digest_size=8, key=key, person=_PURPOSE)

    def held_out(identifier: str) -> bool:
        state = keyed.copy()
        state.update(identifier.encode())
        return state.digest() < threshold

    return np.fromiter((held_out(i) for i in ids), dtype=bool, count=len(ids))
