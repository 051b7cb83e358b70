"""Real training patients against the hold-out, from files."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from rdpjax.data.stays.patients import Patients
from rdpjax.data.stays.psv_writing import write_psv

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def baseline(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`benchmarks.sepsis_baseline`; packages of the same name that others install come second."""
    monkeypatch.syspath_prepend(str(ROOT))
    return pytest.importorskip("benchmarks.sepsis_baseline")


def patients(count: int) -> Patients:
    rng = np.random.default_rng(0)
    values = np.full((5 * count, 34), np.nan, np.float32)
    values[:, :7] = rng.integers(40, 99, (5 * count, 7))
    return Patients(
        values,
        np.arange(0, 5 * count + 1, 5),
        np.ones(count, np.int32),
        np.where(np.arange(count) % 3 == 0, 2, -1).astype(np.int32),
        np.tile(np.float32([60, 1, 0, 1, -2.5]), (count, 1)),
        tuple(f"p{i:06d}" for i in range(count)),
    )


def test_training_patients_are_those_not_held_out(baseline, tmp_path, capsys):
    every = patients(70)
    held = every.take(np.arange(0, 70, 5))
    write_psv(tmp_path / "all", every, every.ids)
    write_psv(tmp_path / "held", held, held.ids)
    assert baseline.main([str(tmp_path / "all"), str(tmp_path / "held")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["patients"] == 56
    assert found["copies"]["of_held_out"] == 0
    assert set(found["utility"]) == {"stay", "window"}


def test_what_does_not_belong_together_is_said(baseline, tmp_path, capsys):
    every = patients(6)
    write_psv(tmp_path / "all", every, every.ids)
    write_psv(tmp_path / "other", every, [f"q{i}" for i in range(6)])
    for held, said in (("other", "lacks held-out patients"), ("all", "every patient")):
        assert baseline.main([str(tmp_path / "all"), str(tmp_path / held)]) == 2
        assert said in capsys.readouterr().err
    assert baseline.main([]) == 2
