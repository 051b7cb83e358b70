from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdpjax.data.holdout import holdout_mask
from rdpjax.errors import UserError

KEY = bytes(range(32))


@given(st.lists(st.text(max_size=8), max_size=10), st.floats(0, 1, exclude_max=True))
def test_a_records_fate_is_its_own(ids: list[str], fraction: float):
    mask = holdout_mask(ids, fraction, KEY)
    assert mask.dtype == bool and mask.shape == (len(ids),)
    alone = [bool(holdout_mask([one], fraction, KEY)[0]) for one in ids]
    assert mask.tolist() == alone


@given(st.lists(st.text(max_size=8), max_size=10), st.floats(0, 0.99), st.floats(0, 0.99))
def test_a_larger_fraction_only_adds(ids: list[str], one: float, other: float):
    small, large = sorted((one, other))
    assert not (holdout_mask(ids, small, KEY) & ~holdout_mask(ids, large, KEY)).any()


def test_duplicates_fall_together_and_spelling_counts():
    ids = [str(i % 100) for i in range(300)]
    mask = holdout_mask(ids, 0.5, KEY).reshape(3, 100)
    assert (mask == mask[0]).all() and 0 < mask[0].sum() < 100
    padded = holdout_mask([f"0{i}" for i in range(100)], 0.5, KEY)
    assert (padded != mask[0]).any()


def test_share_and_independence_of_keys():
    ids = [str(i) for i in range(50_000)]
    one, other = (holdout_mask(ids, 0.2, key) for key in (KEY, KEY[::-1]))
    # Five standard deviations of a binomial of 50,000.
    assert abs(one.sum() - 10_000) < 5 * np.sqrt(50_000 * 0.2 * 0.8)
    assert abs((one & other).sum() - 2_000) < 5 * np.sqrt(50_000 * 0.04 * 0.96)


def test_edges():
    ids = [str(i) for i in range(1000)]
    assert not holdout_mask(ids, 0, KEY).any()
    assert not holdout_mask(ids, 2.0**-70, KEY).any()
    assert holdout_mask(ids, 1 - 2.0**-53, KEY).all()
    assert holdout_mask([], 0.2, KEY).shape == (0,)


def test_threshold_is_exact():
    digest = hashlib.blake2b(b"7", digest_size=8, key=KEY, person=b"rdpjax holdout").digest()
    value = int.from_bytes(digest, "big")
    # Both are exact in float64 once the last 11 bits are cut off.
    at = (value >> 11) / 2**53
    assert not holdout_mask(["7"], at, KEY)[0]
    assert holdout_mask(["7"], at + 2.0**-53, KEY)[0]


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, float("nan"), float("inf")])
def test_fraction_outside_is_refused(fraction: float):
    with pytest.raises(UserError, match=r"holdout .*must be at least 0 and below 1"):
        holdout_mask(["a"], fraction, KEY)


@pytest.mark.parametrize("length", [0, 15, 65])
def test_key_length(length: int):
    with pytest.raises(UserError, match=f"key of {length} bytes"):
        holdout_mask(["a"], 0.2, bytes(length))
