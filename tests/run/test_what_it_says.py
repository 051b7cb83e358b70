"""The summary, the warnings and the form of what is released."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from rdpjax import checkpoint, train
from rdpjax.config import Config
from rdpjax.data import datasets
from rdpjax.errors import command
from rdpjax.evaluation import plots
from rdpjax.privacy import report
from rdpjax.privacy.ledger import read_ledger
from rdpjax.run import run
from rdpjax.run_folder import RunFolder
from rdpjax.start import Options
from tests.run.runs import Go, entries


def test_the_summary_and_the_chunks_of_the_ledger(go: Go, tmp_path: Path) -> None:
    summary = go("run")
    assert (summary["rows"], summary["source"], summary["warnings"]) == (500, "file", [])
    assert (summary["unit"], summary["relation"]) == ("one row = one person", "add-or-remove-one")
    assert not summary["secret_noise"]
    chunks = [(e["stage"], e["start"], e["steps"]) for e in entries(tmp_path / "run")]
    assert chunks == [
        ("marginals", 0, 1), ("vae", 0, 2), ("vae", 2, 2), ("labeler", 0, 2), ("labeler", 2, 2),
    ]  # fmt: skip
    metrics = RunFolder(tmp_path / "run").read_metrics()
    assert [(row["stage"], row["step"]) for row in metrics] == [
        (name, step) for name in ("vae", "labeler") for step in range(4)
    ]


def test_without_privacy_it_says_so(
    go: Go,
    toy_config: Config,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    summary = go("run", config=dataclasses.replace(toy_config, private=False))
    assert (summary["epsilon"], summary["epsilon_pld"]) == (None, None)
    told = json.loads((tmp_path / "run/release/privacy.json").read_text())
    assert told["private"] is False and "nothing is claimed" in " ".join(told["notes"])
    assert "NOT PRIVATE" in train._sentence(summary)
    assert all(
        event.noise_multiplier == 0 for event in read_ledger(tmp_path / "run/internal/ledger.jsonl")
    )


def test_simulated_data_cannot_be_missed(
    toy_config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    from rdpjax.data import simulate

    monkeypatch.setattr(datasets, "simulate_cardio", lambda: simulate.simulate_cardio(3000))
    summary = run(toy_config, Options(out=tmp_path / "run", seed=1))
    assert "SIMULATED DATA" in capsys.readouterr().err
    told = json.loads((tmp_path / "run/release/privacy.json").read_text())
    assert summary["source"] == told["declarations"]["source"] == "simulated"


def test_rows_are_written_in_the_input_format_with_derived_columns(
    go: Go, toy_config: Config, small_data: Path, tmp_path: Path
) -> None:
    lines = small_data.read_text().replace(";", ",").replace("ap_hi,ap_lo", "sbp,dbp")
    other = tmp_path / "other.csv"
    other.write_text(lines)
    go("run", config=dataclasses.replace(toy_config, derived=("pp",)), data=other)
    header, first = (tmp_path / "run/release/synthetic.csv").read_text().splitlines()[:2]
    assert header == lines.splitlines()[0] + ",pp"
    assert len(first.split(",")) == 14 and first.startswith("0,")


def test_an_interrupted_run_says_how_it_goes_on(
    go: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", interrupted)
        assert command(lambda argv: bool(go("run")))() == 130
    advice = "interrupted; the same command with --resume goes on with it, at no further cost"
    assert capsys.readouterr().err == f"rdpjax: {advice}\n"
    go("run", resume=True)
    assert RunFolder(tmp_path / "run").complete
    monkeypatch.setattr(datasets, "read_table", interrupted)
    assert command(lambda argv: bool(go("other")))() == 130
    assert capsys.readouterr().err == "rdpjax: interrupted\n"


def test_a_loose_epsilon_is_a_plain_warning(
    go: Go, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(report, "may_be_loose", lambda events, order: True)
    assert go("run")["warnings"] == [report.LOOSE]
    assert not caplog.records


def test_pictures_are_given_the_runs_name_and_claim(
    go: Go, toy_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles = []
    for plot in ("plot_densities", "plot_correlations", "plot_losses"):
        monkeypatch.setattr(plots, plot, lambda *args: titles.append(args[-1]))
    summary = go("run")
    go("bare", config=dataclasses.replace(toy_config, private=False))
    claim = f"run run, epsilon {summary['epsilon']:.3f} at delta 1e-05"
    assert titles == [claim] * 3 + ["run bare, without privacy"] * 3
