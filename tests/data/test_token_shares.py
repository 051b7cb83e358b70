"""Groups of bins, their shares and their features."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rdpjax.data.grouping import group_cells
from rdpjax.data.schema import Categorical, Numeric, Schema
from rdpjax.data.tokenizer import Marginals, Tokenizer
from tests.data.tables import TOY, random_marginals, schemas, seeds


@given(
    arrays(float, st.integers(1, 120), elements=st.sampled_from([0.0, 0.01, 0.5, 1.0, 7.0, 90.0])),
    st.integers(1, 64),
)
def test_groups_are_few_neighbours_and_leave_atoms_alone(weights: np.ndarray, max_codes: int):
    shares = (weights + 1e-9) / (weights + 1e-9).sum()
    groups = group_cells(shares, max_codes)
    assert groups[0] == 0 and set(np.diff(groups)) <= {0, 1}
    assert groups[-1] < max_codes
    if len(shares) <= max_codes:
        np.testing.assert_array_equal(groups, np.arange(len(shares)))
        return
    # More than max_codes groups at a smaller target bounds it: pairs of groups hold that much.
    sizes = np.bincount(groups)
    assert (sizes[groups[shares > 2 / max_codes + 1e-9]] == 1).all()


def test_shares_of_codes_add_up_and_stay_zero_beyond_a_column():
    tokenizer = Tokenizer.make(TOY, random_marginals(TOY, 3), max_codes=16)
    table = tokenizer.code_shares()
    assert table.shape == (5, tokenizer.width)
    np.testing.assert_allclose(table.sum(1), 1)
    for row, width in zip(table, tokenizer.widths, strict=True):
        assert not row[width:].any()
    assert tokenizer.widths[3:] == (3, 2)
    np.testing.assert_allclose(table[3, :3], tokenizer.marginals.shares[3])


# What networks see of a code.


def test_features_are_cosines_of_the_noisy_mid_rank():
    schema = Schema("two", (Numeric("x", "m", 0, 2), Categorical("y", (0, 1))), label="y")
    shares = (np.array([0.5, 0.25, 0.25]), np.array([0.2, 0.8]))
    found = Tokenizer.make(schema, Marginals(shares, (0.0, 0.0), 9.0)).code_features(4)
    assert (found.shape, found.dtype) == ((2, 3, 4), np.float32)
    for column, ranks in enumerate([[0.25, 0.625, 0.875], [0.1, 0.6]]):
        for code, rank in enumerate(ranks):
            expected = [math.sqrt(2) * math.cos(math.pi * k * rank) / k for k in (1, 2, 3, 4)]
            np.testing.assert_allclose(found[column, code], expected, rtol=1e-5, atol=1e-6)


@schemas
@given(seed=seeds, max_codes=st.integers(1, 64), order=st.integers(1, 12))
def test_features_are_bounded_and_zero_beyond_a_column(
    schema: Schema, seed: int, max_codes: int, order: int
):
    """Bounded whatever the noise was, and smoother ones larger; the first one tells codes apart."""
    tokenizer = Tokenizer.make(schema, random_marginals(schema, seed), max_codes)
    found = tokenizer.code_features(order)
    assert found.shape == (len(schema.columns), tokenizer.width, order)
    assert (np.abs(found) <= math.sqrt(2) / np.arange(1, order + 1) + 1e-6).all()
    for column, width in zip(found, tokenizer.widths, strict=True):
        assert not column[width:].any()
        assert (np.diff(column[:width, 0]) <= 0).all()  # ranks do not fall


def test_features_of_equally_shared_codes_are_orthogonal():
    """Mean 0 and variance 1 / k**2 over such a column: an input of known size, uncorrelated."""
    schema = Schema("one", (Numeric("x", "m", 0, 7), Categorical("y", (0, 1))), label="y")
    waves = Tokenizer.make(schema, Marginals.uniform(schema, 9.0)).code_features(6)[0].astype(float)
    np.testing.assert_allclose(waves.mean(0), np.zeros(6), atol=1e-6)
    expected = np.diag(1 / np.arange(1, 7) ** 2)
    np.testing.assert_allclose(waves.T @ waves / 8, expected, atol=1e-6)


def test_features_depend_on_the_noisy_shares_of_their_own_column_alone():
    marginals = random_marginals(TOY, 5)
    found = Tokenizer.make(TOY, marginals, 16).code_features(8)
    elsewhere = replace(marginals, halves=(0.0, 0.9, 0.0, 0.0, 0.0), records=7.0, deviation=4.0)
    np.testing.assert_array_equal(Tokenizer.make(TOY, elsewhere, 16).code_features(8), found)

    shares = (*marginals.shares[:3], np.array([0.1, 0.2, 0.7]), marginals.shares[4])
    moved = Tokenizer.make(TOY, replace(marginals, shares=shares), 16).code_features(8)
    np.testing.assert_array_equal(np.delete(moved, 3, axis=0), np.delete(found, 3, axis=0))
    assert (moved[3, :3] != found[3, :3]).any()
