"""Figures of patients, each against what it should be on cohorts made for it."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from rdpjax.data.stays.patients import Patients
from rdpjax.data.stays.psv_writing import rounded, write_psv
from rdpjax.data.stays.sepsis import VARIABLES
from rdpjax.errors import UserError
from rdpjax.evaluation.patients import (
    copies,
    correlations,
    facts,
    learnt,
    nearness,
    positive,
    score_patients,
    summaries,
    window_rows,
)


def made_up(count: int, seed: int, shift: float = 0.0) -> Patients:
    """Stays of 3 to 40 hours; a fifth of the patients turn positive, with faster hearts.

    Args:
      count: of patients.
      seed: of all that is drawn.
      shift: how far readings lie from those of another cohort, in spreads.
    """
    rng = np.random.default_rng(seed)
    stays = rng.integers(3, 41, count)
    starts = np.concatenate([[0], np.cumsum(stays)])
    onset = np.where(
        rng.random(count) < 0.2, (stays * rng.uniform(0.1, 0.9, count)).astype(int), -1
    )
    patient = np.repeat(np.arange(count), stays)
    low, high = np.array([(v.low, v.high) for v in VARIABLES]).T
    level = rng.normal(shift, 1, (count, 34))[patient]
    level[:, 1:8] += level[:, :1]
    level[:, 0] += 1.5 * (onset >= 0)[patient]
    noise = rng.normal(0, 0.6, (starts[-1], 34))
    noise[1:] += 0.7 * noise[:-1]
    share = np.where(np.arange(34) < 7, 0.8, rng.uniform(0.002, 0.15, 34))
    values = (low + high) / 2 + (level + noise) * (high - low) / 20
    values[rng.random(values.shape) > share] = np.nan
    medical = rng.integers(0, 2, count).astype(float)
    medical[rng.random(count) < 0.3] = np.nan
    statics = [rng.integers(18, 90, count), rng.integers(0, 2, count), medical, 1 - medical]
    statics.append(-rng.exponential(30, count))
    first = rng.integers(1, 3, count).astype(np.int32)
    return rounded(
        Patients(
            values.astype(np.float32),
            starts,
            first,
            onset.astype(np.int32),
            np.stack(statics, axis=1).astype(np.float32),
            tuple(f"p{i:06d}" for i in range(count)),
        )
    )


@pytest.fixture(scope="session")
def yardstick(shared_data: Path) -> ModuleType:
    path = shared_data.parent / "yardstick" / "score_sepsis.py"
    if not path.is_file():
        pytest.skip(f"no independent scorer: {path.name} is not beside the real data")
    spec = importlib.util.spec_from_file_location("score_sepsis", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def in_their_words(scores: dict) -> dict:
    """Our figures under the independent scorer's names, rounded as it rounds."""
    side, test = scores["synthetic"], scores["real_test"]
    ours = {
        "patients": side["patients"],
        "positive_stay": side["positive_stay"],
        "positive_stay_real": test["positive_stay"],
        "positive_window": side["positive_window"],
        "positive_window_real": test["positive_window"],
        "stay_median": side["stay_median"],
        "stay_median_real": test["stay_median"],
        "missing_gap": side["missing_gap_mean"],
        "ks_mean": side["ks_mean"],
        "ks_worst": side["ks_worst"],
        "lag1_gap": side["lag1_gap_mean"],
        "corr_gap": side["correlation_gap"],
        "copies": side["copies"]["of_held_out"],
    }
    for label, found in side["utility"].items():
        ours |= {f"gb_{kind}_{label}": value for kind, value in found.items()}
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in ours.items()}


def agree(ours: dict, theirs: dict) -> None:
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        if isinstance(value, str):
            assert ours[name] == value
        else:  # within the last printed digit, which rounds a half this way or that
            assert ours[name] == pytest.approx(value, abs=1.01e-4), name


@pytest.mark.filterwarnings("ignore")
def test_figures_agree_with_the_independent_scorer(yardstick, tmp_path):
    real, other = made_up(300, seed=1), made_up(260, seed=2, shift=0.3)
    other = joined(other, real.take(np.arange(5)))  # five copies
    for name, side in (("real", real), ("other", other)):
        write_psv(tmp_path / name, side, [f"p{i:06d}" for i in range(len(side))])
    (theirs, none), (theirs_real, _) = (
        yardstick.load(str(tmp_path / name), 1000) for name in ("other", "real")
    )
    assert none == 0
    ours = in_their_words(score_patients(other, real))
    agree(ours, yardstick.score(theirs, theirs_real))
    assert ours["copies"] == 5
    assert 0.6 < ours["gb_auroc_stay"] < 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_figures_agree_on_real_patients(shared_data, yardstick, tmp_path):
    from rdpjax.data.stays.patient_files import read_patients

    path = shared_data / "sepsis_training_setB.tar.gz"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in {shared_data}")
    table = read_patients(path)
    some = np.arange(len(table.patients))[::4]
    real, train = table.patients.take(some[::2]), table.patients.take(some[1::2])
    sides = []
    for name, side in (("train", train), ("real", real)):
        table.copy_files(side.ids, tmp_path / name)
        sides.append(yardstick.load(str(tmp_path / name), 10_000)[0])
    agree(in_their_words(score_patients(train, real)), yardstick.score(*sides))


def joined(a: Patients, b: Patients) -> Patients:
    return Patients(
        np.concatenate([a.values, b.values]),
        np.concatenate([a.starts, a.starts[-1] + b.starts[1:]]),
        np.concatenate([a.first, b.first]),
        np.concatenate([a.onset, b.onset]),
        np.concatenate([a.statics, b.statics]),
        (*a.ids, *b.ids),
    )


