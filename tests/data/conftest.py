"""Patients that a privacy claim has to hold for: constant, random, longest, empty and broken."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from rdpjax.data.stays.patients import Patients
from rdpjax.data.stays.sepsis import BOUNDS, STATICS, VARIABLES
from rdpjax.data.stays.simulate_sepsis import simulated_table

KINDS = (
    "constant", "alternating", "random", "sparse", "empty", "borders", "wild", "simulated"
)  # fmt: skip
"""How the readings of an odd patient are made."""
_WILD = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 3.4e38, -3.4e38, 1e-38, 0.0, -0.0])


def odd_patient(kind: str, stay: int, seed: int) -> Patients:
    """One patient of so many hours; onset, first hour and statics may be of any kind too."""
    rng = np.random.default_rng([seed, stay])
    low, high = BOUNDS.T
    alternate = np.arange(stay)[:, None] % 2
    values = {
        "constant": lambda: np.tile(low + rng.random() * (high - low), (stay, 1)),
        "alternating": lambda: np.where(alternate == rng.integers(2), low, high),
        "random": lambda: low + rng.random((stay, len(VARIABLES))) * (high - low),
        "sparse": lambda: np.where(
            rng.random((stay, len(VARIABLES))) < 0.1, rng.choice(BOUNDS.T, stay), np.nan
        ),
        "empty": lambda: np.full((stay, len(VARIABLES)), np.nan),
        "borders": lambda: np.stack([rng.choice(v.edges, stay) for v in VARIABLES], axis=1),
        "wild": lambda: rng.choice(_WILD, (stay, len(VARIABLES))),
        "simulated": lambda: np.where(
            rng.random((stay, 1)) < 0.9,
            (low + high) / 2 + (high - low) / 9 * rng.standard_normal((stay, len(VARIABLES))),
            np.nan,
        ),
    }[kind]()
    statics = rng.choice([*_WILD, 1.0, 64.5, -3.2, 89.0, 100.0], len(STATICS))
    return Patients(
        values.astype(np.float32),
        np.array([0, stay]),
        rng.choice([1, 2, 96, 97, 336], 1).astype(np.int32),
        rng.choice([-1, 0, stay - 1, stay, 335, 10**9, -(2**31)], 1).astype(np.int32),
        statics.astype(np.float32)[None],
        (f"{kind}-{stay}-{seed}",),
    )


def join_patients(parts: Sequence[Patients]) -> Patients:
    """Patients of several tables one after another."""
    return Patients(
        np.concatenate([np.zeros((0, len(VARIABLES)), np.float32), *(p.values for p in parts)]),
        np.cumsum([0, *(n for p in parts for n in p.stays)]),
        np.concatenate([np.zeros(0, np.int32), *(p.first for p in parts)]),
        np.concatenate([np.zeros(0, np.int32), *(p.onset for p in parts)]),
        np.concatenate([np.zeros((0, len(STATICS)), np.float32), *(p.statics for p in parts)]),
        tuple(id for p in parts for id in p.ids),
    )


@pytest.fixture(scope="session")
def odd() -> Callable[[str, int, int], Patients]:
    """`odd(kind, stay, seed)`: one odd patient."""
    return odd_patient


@pytest.fixture(scope="session")
def join() -> Callable[[Sequence[Patients]], Patients]:
    """`join(tables)`: their patients one after another."""
    return join_patients


@pytest.fixture(scope="session")
def crowd() -> Patients:
    """Every kind of odd patient at stays from one hour to the longest."""
    return join_patients(
        [
            odd_patient(kind, stay, i)
            for i, kind in enumerate(KINDS)
            for stay in (1, 2, 24, 25, 33, 330, 336)
        ]
    )


@pytest.fixture(scope="session")
def cohort() -> Patients:
    """1,500 simulated patients."""
    return simulated_table(1500).patients


@pytest.fixture(scope="session")
def nobody() -> Patients:
    return join_patients([])


@pytest.fixture(params=(1, 24, 48, 336), scope="session")
def hours(request: pytest.FixtureRequest) -> int:
    """How many hours are modelled."""
    return request.param
