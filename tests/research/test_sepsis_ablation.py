"""The ablation table of the sepsis generator, on a simulated cohort with a few steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from rdpjax.config_file import load_config
from rdpjax.data.stays.simulate_sepsis import simulated_table
from rdpjax.models import autoregressive

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def ablation(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`research.sepsis_ablation`; packages of the same name that others install come second."""
    monkeypatch.syspath_prepend(str(ROOT))
    return pytest.importorskip("research.sepsis_ablation")


@pytest.fixture
def filling(ablation: ModuleType) -> ModuleType:
    return pytest.importorskip("research.hour_filling")


def few_steps(config, steps=2):
    stages = {name: replace(stage, steps=steps) for name, stage in config.stages.items()}
    # So few patients are lost in the noise of a smaller epsilon.
    return replace(
        config,
        block_rows=512,
        pool_rows=2048,
        data=replace(config.data, label="stay"),
        epsilon=50.0,
        stages=stages,
    )


@pytest.mark.slow
def test_rows_of_two_variants(ablation, monkeypatch):
    """Real patients, and a run with the network over hours: one budget for all of it."""
    hours = replace(ablation.HourStage(), steps=2)
    monkeypatch.setattr(ablation, "HourStage", lambda kind: replace(hours, kind=kind))
    monkeypatch.setattr(autoregressive, "LEVELS", 1)
    train, held_out = ablation.split(simulated_table(1500).patients)
    assert 250 < len(held_out) < 350 and not set(held_out.ids) & set(train.ids)
    config = few_steps(load_config(ROOT / "configs" / "sepsis.toml"))
    study = ablation.Study(config, train, rows=400, seed=1)

    real = ablation.row(study, "real training patients", held_out)
    assert real["patients"] == len(train) and real["epsilon"] is None and not study.kept

    steered = ablation.row(study, "Conv1d VAE over hours", held_out)
    assert steered["patients"] == 400
    assert 49 < steered["epsilon"] <= 50
    assert real["missing_gap_mean"] < steered["missing_gap_mean"] < 0.1
    trained = study.with_hours(ablation.HourStage("autoencoder"))
    spent = {event.stage for event in trained.ledger.events}
    assert spent == {"values", "profiles", "marginals", "autoregressive", "hours"}
    assert len(ablation.line(steered).split("|")) == len(ablation.HEAD) + 2


def test_first_hours_are_those_of_the_stay(filling):
    rng = np.random.default_rng(0)
    lengths = np.array([3, 24])
    counts = np.minimum(rng.integers(0, 24, (2, 34)), lengths[:, None])
    taken = filling.first_hours(rng.random((2, 24, 34)), counts, lengths)
    assert (taken.sum(axis=1) == counts).all()
    assert not taken[0, 3:].any()


def test_an_unknown_variant_is_refused(ablation, capsys):
    with pytest.raises(SystemExit):
        ablation.main(["nowhere", "--only", "nothing"])
    assert "nothing" in capsys.readouterr().err
