"""Canaries of patients: stays of all lengths, with readings at and beyond the bounds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rdpjax.data.crafted import evenly
from rdpjax.data.stays.patients import Patients
from rdpjax.data.stays.sepsis import LONGEST, STATICS, VARIABLES


def patient_canaries(count: int, random: np.random.Generator, hours: int = 24) -> Patients:
    """Craft patients with stays of all lengths; each variable is at one extreme, or never read.

    Args:
      count: number of patients.
      random: random generator.
      hours: approximate number of modelled hours of a stay.
    """
    stays = 1 + evenly(2 * hours, count, random)
    starts = np.concatenate([[0], np.cumsum(stays)])
    levels = [
        np.linspace(v.low, v.high, 8)[evenly(8, count, random)].astype(np.float32)
        for v in VARIABLES
    ]
    often = [(0.0, 0.1, 0.5, 1.0)[i] for i in range(4)]
    shares = [np.asarray(often)[evenly(4, count, random)] for _ in VARIABLES]
    rows = np.repeat(np.arange(count), stays)
    level, share = np.stack(levels, axis=1)[rows], np.stack(shares, axis=1)[rows]
    values = np.where(random.random(level.shape) < share, level, np.nan).astype(np.float32)
    ill = evenly(2, count, random) == 1
    onset = np.where(ill, (random.random(count) * stays).astype(int), -1)
    unit = evenly(3, count, random)
    statics = np.stack(
        [
            evenly(101, count, random),
            evenly(2, count, random),
            unit == 1,
            unit == 2,
            -8.0 * evenly(60, count, random),
        ],
        axis=1,
    ).astype(np.float32)
    assert statics.shape[1] == len(STATICS)
    first = (1 + evenly(48, count, random)).astype(np.int32)
    names = tuple(f"canary{i}" for i in range(count))
    return Patients(values, starts, first, onset.astype(np.int32), statics, names)


def extreme_patients(base: Patients, records: Patients) -> dict[str, Patients]:
    """Craft single patients: the longest stay of the records, and stays at and beyond the bounds.

    Args:
      base: patients whose medians are the usual values.
      records: all patients.

    Returns:
      Patients by name: `longest stay`; `extreme`, every variable measured in every hour of the
      longest possible stay, alternating between the usual value and one far above it; `out of
      range`, with values that no monitor displays.
    """
    longest = records.take(np.array([records.stays.argmax()]))
    shape = (LONGEST, records.values.shape[1])
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
    return {
        "longest stay": replace(longest, ids=("added",)),
        "extreme": one,
        "out of range": replace(
            one, values=far.astype(np.float32), statics=np.full_like(one.statics, np.inf)
        ),
    }


def join_patients(first: Patients, second: Patients) -> Patients:
    """Concatenate two sets of patients."""
    return Patients(
        np.concatenate([first.values, second.values]),
        np.concatenate([first.starts, first.starts[-1] + second.starts[1:]]),
        np.concatenate([first.first, second.first]),
        np.concatenate([first.onset, second.onset]),
        np.concatenate([first.statics, second.statics]),
        (*first.ids, *second.ids),
    )
