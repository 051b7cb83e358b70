"""privacy.json: complete, replayable, and with nothing in it that must not be published."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from rdpjax.errors import UserError
from rdpjax.privacy.accountants import rdp_epsilon
from rdpjax.privacy.ledger import Event, Ledger
from rdpjax.privacy.report import privacy_report, replay

EVENTS = (
    Event("marginals", "gaussian", 1.0, 8.0, 12**0.5, 1),
    Event("vae", "poisson_gaussian", 2**-6, 1.3, 0.5, 300),
)


def report(events: Any = EVENTS, **change: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "unit": "one row", "secret_noise": True, "declarations": {"columns": "the schema"},
        "versions": {"rdpjax": "0.1.0"}, "notes": ["a note"],
    }  # fmt: skip
    return privacy_report(events, 1e-5, **(given | change))


def test_replay_of_the_file_gives_its_epsilon() -> None:
    found = json.loads(json.dumps(report(), allow_nan=False))
    assert replay(found) == found["epsilon"] == rdp_epsilon(EVENTS, 1e-5)[0]
    assert found["epsilon_pld"] <= found["epsilon"] <= found["epsilon_naive_sum"]


def test_ledger_report_and_replay_agree() -> None:
    ledger = Ledger()
    for event in EVENTS:
        for start in range(0, event.steps, 64):
            steps = min(64, event.steps - start)
            ledger.open(dataclasses.replace(event, start=start, steps=steps))
    found = report(ledger.events)
    assert f"{replay(found):.6g}" == f"{found['epsilon']:.6g}" == f"{ledger.epsilon(1e-5):.6g}"
    assert found["events"] == [event.to_dict() for event in EVENTS]
    assert report(ledger.entries) == found  # chunks are merged, whoever hands them over


def test_replay_reads_the_events_and_nothing_else() -> None:
    found = report()
    found["epsilon"] = 0.1
    assert replay(found) == rdp_epsilon(EVENTS, 1e-5)[0]
    found["events"] = found["events"][:1]
    assert replay(found) == rdp_epsilon(EVENTS[:1], 1e-5)[0]


def test_it_holds_these_keys_and_no_other() -> None:
    found = report()
    assert set(found) == {
        "version", "private", "epsilon", "delta", "unit", "relation", "covers", "secret_noise",
        "accountant", "order", "conversion", "epsilon_pld", "epsilon_naive_sum", "events",
        "declarations", "versions", "notes",
    }  # fmt: skip
    for event in found["events"]:
        assert set(event) == {field.name for field in dataclasses.fields(Event)}
    assert found["version"] == 1 and found["private"] is True
    assert found["relation"] == "add-or-remove-one" and found["delta"] == 1e-5
    assert "settings fixed in advance" in found["covers"] and "public data" in found["covers"]
    assert found["notes"] == ["a note"]


def test_known_noise_is_said() -> None:
    found = report(secret_noise=False)
    assert found["secret_noise"] is False
    assert any("seed" in note for note in found["notes"])


def test_no_noise_claims_nothing() -> None:
    bare = Event("vae", "poisson_gaussian", 2**-6, 0.0, float("inf"), 10)
    found = json.loads(json.dumps(report([*EVENTS, bare]), allow_nan=False))
    assert found["private"] is False
    assert found["epsilon"] is found["epsilon_pld"] is found["epsilon_naive_sum"] is None
    assert any("nothing is claimed" in note for note in found["notes"])
    assert replay(found) == float("inf")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version 2 is newer"),
        ({"version": None}, "no file of rdpjax"),
        ({"relation": "replace-one"}, "relation is 'replace-one'"),
        ({"events": None}, "events: missing"),
        ({"delta": 0}, "delta is 0"),
        ({"delta": None}, "delta is None"),
    ],
)
def test_a_report_that_cannot_be_replayed_is_refused(change: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        replay(report() | change)


@pytest.mark.parametrize("value", [object(), float("nan"), {1, 2}])
def test_only_json_values_get_in(value: Any) -> None:
    with pytest.raises(UserError, match="plain JSON"):
        report(declarations={"x": value})
