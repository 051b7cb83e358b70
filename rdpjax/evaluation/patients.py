"""Fidelity of synthetic patients to held-out real ones, and utility for a classifier.

All scores use the first hours of a stay (24), except the length and the label of a stay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from rdpjax.data.stays.patients import Patients
from rdpjax.data.stays.sepsis import COLUMNS, STATICS, VARIABLES
from rdpjax.errors import UserError
from rdpjax.evaluation.fidelity import ks_statistic
from rdpjax.evaluation.score import NOTE
from rdpjax.evaluation.utility import classification

HOURLY, COLUMN_COUNT = len(VARIABLES), len(VARIABLES) + len(STATICS)
COMMON = 7
"""Number of leading variables that are vital signs, frequent in most patients."""
_FEWEST_REAL = 300  # a variable with no more real readings has no KS distance
_FEWEST = 20  # with fewer readings on either side, it is 1
_FEWEST_PAIRS = 50, 200  # pairs for a correlation from one hour to the next, and across variables
_FEWEST_LABELLED = 10  # each class of the training label has more, or no model is trained
_BLOCK = 2000  # patients summarised per batch


def window_rows(patients: Patients, hours: int) -> tuple[np.ndarray, np.ndarray]:
    """Select the first hours of every stay.

    Returns:
      float64 `[rows, 39]`, hourly variables and statics; and the index of each row's patient.
    """
    kept = patients.row < hours
    patient = np.repeat(np.arange(len(patients)), patients.stays)[kept]
    rows = np.concatenate([patients.values[kept], patients.statics[patient]], axis=1)
    # Round to the decimals of the files: 98.6 as float32 is 98.5999985.
    return np.round(rows.astype(np.float64), 3), patient


def summaries(patients: Patients, hours: int = 24) -> np.ndarray:
    """Summarise a patient's first hours, as the input of a classifier.

    Returns:
      float64 `[patients, 6 * 39]`: mean, minimum, maximum, first and last reading and number of
      readings of each variable; NaN where there is none.

    Examples:
      >>> values = np.full((3, 34), np.nan, np.float32); values[[0, 2], 0] = 80, 90
      >>> one = Patients(values, np.array([0, 3]), np.array([1]), np.array([-1]),
      ...                np.zeros((1, 5), np.float32), ("a",))
      >>> summaries(one).reshape(6, 39)[:, 0].tolist()
      [85.0, 80.0, 90.0, 80.0, 90.0, 2.0]
    """
    parts = [np.empty((0, 6 * COLUMN_COUNT))]
    for i in range(0, len(patients), _BLOCK):
        block = patients.take(np.arange(i, min(i + _BLOCK, len(patients))))
        rows, patient = window_rows(block, hours)
        cube = np.full((len(block), hours, COLUMN_COUNT), np.nan)
        cube[patient, block.row[block.row < hours]] = rows
        there = ~np.isnan(cube)
        count = there.sum(axis=1)
        first, last = there.argmax(axis=1), hours - 1 - there[:, ::-1].argmax(axis=1)
        with np.errstate(invalid="ignore"):
            mean = np.where(there, cube, 0).sum(axis=1) / count
        pieces = [
            mean,
            np.where(count > 0, np.where(there, cube, np.inf).min(axis=1), np.nan),
            np.where(count > 0, np.where(there, cube, -np.inf).max(axis=1), np.nan),
            np.take_along_axis(cube, first[:, None], axis=1)[:, 0],
            np.take_along_axis(cube, last[:, None], axis=1)[:, 0],
            count,
        ]
        parts.append(np.concatenate(pieces, axis=1))
    return np.concatenate(parts)


def positive(patients: Patients, hours: int | None) -> np.ndarray:
    """Return whether the label is positive within `hours` (None: ever), bool `[patients]`."""
    end = patients.stays if hours is None else np.minimum(patients.stays, hours)
    return (patients.onset >= 0) & (patients.onset < end)


def copies(patients: Patients, among: Patients) -> int:
    """Count the `patients` that equal one of `among` in every cell of every row."""
    known = set(_digests(among))
    return sum(digest in known for digest in _digests(patients))


def _digests(patients: Patients) -> list[bytes]:
    values, statics = (
        np.where(np.isnan(part), np.float32(np.nan), part.astype(np.float32) + np.float32(0))
        for part in (patients.values, patients.statics)
    )
    rest = np.stack([patients.first, np.where(positive(patients, None), patients.onset, -1)], 1)
    rest = rest.astype(np.int64)
    starts = patients.starts
    return [
        hashlib.blake2b(
            values[starts[i] : starts[i + 1]].tobytes() + statics[i].tobytes() + rest[i].tobytes(),
            digest_size=16,
        ).digest()
        for i in range(len(patients))
    ]


def next_hour_correlations(patients: Patients, hours: int = 24) -> np.ndarray:
    """Compute correlations of readings of consecutive hours, `[COMMON]`; 0 if too few."""
    rows, patient = window_rows(patients, hours)
    out = np.zeros(COMMON)
    for j in range(COMMON):
        now, then = rows[:-1, j], rows[1:, j]
        both = (patient[:-1] == patient[1:]) & ~np.isnan(now) & ~np.isnan(then)
        if both.sum() > _FEWEST_PAIRS[0] and now[both].std() > 0:
            out[j] = np.corrcoef(now[both], then[both])[0, 1]
    return out


def correlations(rows: np.ndarray) -> np.ndarray:
    """Compute Pearson correlations of every two columns over the rows that have both.

    Args:
      rows: float64 `[rows, columns]`, NaN where missing.

    Returns:
      `[columns, columns]`, NaN for pairs with too few rows and for columns without spread in them.
    """
    there = ~np.isnan(rows)
    known = np.maximum(there.sum(axis=0), 1)
    filled = np.where(there, rows - np.where(there, rows, 0).sum(axis=0) / known, 0)
    spread = np.sqrt((filled**2).sum(axis=0) / known)
    filled /= np.where(spread > 0, spread, 1)
    mask = there.astype(np.float64)
    pairs = mask.T @ mask
    number = np.maximum(pairs, 1)
    mean, square = filled.T @ mask / number, (filled**2).T @ mask / number
    variance = square - mean**2  # of the row over the rows with the column
    covariance = filled.T @ filled / number - mean * mean.T
    usable = (pairs > _FEWEST_PAIRS[1]) & (variance > 1e-9) & (variance.T > 1e-9)
    scale = np.sqrt(np.where(usable, variance * variance.T, 1))
    return np.where(usable, covariance / scale, np.nan)


def nearness(patients: Patients, real: Patients, hours: int = 24) -> dict[str, Any]:
    """Compute distances of patients from real ones; 0 is best for all.

    Returns:
      `missing_gap`: per hourly variable, difference of the shares of missing hours;
      `missing_gap_mean`. `ks`: per column with more than 300 real readings, Kolmogorov-Smirnov
      distance of the readings (1 below 20 readings); `ks_mean` and `ks_worst` (a name), None if
      there is no such column. `lag1_gap`: per common vital sign, difference of the correlations of
      consecutive hours; `lag1_gap_mean`. `correlation_gap`: mean absolute difference of the
      correlations of every two columns, a correlation that the patients lack counting as 0; None
      if no two real columns have one.
    """
    ours, theirs = window_rows(patients, hours)[0], window_rows(real, hours)[0]
    names = COLUMNS[:COLUMN_COUNT]
    missing = np.abs(np.isnan(ours).mean(axis=0) - np.isnan(theirs).mean(axis=0))[:HOURLY]
    ks = {}
    for j, name in enumerate(names):
        a, b = (rows[~np.isnan(rows[:, j]), j] for rows in (ours, theirs))
        if len(b) > _FEWEST_REAL:
            ks[name] = ks_statistic(a, b) if len(a) >= _FEWEST else 1.0
    lag1 = np.abs(next_hour_correlations(patients, hours) - next_hour_correlations(real, hours))
    wanted, had = correlations(theirs), np.nan_to_num(correlations(ours))
    gaps = np.abs(had - wanted)[np.tril(~np.isnan(wanted), -1)]
    return {
        "missing_gap": dict(zip(names, missing.tolist(), strict=False)),
        "missing_gap_mean": float(missing.mean()),
        "ks": ks,
        "ks_mean": float(np.mean(list(ks.values()))) if ks else None,
        "ks_worst": max(ks, key=ks.__getitem__) if ks else None,
        "lag1_gap": dict(zip(names, lag1.tolist(), strict=False)),
        "lag1_gap_mean": float(lag1.mean()),
        "correlation_gap": float(gaps.mean()) if gaps.size else None,
    }


def learnt(train: Patients, test: Patients, hours: int = 24) -> dict[str, dict[str, float] | None]:
    """Train gradient boosting on `summaries` of one side, and test it on the other.

    Returns:
      For the labels `stay` (positive in any hour) and `window` (within the first hours), `auroc`
      and `auprc` on the test patients: 0.5 and their share of positives where 10 or fewer of the
      training patients are of one class, None where the test patients are all of one class.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    inputs, test_inputs = summaries(train, hours), summaries(test, hours)
    # scikit-learn 1.9 fails on a column without a value; a constant carries no information.
    blank = np.isnan(inputs).all(axis=0)
    inputs[:, blank] = test_inputs[:, blank] = 0
    out: dict[str, dict[str, float] | None] = {}
    for name, end in (("stay", None), ("window", hours)):
        target, truth = positive(train, end), positive(test, end)
        if not _FEWEST_LABELLED < target.sum() < len(target) - _FEWEST_LABELLED:
            target = np.zeros_like(target)  # a single class: no model is trained
        model = HistGradientBoostingClassifier(random_state=0, max_iter=150, learning_rate=0.05)
        mixed = 0 < truth.sum() < len(truth)
        out[name] = classification(model, inputs, target, test_inputs, truth) if mixed else None
    return out


