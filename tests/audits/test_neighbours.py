"""Neighbours differ in one record, and in nothing else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from rdpjax.audits.replay.neighbours import neighbourhood
from rdpjax.codecs.table import TableCodec
from rdpjax.codecs.two_level import TwoLevelCodec
from rdpjax.data.schema import Schema
from rdpjax.data.stays.patients import Patients
from rdpjax.data.stays.sepsis import LONGEST
from rdpjax.data.stays.simulate_sepsis import simulated_table
from rdpjax.datasets.sepsis import SEPSIS
from tests.audits.toy import toy_dataset


@pytest.fixture(scope="module")
def patients() -> Patients:
    return simulated_table().patients.take(np.arange(300))


def same(a: Patients, b: Patients) -> None:
    for name in ("values", "starts", "first", "onset", "statics"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_a_table_and_its_neighbours(toy_schema: Schema, toy_frame: pd.DataFrame) -> None:
    found = neighbourhood(toy_frame, toy_dataset(toy_schema), TableCodec(toy_schema), 101)
    assert len(found.base) == 101 and (found.base["ill"] == 1).sum() >= 50
    for table in found.added.values():
        pd.testing.assert_frame_equal(table.iloc[:-1], found.base)
        assert (table.dtypes == found.base.dtypes).all()
    kept = found.base.drop(index=found.place).reset_index(drop=True)
    pd.testing.assert_frame_equal(found.removed, kept)
    assert found.added["extreme"].iloc[-1].tolist() == [20.0, 90.0, "west", 1]
    assert found.added["out of range"].iloc[-1].tolist() == [1e300, -np.inf, "west", 1]
    typical = found.added["typical"].iloc[[-1]].reset_index(drop=True)
    assert typical.merge(toy_frame, how="inner").shape[0] >= 1


def test_all_records_may_be_asked_for(toy_schema: Schema, toy_frame: pd.DataFrame) -> None:
    found = neighbourhood(toy_frame[:7], toy_dataset(toy_schema), TableCodec(toy_schema), 2000)
    assert len(found.base) == 6 and len(found.added["typical"]) == 7


def test_patients_and_their_neighbours(patients: Patients) -> None:
    found = neighbourhood(patients, SEPSIS, TwoLevelCodec(24), 100)
    assert len(found.base) == 100
    for added in found.added.values():
        assert len(added) == 101
        same(added.take(np.arange(100)), found.base)
    assert set(found.added) == {"typical", "longest stay", "extreme", "out of range"}
    assert found.added["longest stay"].stays[-1] == patients.stays.max()
    assert found.added["extreme"].stays[-1] == LONGEST
    assert np.isfinite(found.added["extreme"].values[-LONGEST:]).all()
    same(found.removed, found.base.take(np.delete(np.arange(100), found.place)))
