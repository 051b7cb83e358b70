"""Simulated cardio cohort in the published file's format, for runs without the real file.

Every constant here is a round number chosen by hand from general medical knowledge and from
public descriptions of the table. Nothing is fitted to records.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from rdpjax.data.cardio import DAYS, KAGGLE_LAYOUT


def simulate_cardio(records: int = 70_000, seed: int = 0) -> str:
    """Simulate a cohort as the text of a file like Kaggle's cardio_train.csv.

    Two thirds are women; ages cluster around every second birthday; pressures and weights heap at
    round numbers; 1 to 2 % of the pressures are impossible (signs, factors of ten, swapped, typed
    together), as in hand-typed records. Disease depends on age, pressure, cholesterol and weight,
    such that gradient boosting predicts it with an AUROC of 0.78 to 0.80.

    Args:
      records: the number of rows.
      seed: of the pseudo-random numbers; equal seeds give equal text.

    Returns:
      The text, with a header, `;` between fields and `\\n` after each line.

    Examples:
      >>> print(simulate_cardio(2, seed=1))  # doctest: +ELLIPSIS
      id;age;gender;height;weight;ap_hi;ap_lo;cholesterol;gluc;smoke;alco;active;cardio
      ...
    """
    rng = np.random.default_rng(seed)
    man = rng.random(records) < 0.35
    age = _ages(rng, records)
    height = np.rint(np.where(man, 170, 161) + 7 * rng.standard_normal(records))
    bmi = 27 * np.exp(0.17 * rng.standard_normal(records) + 0.003 * (age - 53))
    weight = _weights(rng, bmi * (height / 100) ** 2)
    cholesterol = _grade(rng, 0.05 * (age - 53) + 0.05 * (bmi - 27), (1.2, 2.2))
    gluc = _grade(rng, 0.03 * (age - 53) + 0.05 * (bmi - 27) + 0.8 * (cholesterol - 1), (2.2, 3.0))
    smoke = rng.random(records) < np.where(man, 0.22, 0.02)
    alco = rng.random(records) < np.where(man, 0.07, 0.02) + 0.15 * smoke
    active = rng.random(records) < 0.8
    # Right-skewed pressures: most are near the middle, some far above it.
    spread = 10 * rng.standard_normal(records) + 12 * (rng.standard_exponential(records) - 1)
    systolic = 127 + 0.4 * (age - 53) + 0.8 * (bmi - 27) + spread
    diastolic = 81 + 0.45 * (systolic - 127) + 6 * rng.standard_normal(records)
    logit = (
        0.07 * (systolic - 127)
        + 0.05 * (age - 53)
        + 0.02 * (bmi - 27)
        + 0.6 * (cholesterol - 1)
        - 0.1 * (gluc - 1)
        - 0.2 * active
        - 0.1 * smoke
        - 0.1
    )
    cardio = rng.random(records) < _sigmoid(logit)
    high, low = _slips(rng, *_cuff(rng, systolic, diastolic))
    columns = {
        "id": np.sort(rng.permutation(max(1, records * 10 // 7))[:records]),
        "age": np.rint(age * DAYS).astype(int),
        "gender": 1 + man,
        "height": _misread(rng, height).astype(int),
        "weight": weight,
        "ap_hi": high,
        "ap_lo": low,
        "cholesterol": cholesterol,
        "gluc": gluc,
        "smoke": smoke.astype(int),
        "alco": alco.astype(int),
        "active": active.astype(int),
        "cardio": cardio.astype(int),
    }
    frame = pd.DataFrame({name: columns[name] for name in KAGGLE_LAYOUT.header})
    text: str = frame.to_csv(sep=";", index=False, float_format="%.1f", lineterminator="\n")
    return text


def _sigmoid(logit: np.ndarray) -> np.ndarray:
    chance: np.ndarray = 1 / (1 + np.exp(-logit))
    return chance


def _ages(rng: np.random.Generator, records: int) -> np.ndarray:
    """Draw ages in years, clustered around every second birthday and more frequent past fifty."""
    birthdays = np.arange(40, 65, 2)
    weights = np.linspace(1, 2, len(birthdays))
    called = rng.choice(birthdays, size=records, p=weights / weights.sum())
    return np.clip(called + 0.5 * rng.standard_normal(records), 30, 65)


def _weights(rng: np.random.Generator, kilograms: np.ndarray) -> np.ndarray:
    """Round weights: mostly whole kilograms, some multiples of five, a few halves and tenths."""
    habit = rng.random(len(kilograms))
    return np.select(
        [habit < 0.1, habit < 0.96, habit < 0.98],
        [5 * np.rint(kilograms / 5), np.rint(kilograms), np.rint(2 * kilograms) / 2],
        np.round(kilograms, 1),
    )


def _grade(
    rng: np.random.Generator, tendency: np.ndarray, limits: tuple[float, float]
) -> np.ndarray:
    """Draw grades 1, 2 or 3: a tendency plus logistic noise, cut at the limits."""
    return 1 + np.digitize(tendency + rng.logistic(size=len(tendency)), limits)


def _cuff(
    rng: np.random.Generator, systolic: np.ndarray, diastolic: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Round readings as people record them: 120/80 and the like, else to tens, fives or units."""
    habit = rng.random(len(systolic))

    def heaped(reading: np.ndarray) -> np.ndarray:
        return np.select(
            [habit < 0.75, habit < 0.9],
            [10 * np.rint(reading / 10), 5 * np.rint(reading / 5)],
            np.rint(reading),
        )

    high, low = heaped(systolic), heaped(diastolic)
    phrased = rng.random(len(systolic)) < 0.6
    for top, bottom in ((110, 70), (120, 80), (130, 80), (140, 90), (150, 90), (160, 100)):
        fits = phrased & (np.abs(systolic - top) < 6) & (np.abs(diastolic - bottom) < 8)
        high, low = np.where(fits, top, high), np.where(fits, bottom, low)
    low = np.minimum(low, high - 10)
    return high.astype(int), low.astype(int)


def _slips(
    rng: np.random.Generator, high: np.ndarray, low: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Put typing errors into about one and a half per cent of the rows."""
    slip = rng.random(len(high))
    shares_and_results = (
        (0.01, high, low * 10),
        (0.004, low, high),
        (0.002, high // 10, low // 10),
        (0.001, high * 10, low * 10),
        (0.0005, high, np.zeros_like(low)),
        (0.0002, -high, low),
        (0.0002, high, -low),
        (0.0002, high * 100 + low // 10, low),
    )
    end = 0.0
    for share, wrong_high, wrong_low in shares_and_results:
        hit = (slip >= end) & (slip < end + share)
        high, low = np.where(hit, wrong_high, high), np.where(hit, wrong_low, low)
        end += share
    return high, low


def _misread(rng: np.random.Generator, height: np.ndarray) -> np.ndarray:
    """Drop or change the first digit of one height in a thousand: 165 becomes 65 or 265."""
    slip = rng.random(len(height))
    wrong = height + np.where(slip < 0.0008, -100, 100)
    return np.where(slip < 0.001, wrong, height)
