"""Data sets that differ in one record, for any kind of records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from rdpjax.data.forms import Form, PatientForm
from rdpjax.data.schema import Categorical, Schema
from rdpjax.data.stays.patients import Patients
from rdpjax.data.stays.sepsis import LONGEST


@dataclass(frozen=True)
class Neighbourhood:
    """A data set and its neighbours.

    Attributes:
      base: canonical records.
      added: the base with one record more, at its end, by what that record is.
      removed: the base without the record at `place`.
      place: an index in the middle.
    """

    base: Any
    added: Mapping[str, Any]
    removed: Any
    place: int


def neighbourhood(records: Any, form: Form, most: int) -> Neighbourhood:
    """Neighbours of at most `most` of the records.

    As many of those as there are, up to half, are of positive label: few records must do for a
    pipeline that refuses one class.

    Args:
      records: canonical records, a frame or patients, two or more.
      form: of the records.
      most: how many to take, two or more.

    Examples:
      >>> from rdpjax.data.forms import TableForm
      >>> from rdpjax.data.schema import Numeric
      >>> schema = Schema("s", (Numeric("x", "m", 0, 9), Categorical("y", (0, 1))), label="y")
      >>> table = pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0], "y": [0, 0, 0, 1]})
      >>> found = neighbourhood(table, TableForm(schema), 2)
      >>> found.base["x"].tolist(), found.removed["x"].tolist(), list(found.added)
      ([1.0, 4.0], [1.0], ['typical', 'extreme', 'out of range'])
      >>> found.added["extreme"]["x"].tolist()
      [1.0, 4.0, 9.0]
    """
    if isinstance(records, Patients):
        assert isinstance(form, PatientForm)
        return _of_patients(records, form, most)
    return _of_table(records, form.schema, most)


def _chosen(positive: np.ndarray, most: int) -> tuple[np.ndarray, int]:
    """Indices of up to `most` records, rising, and that of one more.

    Positive ones first, up to half; where all are taken, the last of them is the one more.
    """
    first = np.flatnonzero(positive)[: most // 2]
    rest = np.setdiff1d(np.arange(len(positive)), first)[: most + 1 - len(first)]
    taken, other = np.sort(np.concatenate([first, rest[:-1]])), int(rest[-1])
    return taken, other


def _of_table(frame: pd.DataFrame, schema: Schema, most: int) -> Neighbourhood:
    levels = np.array(_levels(schema.column(schema.label)))[schema.is_positive]
    taken, other = _chosen(frame[schema.label].isin(levels.tolist()).to_numpy(), most)
    base = frame.iloc[taken].reset_index(drop=True)
    # Each value at an end of its column, the rarest level among them, and then far outside.
    last = {c.name: _levels(c)[-1] if _levels(c) else c.high for c in schema.columns}  # type: ignore[union-attr]
    far = [1e300, -np.inf, np.nan]
    numerics = [c.name for c in schema.columns if not isinstance(c, Categorical)]
    rows = {
        "typical": frame.iloc[[other]],
        "extreme": pd.DataFrame([last]),
        "out of range": pd.DataFrame(
            [last | {name: far[i % len(far)] for i, name in enumerate(numerics)}]
        ),
    }
    added = {
        what: pd.concat([base, row[list(base.columns)].astype(base.dtypes)], ignore_index=True)
        for what, row in rows.items()
    }
    place = len(base) // 2
    return Neighbourhood(base, added, base.drop(index=place).reset_index(drop=True), place)


def _levels(column: Any) -> tuple[int | str, ...]:
    return column.levels if isinstance(column, Categorical) else ()


def _of_patients(patients: Patients, form: PatientForm, most: int) -> Neighbourhood:
    positive = (patients.onset >= 0) & (patients.onset < form.hours)
    taken, other = _chosen(positive, most)
    base = patients.take(taken)
    longest = patients.take(np.array([patients.stays.argmax()]))
    # Everything measured in every hour of the longest stay that there can be: up and down between
    # what is usual and what is not, then what no monitor shows.
    shape = (LONGEST, patients.values.shape[1])
    usual = np.nanmedian(base.values, axis=0, keepdims=True)
    swings = np.where(np.arange(LONGEST)[:, None] % 2 == 0, usual, 10 * np.abs(usual) + 10)
    far = np.resize(np.array([1e30, -1e30, np.inf, -np.inf, 0.0]), shape)
    statics = np.where(np.isnan(longest.statics), 1.0, longest.statics)
    one = replace(
        longest,
        values=np.nan_to_num(swings).astype(np.float32),
        starts=np.array([0, LONGEST]),
        first=np.ones(1, np.int32),
        onset=np.zeros(1, np.int32),
        statics=statics.astype(np.float32),
        ids=("added",),
    )
    rows = {
        "typical": patients.take(np.array([other])),
        "longest stay": replace(longest, ids=("added",)),
        "extreme": one,
        "out of range": replace(
            one, values=far.astype(np.float32), statics=np.full_like(one.statics, np.inf)
        ),
    }
    place = len(base) // 2
    removed = base.take(np.delete(np.arange(len(base)), place))
    added = {what: _joined(base, row) for what, row in rows.items()}
    return Neighbourhood(base, added, removed, place)


def _joined(a: Patients, b: Patients) -> Patients:
    return Patients(
        np.concatenate([a.values, b.values]),
        np.concatenate([a.starts, b.starts[1:] + a.starts[-1]]),
        np.concatenate([a.first, b.first]),
        np.concatenate([a.onset, b.onset]),
        np.concatenate([a.statics, b.statics]),
        (*a.ids, *b.ids),
    )
