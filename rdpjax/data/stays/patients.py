"""Patients in memory: ragged hourly stays, concatenated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Patients:
    """Hourly readings of many patients, each on a grid of whole hours.

    Attributes:
      values: float32 `[rows, variables]`, clinical units, NaN where nothing was measured; a row
        is an hour, a patient's rows are consecutive and none is left out.
      starts: int64 `[patients + 1]`: patient i has the rows `starts[i]:starts[i + 1]`, 1 or more.
      first: int32 `[patients]`: the hour in intensive care (`ICULOS`) of the first row, 1 or more.
      onset: int32 `[patients]`: number of rows before the label turns positive; -1 for never. It
        stays positive from there on.
      statics: float32 `[patients, statics]`, NaN where missing.
      ids: one identifier a patient.

    Examples:
      >>> two = Patients(np.zeros((5, 1), np.float32), np.array([0, 2, 5]), np.array([1, 1]),
      ...                np.array([-1, 1]), np.zeros((2, 1), np.float32), ("a", "b"))
      >>> len(two), two.stays.tolist(), two.labels.tolist()
      (2, [2, 3], [0, 0, 0, 1, 1])
      >>> two.take(np.array([1])).hours.tolist()
      [1, 2, 3]
    """

    values: np.ndarray
    starts: np.ndarray
    first: np.ndarray
    onset: np.ndarray
    statics: np.ndarray
    ids: Sequence[str]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def stays(self) -> np.ndarray:
        """Length of each stay in hours, int64 `[patients]`."""
        lengths: np.ndarray = np.diff(self.starts)
        return lengths

    @property
    def row(self) -> np.ndarray:
        """Index of each row within its stay, from 0, int64 `[rows]`."""
        row: np.ndarray = np.arange(len(self.values)) - np.repeat(self.starts[:-1], self.stays)
        return row

    @property
    def hours(self) -> np.ndarray:
        """Hour in intensive care of each row (`ICULOS`), int64 `[rows]`."""
        hours: np.ndarray = self.row + np.repeat(self.first, self.stays)
        return hours

    @property
    def labels(self) -> np.ndarray:
        """Label of each row, 0 or 1, int8 `[rows]`."""
        onset = np.repeat(self.onset, self.stays)
        return ((onset >= 0) & (self.row >= onset)).astype(np.int8)

    def blocks(self, size: int = 2048) -> Iterator[Patients]:
        """Yield the patients in order, at most `size` at a time, as views."""
        for a in range(0, len(self), size):
            b = min(a + size, len(self))
            rows = slice(self.starts[a], self.starts[b])
            yield Patients(
                self.values[rows],
                self.starts[a : b + 1] - self.starts[a],
                self.first[a:b],
                self.onset[a:b],
                self.statics[a:b],
                self.ids[a:b],
            )

    def take(self, chosen: np.ndarray) -> Patients:
        """Select patients by indices (or a bool mask), in that order."""
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        stays = self.stays[chosen]
        starts = np.concatenate([[0], np.cumsum(stays)])
        rows = np.arange(starts[-1]) + np.repeat(self.starts[:-1][chosen] - starts[:-1], stays)
        return Patients(
            self.values[rows],
            starts,
            self.first[chosen],
            self.onset[chosen],
            self.statics[chosen],
            tuple(self.ids[i] for i in chosen.tolist()),
        )
