"""Grouping of neighbouring bins of about equal share: one token a group."""

from __future__ import annotations

import numpy as np


def group_cells(shares: np.ndarray, max_codes: int) -> np.ndarray:
    """Group neighbouring bins, at most `max_codes` groups of about equal share, atoms alone.

    Returns:
      int array: the group of every bin, non-decreasing from 0 without gaps.

    Examples:
      >>> group_cells(np.array([0.1, 0.1, 0.6, 0.1, 0.1]), 3).tolist()
      [0, 0, 1, 2, 2]
    """
    if len(shares) <= max_codes:
        return np.arange(len(shares))

    def grouped(target: float) -> np.ndarray:
        groups, group, mass = np.empty(len(shares), int), 0, 0.0
        for cell, share in enumerate(shares):
            # A group ends when it is full, and before and after an atom.
            if cell and (mass + share / 2 > target or share >= target):
                group, mass = group + 1, 0.0
            groups[cell] = group
            mass = np.inf if share >= target else mass + share
        return groups

    low, high = 0.0, 2.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if grouped(middle)[-1] >= max_codes else (low, middle)
    return grouped(high)
