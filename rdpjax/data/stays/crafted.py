"""Crafted patients: stays of all lengths, readings at extremes and beyond."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rdpjax.data.crafted import evenly
from rdpjax.data.stays.patients import Patients
from rdpjax.data.stays.sepsis import LONGEST, STATICS, VARIABLES


def patient_canaries(count: int, random: np.random.Generator, hours: int = 24) -> Patients:
    """Patients with stays of all lengths, every variable at an extreme of its own or never read.

    Args:
      count: how many.
      random: of the crafting.
      hours: about how long the modelled part of a stay is.
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
    """Single patients: the longest stay there is, and crafted ones.

    Args:
      base: patients whose medians say what is usual.
      records: all patients.

    Returns:
      By what they are: `longest stay`; `extreme`, with everything measured in every hour of the
      longest stay that there can be, up and down between what is usual and what is not; `out of
      range`, with what no monitor shows.
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
    """Both, one after the other."""
    return Patients(
        np.concatenate([first.values, second.values]),
        np.concatenate([first.starts, first.starts[-1] + second.starts[1:]]),
        np.concatenate([first.first, second.first]),
        np.concatenate([first.onset, second.onset]),
        np.concatenate([first.statics, second.statics]),
        (*first.ids, *second.ids),
    )
