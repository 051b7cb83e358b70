"""`python -m rdpjax.account show`: what it prints, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from rdpjax.account import main
from rdpjax.privacy.accountants import pld_epsilon, rdp_epsilon
from rdpjax.privacy.ledger import Event, Ledger
from rdpjax.privacy.report import privacy_report

EVENTS = (
    Event("marginals", "gaussian", 1.0, 8.0, 2.0, 1),
    Event("vae", "poisson_gaussian", 2**-6, 1.3, 0.5, 300),
)


def write_run(folder: Path, *, delta: float = 1e-5, unit: str = "one row", **change: Any) -> Path:
    (folder / "internal").mkdir(parents=True)
    (folder / "release").mkdir()
    ledger = Ledger.create(folder / "internal" / "ledger.jsonl")
    for event in EVENTS:
        ledger.open(event)
    report = privacy_report(
        ledger.events, delta, unit=unit, secret_noise=True, declarations={}, versions={}
    )
    (folder / "release" / "privacy.json").write_text(json.dumps(report | change))
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


def shown(capsys: pytest.CaptureFixture[str], *args: object) -> dict[str, Any]:
    assert main(["show", *map(str, args), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    assert main(["show", *map(str, args)]) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith("rdpjax: error: ") and err.count("\n") == 1
    return err


def test_every_form_of_a_run_shows_the_same(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = rdp_epsilon(EVENTS, 1e-5)
    for path in (run, run / "release", run / "release/privacy.json", run / "internal/ledger.jsonl"):
        found = shown(capsys, path)
        assert (found["epsilon"], found["order"]) == expected
        assert found["epsilon_pld"] == pld_epsilon(EVENTS, 1e-5)
        assert [a["stage"] for a in found["accesses"]] == ["marginals", "vae"]
        assert found["accesses"][1]["epsilon"] == rdp_epsilon([EVENTS[1]], 1e-5)[0]


def test_the_table_says_everything(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(run)]) == 0
    text = capsys.readouterr().out
    for part in ("marginals", "poisson_gaussian", "0.015625", "1.3", "300", "one row",
                 "add-or-remove-one", "1e-05", "RDP, order", "PLD", "naive sum"):  # fmt: skip
        assert part in text
    assert f"{rdp_epsilon(EVENTS, 1e-5)[0]:.3f}" in text


def test_several_runs_are_composed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write_run(run.parent / "other", unit="one patient")
    found = shown(capsys, run, other)
    assert found["epsilon"] == rdp_epsilon([*EVENTS, *EVENTS], 1e-5)[0]
    own = sum(access["epsilon"] for access in found["accesses"])
    assert found["epsilon_naive_sum"] == pytest.approx(own)
    assert found["units"] == ["one row", "one patient"]
    assert main(["show", str(run), str(other)]) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[0].split()[0] == "run" and str(other) in text


def test_delta_comes_from_the_flag_the_file_or_the_default(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_run(run.parent / "other", delta=1e-6)
    assert shown(capsys, other)["delta"] == 1e-6
    assert shown(capsys, other / "internal/ledger.jsonl")["delta"] == 1e-5
    assert shown(capsys, run, other, "--delta", "1e-7")["delta"] == 1e-7
    assert "different deltas (1e-06, 1e-05); give --delta" in refused(capsys, run, other)
    assert "delta is 1" in refused(capsys, run, "--delta", "1")


def test_a_run_in_progress_shows_its_ledger_and_leaves_it_alone(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "release" / "privacy.json").unlink()
    path = run / "internal" / "ledger.jsonl"
    torn = path.read_bytes() + b'{"version": 1, "sta'
    path.write_bytes(torn)
    assert shown(capsys, run)["epsilon"] == rdp_epsilon(EVENTS, 1e-5)[0]
    assert path.read_bytes() == torn


def test_contradictions_are_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cheap = write_run(run.parent / "cheap", epsilon=0.1)
    assert "claims epsilon 0.1, but its events cost" in refused(capsys, cheap)
    more = Ledger.load(run / "internal" / "ledger.jsonl")
    more.open(dataclasses.replace(EVENTS[1], start=300))
    assert "list different accesses" in refused(capsys, run)


def test_no_noise_is_infinite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ledger.jsonl"
    Ledger.create(path).open(Event("vae", "poisson_gaussian", 0.5, 0.0, float("inf"), 3))
    assert shown(capsys, path)["epsilon"] is None
    assert main(["show", str(path)]) == 0
    assert "nothing is private" in capsys.readouterr().out


def test_bad_paths_are_named(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "name a run folder" in refused(capsys)
    assert "given twice" in refused(capsys, run, run / "release" / "..")
    assert "no such file" in refused(capsys, tmp_path / "missing")
    assert "no such file" in refused(capsys, tmp_path / "missing.json")
    assert "neither release/privacy.json nor" in refused(capsys, tmp_path)
    for name, text, message in (
        ("a.txt", "x", "unknown kind of file"),
        ("a.json", "x", "no JSON"),
        ("b.json", "[]", "no privacy report"),
        ("c.json", "{}", "version is None"),
        ("a.jsonl", "x\n", "line 1 is no ledger entry"),
    ):
        (tmp_path / name).write_text(text)
        assert message in refused(capsys, tmp_path / name)
