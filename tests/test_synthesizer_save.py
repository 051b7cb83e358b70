"""The public object on disk: save, load, and what stands in the way."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rdpjax.codecs.table import TableCodec
from rdpjax.config import Config
from rdpjax.data.cardio import CARDIO
from rdpjax.data.fields import Categorical, Numeric
from rdpjax.data.schema import Schema
from rdpjax.datasets.table import TableSettings
from rdpjax.errors import UserError
from rdpjax.fitting.plans import plan_events
from rdpjax.privacy.report import replay
from rdpjax.runs.lock import LOCK, run_lock
from rdpjax.runs.run import run
from rdpjax.runs.start import Options
from rdpjax.synthesizer import Synthesizer


def test_fit_sample_save_load(
    synth: Synthesizer, toy_config: Config, toy_schema: Schema, tmp_path: Path
) -> None:
    rows = synth.sample(700, seed=4)
    assert list(rows) == list(toy_schema.names) and len(rows) == 700
    assert list(rows.index) == list(range(700))
    pd.testing.assert_frame_equal(rows, synth.sample(700, seed=4))
    pd.testing.assert_frame_equal(rows[:20], synth.sample(20, seed=4))
    assert not rows.equals(synth.sample(700, seed=5))
    assert not synth.sample(700).equals(synth.sample(700)), "the system's randomness"
    assert list(synth.ledger.events) == plan_events(toy_config, TableCodec(toy_schema))
    synth.save(tmp_path / "runs" / "toy")
    again = Synthesizer.load(tmp_path / "runs" / "toy")
    pd.testing.assert_frame_equal(rows, again.sample(700, seed=4))
    assert again.schema == toy_schema
    settings = TableSettings(toy_schema)
    expected = dataclasses.replace(toy_config, dataset="table", data=settings, holdout=0.0)
    assert again.config == synth.config == expected
    assert again.ledger.epsilon(1e-5) == synth.ledger.epsilon(1e-5)
    assert again.report() == synth.report()
    assert [p.name for p in (tmp_path / "runs" / "toy").iterdir()] == ["release"]


def test_the_claim_of_a_saved_one(synth: Synthesizer, toy_config: Config, tmp_path: Path) -> None:
    synth.save(tmp_path)
    report = json.loads((tmp_path / "release" / "privacy.json").read_text())
    assert report["epsilon"] == replay(report) == synth.ledger.epsilon(toy_config.delta)
    assert toy_config.epsilon - 0.001 < report["epsilon"] <= toy_config.epsilon
    assert (report["unit"], report["secret_noise"]) == ("one row = one person", False)


def test_a_release_is_never_overwritten(synth: Synthesizer, tmp_path: Path) -> None:
    synth.save(tmp_path)
    with pytest.raises(UserError, match="release: exists; choose another folder"):
        synth.save(tmp_path)


def test_save_waits_for_no_other_process_in_its_folder(synth: Synthesizer, tmp_path: Path) -> None:
    """It used to write a release into the folder of a run that was going on."""
    with run_lock(tmp_path / "run"):
        with pytest.raises(UserError, match=r"run: a run is going on here \(process \d+\); wait"):
            synth.save(tmp_path / "run")
        assert [path.name for path in (tmp_path / "run").iterdir()] == [LOCK]
    synth.save(tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["release"]


def test_save_holds_its_folder(
    synth: Synthesizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other: list[str] = []

    def meanwhile(*_: object) -> None:
        with pytest.raises(UserError) as caught, run_lock(tmp_path / "run"):
            raise AssertionError
        other.append(str(caught.value))
        raise OSError

    monkeypatch.setattr("rdpjax.synthesizer.write_generator", meanwhile)
    with pytest.raises(UserError):
        synth.save(tmp_path / "run")
    assert "a run is going on here" in other[0]
    assert list(tmp_path.iterdir()) == []


def test_save_leaves_an_unfinished_run_alone(synth: Synthesizer, tmp_path: Path) -> None:
    """Its --resume would have taken the release for its own."""
    (tmp_path / "internal").mkdir()
    (tmp_path / "internal" / "keys.json").write_text("{}")
    with pytest.raises(UserError, match="holds an unfinished run; choose another folder"):
        synth.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["internal"]


def test_an_unwritable_place_is_the_users_to_mend(synth: Synthesizer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write there"):
        synth.save(tmp_path / "file" / "run")


def test_load_wants_a_completed_run(synth: Synthesizer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no generator there"):
        Synthesizer.load(tmp_path / "nothing")
    synth.save(tmp_path)
    path = tmp_path / "release" / "privacy.json"
    report = json.loads(path.read_text())
    path.write_text(json.dumps(report | {"epsilon": 0.1}))
    with pytest.raises(UserError, match=r"claims epsilon 0\.1, but its events cost"):
        Synthesizer.load(tmp_path)
    path.write_text("{")
    with pytest.raises(UserError, match=r"privacy\.json: no JSON"):
        Synthesizer.load(tmp_path)


def test_a_run_folder_can_be_loaded(toy_config: Config, small_data: Path, tmp_path: Path) -> None:
    run(toy_config, Options(tmp_path, small_data, seed=1, overwrite=True), quiet=True)
    synth = Synthesizer.load(tmp_path)
    assert synth.schema == CARDIO and synth.config == toy_config
    rows = synth.sample(200, seed=1)
    assert set(rows) == set(CARDIO.names) and rows["ap_hi"].between(70, 240).all()
    report = json.loads((tmp_path / "release" / "privacy.json").read_text())
    assert synth.ledger.epsilon(report["delta"]) == pytest.approx(report["epsilon"], abs=1e-9)


def test_it_is_shown_in_a_line_and_not_pickled(synth: Synthesizer) -> None:
    assert repr(synth).startswith("<Synthesizer of 'toy': fitted, epsilon ")
    for use in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(UserError, match=r"use save\(path\) and Synthesizer.load\(path\)"):
            use(synth)


def test_values_keep_their_kinds_through_fit_and_save(
    toy_config: Config, toy_frame: pd.DataFrame, tmp_path: Path
) -> None:
    """Levels as numpy has them used to fail in `save`, after the budget was spent."""
    schema = Schema(
        "toy",
        (
            Numeric("low", "kg", 0, 20, resolution=0.1),
            Numeric("high", "cm", 0, 90),
            Categorical("ward", toy_frame["ward"].unique()),
            Categorical("late", np.array([False, True])),
            Categorical("ill", np.sort(toy_frame["ill"].unique())),
        ),
        label="ill",
    )
    frame = toy_frame.assign(late=toy_frame["high"] > 40)
    rows = Synthesizer(schema, config=toy_config).fit(frame, seed=1).sample(300, seed=1)
    assert [kind.kind for kind in rows.dtypes][:2] == ["f", "i"]
    assert [rows["late"].dtype.kind, rows["ill"].dtype.kind] == ["b", "i"]
    assert set(rows["ward"]) <= set(frame["ward"]) and (rows["low"] % 1 > 0).mean() > 0.5
    assert (rows["low"].round(1) == rows["low"]).all()
    synth = Synthesizer(schema, config=toy_config).fit(frame, seed=1)
    synth.save(tmp_path)
    again = Synthesizer.load(tmp_path)
    assert again.schema == schema
    pd.testing.assert_frame_equal(again.sample(300, seed=1), rows)
