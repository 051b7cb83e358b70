from __future__ import annotations

import warnings
from itertools import islice

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from rdpjax.data.stays import psv_block
from rdpjax.data.stays.patient_files import PatientTable
from rdpjax.data.stays.sepsis import BOUNDS, COLUMNS, LONGEST, STATICS, VARIABLES
from rdpjax.data.stays.simulate_sepsis import simulate_sepsis, simulated_table
from rdpjax.io.archive import open_source


@pytest.fixture(scope="module")
def table() -> PatientTable:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psv_block, "parse_psv", None)  # every file is plain
        return simulated_table()


def test_files_have_the_published_form(shared_data):
    name, content = next(simulate_sepsis(3, seed=1))
    assert name == "p000001.psv"
    lines = content.decode().split("\n")
    assert lines[0] == "|".join(COLUMNS) and lines[-1] == ""
    assert all(len(line.split("|")) == len(COLUMNS) for line in lines[:-1])
    assert "nan" not in content.decode() and "-0|" not in content.decode()
    path = shared_data / "sepsis_training_setB.tar.gz"
    if not path.is_file():
        pytest.skip(f"no real patients: {path.name} is not in {shared_data}")
    real = next(iter(open_source(path).members())).content.decode().split("\n")
    assert real[0] == lines[0] and real[-1] == lines[-1]


def test_equal_seeds_give_equal_files():
    first = list(simulate_sepsis(20, seed=5))
    assert list(simulate_sepsis(20, seed=5)) == first
    assert list(simulate_sepsis(20, seed=6)) != first
    assert [name for name, _ in first] == [f"p{i:06d}.psv" for i in range(1, 21)]


def test_copies_are_the_files(table: PatientTable, tmp_path):
    assert table.path is None and not table.notes and not table.skipped
    table.copy_files(["p000002"], tmp_path)
    ((name, content),) = islice(simulate_sepsis(), 1, 2)
    assert (tmp_path / name).read_bytes() == content


def test_the_cohort_is_plausible(table: PatientTable):
    patients = table.patients
    assert len(patients) == 4000
    assert patients.stays.min() >= 8 and patients.hours.max() <= LONGEST
    assert 30 < np.median(patients.stays) < 46
    ill = patients.onset >= 0
    assert 0.05 < ill.mean() < 0.075
    assert ((patients.stays - patients.onset)[ill] <= 10).all()
    assert 0.85 < (patients.first == 1).mean() < 0.97
    low, high = BOUNDS.T
    measured = ~np.isnan(patients.values)
    slack = 1e-4
    assert (patients.values >= low - slack)[measured].all()
    assert (patients.values <= high + slack)[measured].all()
    assert measured.any(axis=0).all()
    statics = dict(zip(STATICS, patients.statics.T, strict=True))
    assert (statics["Age"] % 1 == 0).all() and (statics["HospAdmTime"] < 0).all()
    assert 0.2 < np.isnan(statics["Unit1"]).mean() < 0.4
    np.testing.assert_array_equal(statics["Unit1"] + statics["Unit2"], 1 + 0 * statics["Unit1"])


def test_the_severe_differ_as_they_should(table: PatientTable):
    patients = table.patients
    ill = np.repeat(patients.onset >= 0, patients.stays)

    def rises(values: np.ndarray) -> bool:
        return np.nanmean(values[ill]) > np.nanmean(values[~ill])

    column = {v.name: patients.values[:, i] for i, v in enumerate(VARIABLES)}
    assert all(rises(column[name]) for name in ("HR", "Resp", "Temp", "WBC", "Lactate"))
    assert rises(-column["MAP"])
    laboratory = [i for i, v in enumerate(VARIABLES) if v.kind == "laboratory"]
    assert rises((~np.isnan(patients.values[:, laboratory])).sum(axis=1))


def test_sepsis_can_be_learnt(table: PatientTable):
    patients = table.patients
    seen = [v[:24] for v in np.split(patients.values, patients.starts[1:-1])]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nothing measured
        summaries = np.array(
            [
                np.concatenate([np.nanmean(v, 0), np.nanmax(v, 0), (~np.isnan(v)).sum(0)])
                for v in seen
            ]
        )
    label = patients.onset >= 0
    model = HistGradientBoostingClassifier(
        max_iter=60, learning_rate=0.06, max_leaf_nodes=6, random_state=0
    )
    model.fit(summaries[:2500], label[:2500])
    score = roc_auc_score(label[2500:], model.predict_proba(summaries[2500:])[:, 1])
    assert 0.72 < score < 0.88
