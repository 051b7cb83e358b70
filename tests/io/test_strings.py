from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdpjax.io.strings import Strings, in_blocks

BLOCKS = st.lists(st.lists(st.text(max_size=5), max_size=4), max_size=4)


@given(BLOCKS)
def test_it_is_the_sequence_of_its_strings(blocks: list[list[str]]):
    strings, plain = Strings(blocks), [text for block in blocks for text in block]
    assert list(strings) == plain and len(strings) == len(plain)
    assert [strings[i] for i in range(-len(plain), len(plain))] == plain + plain
    assert list(strings[1:3]) == plain[1:3]
    assert strings.distinct == (len(set(plain)) == len(plain))
    assert [text for block in Strings(strings.blocks()).blocks() for text in block] == plain


@given(BLOCKS, st.data())
def test_a_mask_chooses(blocks: list[list[str]], data: st.DataObject):
    plain = [text for block in blocks for text in block]
    mask = data.draw(st.lists(st.booleans(), min_size=len(plain), max_size=len(plain)))
    chosen = Strings(blocks).blocks(np.array(mask, dtype=bool))
    kept = [text for text, keep in zip(plain, mask, strict=True) if keep]
    assert [text for block in chosen for text in block] == kept


def test_an_index_beyond_the_end():
    with pytest.raises(IndexError):
        Strings([["a"]])[1]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 7])
def test_no_block_is_empty_or_too_long(count: int):
    blocks = list(in_blocks(range(count), 3))
    assert [value for block in blocks for value in block] == list(range(count))
    assert all(0 < len(block) <= 3 for block in blocks)
