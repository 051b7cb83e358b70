"""Detectors of a broken pipeline.

A detector says what it found wrong in a subject, or None. Every mutation must be found by one
detector or more, and the pipeline as it is by none.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rdpjax.audits.gradient import audit as gradient
from rdpjax.audits.gradient.audit import GradientAudit, audit_gradient
from rdpjax.audits.replay.audit import replay
from rdpjax.audits.replay.recording import record
from rdpjax.audits.subject import Subject
from rdpjax.dpsgd.keys import Roots
from rdpjax.errors import UserError
from rdpjax.fitting import plans as planning
from rdpjax.fitting.plans import Plans, make_plans, plan_events, target_of
from rdpjax.privacy.ledger import BudgetExceeded
from rdpjax.privacy.sealed import SealError
from tests.dpsgd import test_sabotage as engine

Detector = Callable[[Subject], str | None]

RECORDS = 1000
"""Records that are replayed with."""


def by_replay(subject: Subject) -> str | None:
    """`audit replay`."""
    try:
        for comparison in replay(subject, RECORDS):
            if not comparison.holds:
                return comparison.what
    except UserError:
        return None  # the pipeline refused, and that is the ledger's merit
    return None


def by_gradient(subject: Subject) -> str | None:
    """`audit gradient`, with every record drawn in every step and noise 1."""
    flags = GradientAudit(
        Path(subject.name), sampling_rate=1.0, noise_multiplier=1.0, steps=20, canaries=200,
        seed=1, quiet=True,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gradient, "read_subject", lambda path, data: subject)
        found = audit_gradient(flags).findings
    return next((each.attack for each in found if each.exceeds), None)


def by_ledger(subject: Subject) -> str | None:
    """What the pipeline, its seals and its ledger refuse by themselves, and what was entered."""
    config, codec, plans = subject.config, subject.codec, make_plans(subject.config)
    common: dict[str, Any] = {"roots": Roots.make(1), "target": target_of(config)}
    try:
        found = record(config, codec, subject.records, plans=plans, until="release", **common)
    except SealError:
        return "seal"
    except BudgetExceeded:
        return "more than the budget"
    except UserError as error:
        return str(error).split(",")[0]
    planned = plan_events(config, codec)
    if sum(e.steps for e in found.entries) != sum(e.steps for e in planned):
        return "entries that are not the plan's"
    read: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        true = planning.histogram

        def noted(*args: Any) -> Any:
            read.append(1)
            return true(*args)

        patch.setattr(planning, "histogram", noted)
        weak = Plans({name: noise / 20 for name, noise in plans.measurements.items()}, plans.stages)
        try:
            record(config, codec, subject.records, plans=weak, until="measurements", **common)
        except BudgetExceeded:
            return "read before the guard" if read else None
        return "no guard"


def by_test(subject: Subject) -> str | None:
    """A named property of the engine, in tests/dpsgd/test_sabotage.py."""
    for holds in engine.PROPERTIES:
        try:
            holds()
        except (AssertionError, RuntimeWarning):  # infinite noise has no deviation
            return holds.__name__.replace("_", " ")
    return None


DETECTORS: dict[str, Detector] = {
    "replay": by_replay,
    "gradient": by_gradient,
    "ledger": by_ledger,
    "test": by_test,
}
