"""Search a release for numbers and words that it must not tell."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

NUMBER = re.compile(rb"(?<![\w.+-])\d+(?:\.\d+)?(?![\w.])")


@pytest.fixture(scope="session")
def findings() -> Callable[[Path, set[float], set[str]], list[str]]:
    """`findings(release, numbers, words)`: where a release tells a number, by itself or as a shape.

    Or a word. Readings of patients may be any number: their files are searched for words, their
    arrays and tables for shapes.
    """
    import pyarrow.parquet as pq

    def told(path: Path) -> set[float]:
        if path.suffix == ".npy":
            return set(map(float, np.load(path, mmap_mode="r").shape))
        if path.suffix == ".parquet":
            return {float(pq.read_metadata(path).num_rows)}
        if path.suffix == ".psv":
            return set()
        return set(map(float, NUMBER.findall(path.read_bytes())))

    def findings(release: Path, numbers: set[float], words: set[str]) -> list[str]:
        found = []
        for path in sorted(p for p in release.rglob("*") if p.is_file()):
            raw = path.read_bytes()
            found += [f"{path.name}: {word}" for word in words if word.encode() in raw]
            if path.suffix == ".npz":
                for name, array in np.load(path).items():
                    shapes = numbers & set(array.shape)
                    values = numbers & set(np.unique(array.astype(float)).tolist())
                    found += [f"{name}: {value}" for value in shapes | values]
                    found += [f"{name}: {word}" for word in words if word in name]
            else:
                found += [f"{path.name}: {number}" for number in numbers & told(path)]
        return found

    return findings
