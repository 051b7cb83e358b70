"""Crafted records: valid under the schema, unlike anybody's, and unlike each other.

Every column goes through all of its values, evenly and in an order of its own. So a canary has
values that hardly any record has, in combinations that none has, with a label that does not fit;
what a network learns of a canary it learns from that canary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from rdpjax.data.cardio import CARDIO
from rdpjax.data.schema import Categorical, Schema
from rdpjax.data.stays.patients import Patients
from rdpjax.data.stays.sepsis import STATICS, VARIABLES


def table_canaries(schema: Schema, count: int, random: np.random.Generator) -> pd.DataFrame:
    """Canonical records of a table, `count` of them.

    Guarantees:
      Every value lies within the schema's bounds or is one of its levels; no record is read.

    Examples:
      >>> from rdpjax.data.schema import Numeric
      >>> schema = Schema("s", (Numeric("x", "m", 0, 9), Categorical("y", (0, 1))), label="y")
      >>> crafted = table_canaries(schema, 20, np.random.default_rng(0))
      >>> sorted(crafted.x) == sorted([*range(10)] * 2), crafted.y.sum()
      (True, np.int64(10))
    """
    columns = {}
    for column in schema.columns:
        cells = _evenly(column.cells, count, random)
        if isinstance(column, Categorical):
            columns[column.name] = np.asarray(column.levels)[cells]
        else:
            values = np.ceil((column.low + column.cell * cells) / column.resolution)
            columns[column.name] = np.minimum(values * column.resolution, column.high)
    return pd.DataFrame(columns)


def patient_canaries(count: int, random: np.random.Generator, hours: int = 24) -> Patients:
    """Patients with stays of all lengths, every variable at an extreme of its own or never read.

    Args:
      count: how many.
      random: of the crafting.
      hours: about how long the modelled part of a stay is.
    """
    stays = 1 + _evenly(2 * hours, count, random)
    starts = np.concatenate([[0], np.cumsum(stays)])
    levels = [
        np.linspace(v.low, v.high, 8)[_evenly(8, count, random)].astype(np.float32)
        for v in VARIABLES
    ]
    often = [(0.0, 0.1, 0.5, 1.0)[i] for i in range(4)]
    shares = [np.asarray(often)[_evenly(4, count, random)] for _ in VARIABLES]
    rows = np.repeat(np.arange(count), stays)
    level, share = np.stack(levels, axis=1)[rows], np.stack(shares, axis=1)[rows]
    values = np.where(random.random(level.shape) < share, level, np.nan).astype(np.float32)
    ill = _evenly(2, count, random) == 1
    onset = np.where(ill, (random.random(count) * stays).astype(int), -1)
    unit = _evenly(3, count, random)
    statics = np.stack(
        [
            _evenly(101, count, random),
            _evenly(2, count, random),
            unit == 1,
            unit == 2,
            -8.0 * _evenly(60, count, random),
        ],
        axis=1,
    ).astype(np.float32)
    assert statics.shape[1] == len(STATICS)
    first = (1 + _evenly(48, count, random)).astype(np.int32)
    names = tuple(f"canary{i}" for i in range(count))
    return Patients(values, starts, first, onset.astype(np.int32), statics, names)


def joined_patients(first: Patients, second: Patients) -> Patients:
    """Both, one after the other."""
    return Patients(
        np.concatenate([first.values, second.values]),
        np.concatenate([first.starts, first.starts[-1] + second.starts[1:]]),
        np.concatenate([first.first, second.first]),
        np.concatenate([first.onset, second.onset]),
        np.concatenate([first.statics, second.statics]),
        (*first.ids, *second.ids),
    )


def _joined_frames(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([first[list(second)], second], ignore_index=True)


def _evenly(values: int, count: int, random: np.random.Generator) -> np.ndarray:
    """`count` numbers below `values`, each as often as the others, shuffled."""
    return random.permutation(
        np.arange(count) * values // max(count, 1)
        if count > values
        else random.permutation(values)[:count]
    )


Craft = Callable[[int, np.random.Generator], Any]

CRAFTED: dict[str, tuple[Craft, Callable[[Any, Any], Any]]] = {
    "cardio": (lambda count, random: table_canaries(CARDIO, count, random), _joined_frames),
    "sepsis": (lambda count, random: patient_canaries(count, random), joined_patients),
}
"""By data set: how canaries are crafted, and how they are appended to records."""