def facts(patients: Patients, hours: int = 24) -> dict[str, float]:
    """Count patients, and compute their positive shares and their median stay in hours."""
    return {
        "patients": len(patients),
        "positive_stay": float(positive(patients, None).mean()),
        "positive_window": float(positive(patients, hours).mean()),
        "stay_median": float(np.median(patients.stays)),
    }


def score_patients(
    synthetic: Patients,
    real_test: Patients,
    *,
    real_train: Patients | None = None,
    hours: int = 24,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Score synthetic patients against held-out real ones.

    Args:
      synthetic: patients rounded to the decimals of a release, else no copy is detected.
      real_test: held-out real patients.
      real_train: the real training patients; their scores are those of a perfect copy (TRTR).
      hours: number of hours of a stay that are scored.
      progress: callback, called with one line before each slow part.

    Returns:
      Plain values, ready for JSON: `note`, `dataset`, `hours`, `real_test` (`facts`), and for each
      of `synthetic` and `real_train` (None if not given) a dictionary with `facts`, `nearness`,
      `utility` (`learnt`) and `copies`. The last has `of_held_out` and `expected`: how many
      patients are exact copies of a held-out one, and how many of as many other real patients
      would be: training ones if given, else by halving the held-out ones (the rate among half of
      them, doubled). For synthetic patients with training ones given, `of_training` and
      `expected_of_training` are the same about copies of training patients, the rate being that
      of the held-out ones.

    Raises:
      UserError: a side has no patients.
    """
    sides = {"synthetic": synthetic, "real_train": real_train}
    for name, side in {**sides, "real_test": real_test}.items():
        if side is not None and len(side) == 0:
            raise UserError(f"{name}: no patients; give one or more")
    even, odd = (real_test.take(np.arange(i, len(real_test), 2)) for i in (0, 1))
    rate = 2 * copies(even, odd) / len(even)
    if real_train is not None:
        rate = copies(real_train, real_test) / len(real_train)

    def judged(title: str, side: Patients) -> dict[str, Any]:
        progress(f"{title}: distances of {len(side):,} patients")
        found = {
            **facts(side, hours),
            **nearness(side, real_test, hours),
            "copies": {"of_held_out": copies(side, real_test), "expected": rate * len(side)},
        }
        progress(f"{title}: gradient boosting on {len(side):,} patients")
        return found | {"utility": learnt(side, real_test, hours)}

    scores: dict[str, Any] = {
        "note": NOTE,
        "dataset": "sepsis",
        "hours": hours,
        "real_test": facts(real_test, hours),
        "synthetic": judged("synthetic patients", synthetic),
        "real_train": None if real_train is None else judged("real training", real_train),
    }
    if real_train is not None:
        scores["synthetic"]["copies"] |= {
            "of_training": copies(synthetic, real_train),
            "expected_of_training": copies(real_test, real_train) / len(real_test) * len(synthetic),
        }
    return scores
