"""The summary, the warnings and the form of what is released."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from rdpjax import account, sample, train
from rdpjax.config import Config
from rdpjax.config_file import load_config
from rdpjax.datasets import cardio as cardio_dataset
from rdpjax.datasets.cardio import CardioSettings
from rdpjax.errors import UserError, command
from rdpjax.evaluation import plots
from rdpjax.fitting import checkpoint
from rdpjax.fitting.plans import plan_events
from rdpjax.privacy import report
from rdpjax.privacy.accountants import rdp_epsilon
from rdpjax.privacy.ledger import read_ledger
from rdpjax.runs.folder import RunFolder
from rdpjax.runs.generator_file import read_generator
from rdpjax.runs.run import run
from rdpjax.runs.start import Options
from rdpjax.synthesizer import Synthesizer
from tests.runs.runs import Go, entries, tree


def test_the_summary_and_the_chunks_of_the_ledger(finished: dict[str, Any], tmp_path: Path) -> None:
    summary = finished
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


def test_without_privacy_everything_says_so(
    go: Go,
    toy_config: Config,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exact counts used to lie in a folder of which the last line said that it may be published."""
    config = dataclasses.replace(toy_config, private=False)
    summary, run = go("run", config=config), tmp_path / "run"
    assert (summary["epsilon"], summary["epsilon_pld"]) == (None, None)
    output = run / "unprotected"
    assert summary["folder"] == "unprotected" and not (run / "release").exists()
    report = json.loads((output / "privacy.json").read_text())
    assert report["private"] is False and "nothing is claimed" in " ".join(report["notes"])
    said = train._sentence(summary)
    assert "NOT PRIVATE" in said and "nothing here may be published" in said
    assert "release" not in said and f"{output}/not-private-synthetic.csv" in said
    for path in (p for p in output.rglob("*") if p.is_file() and p.suffix != ".npz"):
        text = f"{path.name} {path.read_text()}".lower().replace("-", " ")
        assert "not private" in text or "nothing may be published" in text, path
        assert "may be published" not in text.replace("nothing may be published", ""), path
    assert all(event.noise_multiplier == 0 for event in read_ledger(run / "internal/ledger.jsonl"))
    before = tree(run)
    assert go("run", config=config, resume=True) == summary and tree(run) == before
    assert account.main(["show", str(run)]) == 0
    assert "nothing is private" in capsys.readouterr().out

    more = tmp_path / "more.csv"
    assert sample.main([str(run), "--rows", "5", "--out", str(more)]) == 0
    assert "not private" in capsys.readouterr().out
    assert len(more.read_text().splitlines()) == 6
    rows = Synthesizer.load(run).sample(5)
    Synthesizer.load(run).save(tmp_path / "saved")
    assert [path.name for path in (tmp_path / "saved").iterdir()] == ["unprotected"]
    assert len(rows) == len(Synthesizer.load(tmp_path / "saved").sample(5))

    with pytest.raises(UserError, match="holds a run"):
        go("run")
    go("run", overwrite=True)
    assert (run / "release").exists() and not (run / "unprotected").exists()
    assert (run / "internal/archive/000-privacy.json").exists()


def test_epsilons_of_stages_are_stated_as_what_they_cost_together(
    go: Go,
    toy_config: Config,
    small_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The released configuration used to state a total that meant nothing, as a setting."""
    own = {"marginals": 1.0, "vae": 2.0, "labeler": 1.5}
    config = dataclasses.replace(toy_config, epsilon=None, shares={}, epsilons=own)
    summary, path = go("run", config=config), tmp_path / "run/release/generator/config.toml"
    composed = rdp_epsilon(plan_events(config), config.delta)[0]
    assert summary["epsilon"] == composed
    assert f"by RDP: epsilon = {composed} at delta = 1e-05\n" in path.read_text()
    assert read_generator(tmp_path / "run/release").config == load_config(path) == config
    go("run", config=config, resume=True)
    files = ["--config", str(path), "--data", str(small_data), "--out", str(tmp_path / "again")]
    files += ["--seed", "1"]  # whose programs are compiled
    assert train.main([*files, "--quiet"]) == 0
    again = json.loads((tmp_path / "again/release/privacy.json").read_text())
    assert again["epsilon"] == composed, "the same budget"
    # As an older run wrote it.
    path.write_text(path.read_text().replace("[privacy]\n", "[privacy]\nepsilon = 5.0\n"))
    assert read_generator(tmp_path / "run/release").config == config
    assert train.main([*files, "--overwrite"]) == 2
    assert "leave out the total (epsilon = 5.0" in capsys.readouterr().err
    assert (
        sample.main([str(tmp_path / "run"), "--rows", "5", "--out", str(tmp_path / "x.csv")]) == 0
    )


def test_simulated_data_cannot_be_missed(
    toy_config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    from rdpjax.data import simulate

    monkeypatch.setattr(cardio_dataset, "simulate_cardio", lambda: simulate.simulate_cardio(3000))
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
    go(
        "run",
        config=dataclasses.replace(toy_config, data=CardioSettings(derived=("pp",))),
        data=other,
    )
    header, first = (tmp_path / "run/release/synthetic.csv").read_text().splitlines()[:2]
    assert header == lines.splitlines()[0] + ",pp"
    assert len(first.split(",")) == 14 and first.startswith("s0000001,")


def test_values_outside_are_for_the_curator_alone(
    toy_config: Config, small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Noted on the screen and counted in `internal/`, once they are accepted; never released."""
    rows = [line.split(";") for line in small_data.read_text().splitlines()]
    at = rows[0].index("height")
    for row in rows[1:]:
        row[at] = f"{float(row[at]) / 2.54:.0f}"
    inches, out = tmp_path / "inches.csv", tmp_path / "run"
    inches.write_text("".join(";".join(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"in inches\?; .* or go on with --accept-clipping"):
        run(toy_config, Options(out, inches, seed=1))
    assert not out.exists()
    run(toy_config, Options(out, inches, seed=1, accept_clipping=True))
    assert "note: column 'height': 100% of 3,000 values lie outside 120" in capsys.readouterr().err
    facts = json.loads((out / "internal" / "facts.json").read_text())["out of bounds"]
    assert facts["column 'height'"] == {"outside": 3000, "records": 3000}
    for path in (out / "release").rglob("*"):
        assert path.is_dir() or b"inches" not in path.read_bytes()


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
    monkeypatch.setattr(cardio_dataset, "read_table", interrupted)
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
