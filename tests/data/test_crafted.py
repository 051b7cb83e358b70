"""Crafted records: valid, varied, and of every data set."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rdpjax.codecs.two_level import TwoLevelCodec
from rdpjax.data.cardio import CARDIO
from rdpjax.data.crafted import join_frames, table_canaries
from rdpjax.data.frame import check_frame
from rdpjax.data.schema import Categorical, Schema
from rdpjax.data.stays.crafted import join_patients, patient_canaries
from rdpjax.data.stays.sepsis import BOUNDS, LONGEST
from rdpjax.data.tokenizer import encode_cells
from rdpjax.datasets.registry import datasets


def test_every_data_set_has_canaries() -> None:
    for dataset in datasets().values():
        assert len(dataset.crafted(3, np.random.default_rng(0))) == 3


@pytest.mark.parametrize("count", [0, 1, 7, 1000])
def test_rows_are_valid_and_spread_evenly(count: int) -> None:
    crafted = table_canaries(CARDIO, count, np.random.default_rng(1))
    assert len(crafted) == count
    if count == 0:
        return
    check_frame(CARDIO, crafted)
    cells = encode_cells(CARDIO, crafted)
    for j, column in enumerate(CARDIO.columns):
        times = np.bincount(cells[:, j], minlength=column.cells)
        assert times.max() - times.min() <= 2, column.name
        if isinstance(column, Categorical):
            assert set(crafted[column.name]) <= set(column.levels)
        else:
            assert crafted[column.name].between(column.low, column.high).all()


def test_columns_do_not_go_together() -> None:
    cells = encode_cells(CARDIO, table_canaries(CARDIO, 3000, np.random.default_rng(2)))
    between = np.corrcoef(cells.T.astype(float)) - np.eye(len(CARDIO.columns))
    assert np.abs(between).max() < 5 / np.sqrt(3000)


def test_any_schema_will_do(toy_schema: Schema) -> None:
    crafted = table_canaries(toy_schema, 90, np.random.default_rng(3))
    check_frame(toy_schema, crafted)
    assert set(crafted["ward"]) == {"north", "south", "west"}


@pytest.mark.parametrize("count", [1, 5, 300])
def test_patients_are_valid(count: int) -> None:
    crafted = patient_canaries(count, np.random.default_rng(4))
    assert len(crafted) == len(crafted.ids) == count
    assert crafted.starts[-1] == len(crafted.values)
    assert (crafted.stays >= 1).all()
    assert (crafted.stays <= LONGEST).all()
    assert (crafted.onset < crafted.stays).all()
    assert (crafted.first >= 1).all()
    low, high = BOUNDS.astype(np.float32).T
    read = ~np.isnan(crafted.values)
    values = np.where(read, crafted.values, low)
    assert ((values >= low) & (values <= high)).all()
    assert TwoLevelCodec(24).schema.columns  # the form that takes them
    if count == 300:
        assert set(np.sign(crafted.onset)) == {-1, 0, 1}
        assert read.any(axis=0).all()


def test_joined_records_are_the_first_then_the_second() -> None:
    one, two = (patient_canaries(n, np.random.default_rng(n)) for n in (3, 4))
    both = join_patients(one, two)
    for part, chosen in ((one, np.arange(3)), (two, np.arange(3, 7))):
        again = both.take(chosen)
        np.testing.assert_array_equal(again.values, part.values)
        np.testing.assert_array_equal(again.starts, part.starts)
        np.testing.assert_array_equal(again.onset, part.onset)
    join = join_frames
    frame = pd.DataFrame({"a": [1, 2], "extra": [0, 0]})
    assert join(frame, pd.DataFrame({"a": [3]}))["a"].tolist() == [1, 2, 3]
