"""Patients in memory: rows, hours, labels, and some of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rdpjax.data.stays.patients import Patients


def patients(stays: list[int], onset: list[int] | None = None) -> Patients:
    """Readings that tell patient and row: 1000 times the one plus the other."""
    n = len(stays)
    values = [1000 * i + t for i, stay in enumerate(stays) for t in range(stay)]
    return Patients(
        np.array(values, np.float32)[:, None],
        np.concatenate([[0], np.cumsum(stays)]).astype(int),
        np.arange(1, n + 1, dtype=np.int32),
        np.array(onset if onset is not None else [-1] * n, np.int32),
        np.arange(n, dtype=np.float32)[:, None],
        tuple(f"p{i}" for i in range(n)),
    )


many = st.lists(st.integers(1, 7), min_size=0, max_size=9)


@pytest.mark.parametrize(
    ("onset", "labels"),
    [(-1, [0, 0, 0]), (0, [1, 1, 1]), (1, [0, 1, 1]), (2, [0, 0, 1]), (3, [0, 0, 0])],
)
def test_the_label_is_1_from_onset_on(onset: int, labels: list[int]) -> None:
    assert patients([3], [onset]).labels.tolist() == labels


def test_hours_begin_where_the_record_does() -> None:
    some = patients([2, 3])
    assert some.hours.tolist() == [1, 2, 2, 3, 4] and some.row.tolist() == [0, 1, 0, 1, 2]


@given(many, st.integers(1, 10))
def test_blocks_are_the_patients(stays: list[int], size: int) -> None:
    whole = patients(stays)
    blocks = list(whole.blocks(size))
    assert [len(block) for block in blocks] == [
        min(size, len(stays) - a) for a in range(0, len(stays), size)
    ]
    assert [id for block in blocks for id in block.ids] == list(whole.ids)
    for a, block in zip(range(0, len(stays), size), blocks, strict=True):
        assert block.starts[0] == 0 and block.starts[-1] == len(block.values)
        for i in range(len(block)):
            rows = block.values[block.starts[i] : block.starts[i + 1], 0]
            assert rows.tolist() == [1000 * (a + i) + t for t in range(stays[a + i])]
        assert not len(block.values) or np.shares_memory(block.values, whole.values)


@given(many.filter(bool), st.data())
def test_take_is_the_chosen_in_their_order(stays: list[int], data: st.DataObject) -> None:
    chosen = data.draw(arrays(np.int64, (4,), elements=st.integers(0, len(stays) - 1)))
    taken = patients(stays).take(chosen)
    assert taken.ids == tuple(f"p{i}" for i in chosen)
    assert taken.first.tolist() == (chosen + 1).tolist()
    assert taken.statics[:, 0].tolist() == chosen.tolist()
    assert taken.values[:, 0].tolist() == [1000 * i + t for i in chosen for t in range(stays[i])]


def test_take_by_a_mask() -> None:
    some = patients([1, 2, 3])
    assert some.take(np.array([True, False, True])).stays.tolist() == [1, 3]
    none = some.take(np.zeros(3, bool))
    assert len(none) == 0 and none.values.shape == (0, 1) and none.labels.size == 0
    assert list(none.blocks()) == []
