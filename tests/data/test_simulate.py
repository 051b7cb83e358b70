from __future__ import annotations

import numpy as np
import pytest

from rdpjax.data.cardio import CARDIO, KAGGLE_LAYOUT, parse_cardio
from rdpjax.data.schema import Categorical
from rdpjax.data.simulate import simulate_cardio
from rdpjax.io.delimited import parse_table


@pytest.fixture(scope="module")
def cohort():
    return parse_cardio(parse_table(simulate_cardio(20_000, seed=3).encode(), "simulated"))


def test_has_the_published_form(cohort):
    assert cohort.layout == KAGGLE_LAYOUT
    assert cohort.notes == ()
    ids = np.array(cohort.ids, dtype=int)
    assert (np.diff(ids) > 0).all() and (np.diff(ids) > 1).any()
    assert all(len(text.split(";")[4].split(".")[1]) == 1 for text in cohort.table.texts)


def test_seed_decides():
    assert simulate_cardio(50, seed=1) == simulate_cardio(50, seed=1)
    assert simulate_cardio(50, seed=1) != simulate_cardio(50, seed=2)


@pytest.mark.parametrize("records", [1, 2, 7])
def test_small_cohorts(records: int):
    table = parse_table(simulate_cardio(records).encode(), "simulated")
    assert len(parse_cardio(table).frame) == records


def test_every_level_occurs(cohort):
    for column in CARDIO.columns:
        if isinstance(column, Categorical):
            shares = cohort.frame[column.name].value_counts(normalize=True)
            assert set(shares.index) == set(column.levels)
            assert shares.min() > 0.03


def test_values_heap_at_round_numbers(cohort):
    frame = cohort.frame
    assert (frame["ap_hi"] % 10 == 0).mean() > 0.7
    pairs = frame[["ap_hi", "ap_lo"]].value_counts(normalize=True)
    assert pairs[(120, 80)] > 0.1 and pairs[(140, 90)] > 0.05
    assert 0.9 < (frame["weight"] % 1 == 0).mean() < 1
    years = frame["age"] / 365.25
    odd = np.abs((years - 1) % 2 - 0) < 0.25
    assert odd.mean() < 0.2  # ages gather around the even birthdays


def test_some_pressures_are_impossible(cohort):
    high, low = cohort.frame["ap_hi"], cohort.frame["ap_lo"]
    wrong = (high <= low) | (high < 50) | (high > 300) | (low < 20) | (low > 250)
    assert 0.01 < wrong.mean() < 0.02
    assert (high < 0).any() and (low < 0).any() and (high > 1000).any() and (low > 1000).any()


def test_columns_depend_on_each_other(cohort):
    frame = cohort.frame
    assert frame.groupby("gender")["smoke"].mean().diff()[2] > 0.1
    assert frame.groupby("gender")["height"].mean().diff()[2] > 5
    for column in ("age", "weight", "cholesterol"):
        assert frame.groupby("cardio")[column].mean().diff()[1] > 0
    assert abs(frame["cardio"].mean() - 0.5) < 0.03


def test_disease_can_be_told_about_as_well_as_in_the_real_table(cohort):
    ensemble = pytest.importorskip("sklearn.ensemble")
    metrics = pytest.importorskip("sklearn.metrics")
    x, y = cohort.frame.drop(columns="cardio"), cohort.frame["cardio"]
    model = ensemble.HistGradientBoostingClassifier(max_iter=50, random_state=0)
    model.fit(x[:10_000], y[:10_000])
    score = metrics.roc_auc_score(y[10_000:], model.predict_proba(x[10_000:])[:, 1])
    assert 0.77 < score < 0.81
