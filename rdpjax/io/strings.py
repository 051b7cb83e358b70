"""Packed sequences of strings, iterated without a Python object for each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute

BLOCK = 4_096
"""Records that are Python objects at one time while a table is read."""

T = TypeVar("T")


class Strings(Sequence[str]):
    """Immutable sequence of strings, packed end to end, block by block.

    Args:
      blocks: lists of strings or arrays from `pack`; consumed once.

    Examples:
      >>> names = Strings([["ada", "bo"], ["ada"]])
      >>> len(names), names[1], names[-1], list(names), names.distinct
      (3, 'bo', 'ada', ['ada', 'bo', 'ada'], False)
      >>> list(names.blocks(np.array([False, True, True])))
      [['bo'], ['ada']]
    """

    def __init__(self, blocks: Iterable[Sequence[str] | pa.Array] = ()) -> None:
        packed = [part for block in blocks for part in _cut(pack(block))]
        self._packed = pa.chunked_array(packed, pa.large_string())

    def __len__(self) -> int:
        return len(self._packed)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[str]: ...
    def __getitem__(self, at: int | slice) -> str | Sequence[str]:
        found = self._packed[at]
        return tuple(found.to_pylist()) if isinstance(at, slice) else str(found.as_py())

    def __iter__(self) -> Iterator[str]:
        for block in self.blocks():
            yield from block

    def blocks(self, mask: np.ndarray | None = None) -> Iterator[list[str]]:
        """Yield the strings, or those chosen by a bool `[strings]`, in lists of bounded length."""
        start = 0
        for block in self._packed.iterchunks():
            end = start + len(block)
            chosen = block if mask is None else block.filter(pa.array(mask[start:end]))
            yield chosen.to_numpy(zero_copy_only=False).tolist()
            start = end

    @property
    def distinct(self) -> bool:
        """Whether all strings differ."""
        return bool(pa.compute.count_distinct(self._packed).as_py() == len(self))


def _cut(packed: pa.Array) -> list[pa.Array]:
    return [packed.slice(start, BLOCK) for start in range(0, len(packed), BLOCK)]


def pack(strings: Sequence[str] | pa.Array) -> pa.Array:
    """Pack strings as one Arrow array; a packed one is returned as it is."""
    return strings if isinstance(strings, pa.Array) else pa.array(strings, pa.large_string())


def in_blocks(values: Iterable[T], size: int = BLOCK) -> Iterator[list[T]]:
    """Yield lists of `size` values in order; the last one may be shorter, none is empty.

    Examples:
      >>> list(in_blocks("abcde", 2))
      [['a', 'b'], ['c', 'd'], ['e']]
    """
    rest = iter(values)
    while block := list(islice(rest, size)):
        yield block
