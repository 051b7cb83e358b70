"""Every sabotage of the pipeline is caught, and by whom."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rdpjax.audits.subject import Subject
from rdpjax.config import Config
from rdpjax.data.schema import Schema
from rdpjax.fitting import fit as pipeline
from tests.audits.detectors import DETECTORS
from tests.audits.sabotage import MUTATIONS
from tests.audits.sabotage_table import read_table, table
from tests.audits.toy import toy_subject

KEPT = Path(__file__).resolve().parents[2] / "docs" / "THREAT_MODEL.md"


@pytest.fixture
def two_stages(toy_config: Config, toy_schema: Schema, toy_frame: pd.DataFrame) -> Subject:
    return toy_subject(toy_config, toy_schema, toy_frame)


@pytest.fixture
def subject(two_stages: Subject) -> Subject:
    """One stage: its programs are compiled anew for every sabotage."""
    config = dataclasses.replace(
        two_stages.config,
        label_source="generator",
        shares={"marginals": 0.2, "vae": 0.8},
        stages={"vae": two_stages.config.stages["vae"]},
    )
    return dataclasses.replace(two_stages, config=config)


@pytest.fixture
def subject_of(subject: Subject, two_stages: Subject) -> Callable[[str], Subject]:
    """Where a sabotage shows: of two stages, or of hardened noise, by its name."""

    def subject_of(name: str) -> Subject:
        if name.endswith("two stages"):
            return two_stages
        hardened = name.startswith("lattice")
        return dataclasses.replace(
            subject, config=dataclasses.replace(subject.config, hardened=hardened)
        )

    return subject_of


QUICK = (
    "record used twice in a step",
    "free mean in the codec",
    "budget guard off",
    "noise small on the last tenth",
    "clipped leaf by leaf",
    "small leaves left out of the norm",
)


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.slow
def test_nothing_is_caught_where_nothing_is_broken(detector: str, subject: Subject) -> None:
    assert DETECTORS[detector](subject) is None


@pytest.mark.parametrize("name", QUICK)
def test_the_nearest_detector_catches(
    name: str, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    MUTATIONS[name](monkeypatch, subject)
    assert DETECTORS["ledger" if name == "budget guard off" else "replay"](subject)


@pytest.mark.parametrize("name", ["measured twice and averaged", "each chunk taken twice"])
def test_what_is_done_twice_is_charged_twice(
    name: str, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal entries of one process once passed for replays: the ledger saw neither."""
    MUTATIONS[name](monkeypatch, subject)
    assert DETECTORS["ledger"](subject) == "more than the budget"


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTATIONS)
def test_every_sabotage_is_caught_as_the_kept_table_says(
    name: str, subject_of: Callable[[str], Subject], record_property: Any
) -> None:
    found, subject = {}, subject_of(name)
    for detector, detect in DETECTORS.items():
        with pytest.MonkeyPatch.context() as patch:
            MUTATIONS[name](patch, subject)
            found[detector] = detect(subject) or ""
    record_property("sabotage", [name, found])
    assert any(found.values())
    assert found == read_table(KEPT.read_text(encoding="utf-8")).get(name)


@pytest.mark.slow
def test_replay_holds_where_records_are_fed_and_where_noise_is_discrete(
    subject_of: Callable[[str], Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert DETECTORS["replay"](subject_of("lattice")) is None
    monkeypatch.setattr(pipeline, "room", lambda: 0)
    assert DETECTORS["replay"](subject_of("fed")) is None


def test_the_kept_table_lists_every_sabotage() -> None:
    """As the last run printed it: each is caught by somebody."""
    kept = read_table(KEPT.read_text(encoding="utf-8"))
    assert list(kept) == list(MUTATIONS) and len(kept) >= 15
    for name, found in kept.items():
        assert list(found) == list(DETECTORS)
        assert any(found.values()), f"nobody catches {name}"
    assert read_table(table(kept)) == kept
