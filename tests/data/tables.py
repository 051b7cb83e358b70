"""Small tables: one with a column of every kind and its marginals by chance, one of three rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import strategies as st

from rdpjax.data.cardio import CARDIO
from rdpjax.data.schema import Categorical, Numeric, Schema
from rdpjax.data.tokenizer import Marginals, Tokenizer

TOY = Schema(
    "toy",
    (
        Numeric("whole", "mmHg", 3, 60),
        Numeric("half", "kg", 30, 90, resolution=0.1, within="halves"),
        Numeric("days", "d", 29.5 * 365.25, 66 * 365.25, cell=365.25 / 4, within="uniform"),
        Categorical("level", ("low", "mid", "high")),
        Categorical("y", (0, 1)),
    ),
    label="y",
)
SMALL = Schema(
    "small",
    (Numeric("height", "m", 0, 9), Categorical("k", ("a", "b")), Categorical("y", (0, 1))),
    label="y",
)
FRAME = pd.DataFrame({"height": [1.0, 2.0, 3.0], "k": ["a", "b", "a"], "y": [1, 0, 1]})
schemas = pytest.mark.parametrize("schema", [TOY, CARDIO], ids=lambda s: s.name)
seeds = st.integers(0, 2**32 - 1)


def random_marginals(schema: Schema, seed: int, halves: float = 0.3) -> Marginals:
    """Shares with atoms and many zeros, as a projection leaves them."""
    rng = np.random.default_rng(seed)
    shares = []
    for column in schema.columns:
        share = rng.dirichlet(np.full(column.cells, 0.3))
        share[rng.random(column.cells) < 0.3] = 0
        share[rng.integers(column.cells)] += 0.2
        shares.append(share / share.sum())
    modelled = [getattr(c, "within", "") == "halves" for c in schema.columns]
    return Marginals(tuple(shares), tuple(halves * m for m in modelled), 1000.0)


def random_rows(tokenizer: Tokenizer, seed: int, rows: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Codes and uniforms, the extreme ones among them."""
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(0, w, rows) for w in tokenizer.widths], axis=1)
    uniforms = rng.random((rows, len(tokenizer.widths), 2))
    uniforms[:50, :, 0], uniforms[25:75, :, 1] = 0.0, 0.0
    uniforms[75:150, :, 0] = uniforms[100:200, :, 1] = np.nextafter(1, 0)
    return codes, uniforms
