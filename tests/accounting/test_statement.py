"""Statements: what files say together, and how a table is laid out."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from rdpjax.accounting.statement import aligned, state, versions
from rdpjax.errors import UserError
from rdpjax.privacy.accountants import naive_epsilon, rdp_epsilon
from rdpjax.privacy.events import Event
from rdpjax.privacy.ledger import Ledger
from rdpjax.privacy.report import privacy_report
from rdpjax.privacy.sources import Source, read_source

HIST = Event("hist", "gaussian", 1.0, 10.0, 1.0, 1)
VAE = Event("vae", "poisson_gaussian", 0.125, 3.0, 1.0, 40)


def test_own_composed_and_naive_epsilons() -> None:
    found = state([Source("a", (HIST,)), Source("b", (VAE,))], 1e-5)
    own = [rdp_epsilon([event], 1e-5)[0] for event in (HIST, VAE)]
    assert [access.epsilon for access in found.accesses] == own
    assert (found.epsilon, found.order) == rdp_epsilon([HIST, VAE], 1e-5)
    assert found.epsilon_naive_sum == naive_epsilon({"x": [HIST], "y": [VAE]}, 1e-5)
    assert found.epsilon < found.epsilon_naive_sum


def test_a_public_count_bounds_delta() -> None:
    assert state([Source("a", (HIST,))], 1e-5, records=99_999).records == 99_999
    for records, message in (
        (100_000, "below 1 / records"), (0, "records is 0"), (10**400, "records is too large"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            state([Source("a", (HIST,))], 1e-5, records=records)


def test_nothing_private_is_said_in_both_forms() -> None:
    bare = Event("vae", "poisson_gaussian", 0.125, 0.0, math.inf, 40)
    found = state([Source("a", (HIST, bare))], 1e-5)
    assert found.to_dict()["epsilon"] is found.to_dict()["epsilon_pld"] is None
    assert "nothing is private" in found.to_text()


def test_nothing_listed_is_said() -> None:
    found = state([Source("a", ())], 1e-5)
    assert found.to_text().startswith("no mechanism run listed\n") and found.epsilon == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": 10**400}, "claims epsilon 1000"),
        ({"epsilon": [1]}, r"claims epsilon \[1\]"),
        ({"delta": 10**400}, "delta is"),
        ({"unit": "one row\ncomposed epsilon 0.1"}, "unit is 'one row"),
        ({"unit": "\x1b[2J"}, "unit is "),
        ({"unit": " "}, "unit is ' '"),
        ({"unit": {"a": 1}}, "unit is "),
        ({"deep": "DEEP"}, "no JSON"),
    ],
)
def test_reports_that_nobody_wrote_are_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    report = privacy_report(
        [HIST], 1e-5, unit="one row", secret_noise=True, declarations={}, versions={}
    )
    path = tmp_path / "privacy.json"
    path.write_text(json.dumps(report))
    assert read_source(path).unit == "one row"
    path.write_text(json.dumps(report | change).replace('"DEEP"', "[" * 100_000))
    with pytest.raises(UserError, match=message) as refusal:
        read_source(path)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 250 + len(str(path))


def test_a_ledger_without_a_release_is_a_run_in_progress(tmp_path: Path) -> None:
    internal = tmp_path / "run" / "internal"
    internal.mkdir(parents=True)
    Ledger.create(internal / "ledger.jsonl").open(HIST)
    with pytest.raises(UserError, match="still in progress"):
        read_source(tmp_path / "run")
    assert read_source(internal).events == read_source(internal / "ledger.jsonl").events == (HIST,)


def test_every_package_that_matters_is_named() -> None:
    assert set(versions()) == {"rdpjax", "dp-accounting", "numpy", "scipy"}
    assert all(versions().values())


def test_columns_line_up() -> None:
    assert aligned([("a", "b"), ("aaa", "bbb")], left=()) == ["  a    b", "aaa  bbb"]
    assert aligned([("a", "b"), ("aaa", "bbb")], left=(0, 1)) == ["a    b", "aaa  bbb"]
