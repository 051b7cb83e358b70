"""Records come out of their seal inside an open entry, and nowhere else."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from rdpjax.privacy.events import Event
from rdpjax.privacy.ledger import BudgetExceeded, Ledger
from rdpjax.privacy.sealed import Access, Sealed, SealError

EVENT = Event("ages", "gaussian", 1.0, 2.0, 100.0, 1)


def test_records_are_read_inside_the_entry_alone() -> None:
    ledger, sealed = Ledger(), Sealed(np.arange(5))
    with ledger.access(EVENT) as access:
        assert ledger.events == (EVENT,), "entered before anything is read"
        np.testing.assert_array_equal(sealed.read(access), np.arange(5))
    with pytest.raises(SealError, match="the entry of 'ages' is closed"):
        sealed.read(access)


def test_an_entry_that_fails_is_closed_too() -> None:
    ledger, sealed = Ledger(), Sealed([1])
    with pytest.raises(RuntimeError), ledger.access(EVENT) as access:
        raise RuntimeError
    with pytest.raises(SealError):
        sealed.read(access)


def test_a_refused_entry_opens_nothing() -> None:
    ledger = Ledger(target=(0.1, 1e-5))
    with pytest.raises(BudgetExceeded), ledger.access(EVENT):
        raise AssertionError("read beyond the budget")
    assert ledger.events == ()


@pytest.mark.parametrize(
    "read",
    [
        len,
        list,
        iter,
        np.asarray,
        np.array,
        pickle.dumps,
        lambda sealed: sealed[0],
        lambda sealed: sealed.read(None),
        lambda sealed: sealed.read(EVENT),
        lambda sealed: sealed.map(np.cumsum)[0],
    ],
)
def test_no_other_way_leads_to_the_records(read: Any) -> None:
    with pytest.raises(SealError):
        read(Sealed(np.arange(5)))


def test_nothing_is_told_in_passing() -> None:
    sealed = Sealed(np.array([4711]))
    assert "4711" not in repr(sealed) + str(sealed) + f"{sealed!r:>20}"
    with pytest.raises((TypeError, SealError)):
        sealed + 1  # type: ignore[operator]
    with pytest.raises(AttributeError):
        sealed.sum()  # type: ignore[attr-defined]


def test_what_is_made_of_sealed_records_is_sealed() -> None:
    doubled = Sealed(np.arange(4, dtype=np.uint8)).map(lambda x: 2 * x)
    shape = doubled.shapes
    assert (shape.shape, shape.dtype) == ((4,), np.uint8), "shape and dtype are for the compiler"
    with Ledger().access(EVENT) as access:
        np.testing.assert_array_equal(doubled.read(access), [0, 2, 4, 6])


def test_sabotage_an_access_that_stays_open_would_show() -> None:
    access = Access(EVENT)
    access.close()
    assert not access.is_open


@pytest.mark.parametrize("again", ["the same records", "others", "what was made of them"])
def test_sabotage_two_answers_under_one_entry_are_refused(again: str) -> None:
    """The ledger used to charge one of them: as many more as were read inside came for nothing."""
    ledger, ages = Ledger(), Sealed(np.arange(5.0))
    seconds = {
        "the same records": ages,
        "others": Sealed(np.ones(3)),
        "what was made of them": ages.map(np.sqrt),
    }
    rng, answers = np.random.default_rng(0), []
    refused = pytest.raises(SealError, match="under the entry of 'ages' already; a second mech")
    with refused, ledger.access(EVENT) as access:
        for sealed in (ages, seconds[again]):
            answers.append(sealed.read(access).sum() + 200 * rng.standard_normal())
    assert len(answers) == len(ledger.events) == 1
    for _ in range(2):
        with ledger.access(EVENT) as access:
            ages.read(access)
    assert len(ledger.entries) == 3, "an entry for each"


def test_a_refused_read_does_not_use_the_entry_up() -> None:
    with Ledger().access(EVENT) as access:
        with pytest.raises(SealError):
            Sealed(np.arange(5)).read(None)  # type: ignore[arg-type]
        assert len(Sealed(np.arange(5)).read(access)) == 5
    with pytest.raises(SealError, match="closed"):
        access.take()