def test_summaries_are_those_of_each_patient():
    patients = never_measured(made_up(40, seed=3), 9)
    found = summaries(patients, 10).reshape(40, 6, 39)
    rows, patient = window_rows(patients, 10)
    for i in range(40):
        for j in (0, 8, 9, 20, 36, 38):
            series = rows[patient == i, j]
            known = series[~np.isnan(series)]
            assert found[i, 5, j] == len(known)
            if not len(known):
                assert np.isnan(found[i, :5, j]).all()
                continue
            want = [known.mean(), known.min(), known.max(), known[0], known[-1]]
            np.testing.assert_allclose(found[i, :5, j], want, rtol=1e-12)


def test_correlations_are_those_of_each_pair():
    rng = np.random.default_rng(0)
    rows = rng.normal(1e4, 1, (900, 5)) @ rng.normal(size=(5, 5))
    rows[rng.random(rows.shape) < 0.3] = np.nan
    rows[:, 3] = np.where(np.isnan(rows[:, 3]), np.nan, 7.0)  # no spread
    rows[150:, 4] = np.nan  # too few
    found = correlations(rows)
    assert np.isnan(found[3:]).all() and np.isnan(found[:, 3:]).all()
    for i, j in ((0, 1), (0, 2), (1, 2)):
        both = ~np.isnan(rows[:, i]) & ~np.isnan(rows[:, j])
        want = np.corrcoef(rows[both, i], rows[both, j])[0, 1]
        assert found[i, j] == pytest.approx(want, abs=1e-6)


def never_measured(patients: Patients, column: int) -> Patients:
    values = patients.values.copy()
    values[:, column] = np.nan
    return replace(patients, values=values)


def test_who_is_positive_when():
    four = replace(made_up(200, seed=0).take(np.arange(4)), onset=np.array([-1, 0, 2, 9], np.int32))
    assert (four.stays >= 3).all()
    assert positive(four, 2).tolist() == [False, True, False, False]
    assert positive(four, 3).tolist() == [False, True, True, False]
    late = replace(four, onset=four.stays.astype(np.int32))  # after the last row: no label is 1
    assert not positive(late, None).any() and late.labels.sum() == 0


def test_a_cohort_is_near_itself_and_a_shifted_one_is_not():
    real = made_up(200, seed=1)
    same = nearness(real, real)
    for name in ("missing_gap_mean", "ks_mean", "lag1_gap_mean", "correlation_gap"):
        assert same[name] == 0
    real = never_measured(real, 9)
    far = nearness(never_measured(made_up(200, seed=2, shift=2), 9), real)
    assert far["ks"]["HR"] > 0.3 > far["ks"]["Gender"]
    assert "HCO3" not in far["ks"] and far["missing_gap"]["HCO3"] == 0
    blank = replace(real, values=np.full_like(real.values, np.nan))
    empty = nearness(blank, real)
    assert empty["ks"]["HR"] == 1 and empty["missing_gap"]["HR"] > 0.5


def test_copies_need_every_cell():
    real = made_up(60, seed=1)
    assert copies(real, real) == 60
    assert copies(real.take(np.arange(7)), real) == 7
    changed = [
        replace(real, values=np.where(np.isnan(real.values), 50, real.values)),
        replace(real, statics=real.statics + 1),
        replace(real, first=real.first + 1),
        replace(real, onset=np.where(real.onset < 0, 0, -1)),
    ]
    assert [copies(side, real) for side in changed] == [0, 0, 0, 0]
    noisy = replace(real, values=real.values + np.float32(1e-4))
    assert copies(noisy, real) == 0 and copies(rounded(noisy), real) == 60
    assert copies(real.take(np.arange(0)), real) == 0


def test_a_training_label_of_one_class_teaches_nothing():
    real = made_up(80, seed=1)
    assert learnt(never_measured(real, 0), real)["stay"]["auroc"] != 0.5
    healthy = replace(real, onset=np.full(80, -1, np.int32))
    found = learnt(healthy, real)
    assert found["stay"] == {"auroc": 0.5, "auprc": pytest.approx(positive(real, None).mean())}
    assert learnt(real, healthy) == {"stay": None, "window": None}


@pytest.mark.usefixtures("small_models")
def test_with_training_patients():
    real, train, synthetic = (made_up(n, seed=n) for n in (120, 200, 150))
    synthetic = joined(synthetic, train.take(np.arange(3)))
    said: list[str] = []
    scores = score_patients(synthetic, real, real_train=train, hours=12, progress=said.append)
    assert json.loads(json.dumps(scores)) == scores
    assert len(said) == 4 and scores["hours"] == 12
    assert scores["real_train"]["patients"] == 200
    assert scores["real_test"] == facts(real, 12)
    assert scores["synthetic"]["copies"] == {
        "of_held_out": 0,
        "expected": 0.0,
        "of_training": 3,
        "expected_of_training": 0.0,
    }
    assert set(scores["real_train"]["copies"]) == {"of_held_out", "expected"}


@pytest.mark.usefixtures("small_models")
def test_copies_expected_among_real_patients():
    """Of 100 held-out patients all even ones have a twin among the odd ones."""
    twins = made_up(50, seed=1)
    real = twins.take(np.repeat(np.arange(50), 2))
    scores = score_patients(made_up(30, seed=2), real)
    assert scores["synthetic"]["copies"] == {"of_held_out": 0, "expected": 60.0}


def test_no_patients_is_said():
    real = made_up(10, seed=1)
    with pytest.raises(UserError, match="synthetic: no patients"):
        score_patients(real.take(np.arange(0)), real)
