"""Membership attacks find what is there, and their intervals cover."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from rdpjax.errors import UserError
from rdpjax.evaluation import attacks
from rdpjax.evaluation.attacks import (
    allowed_area,
    allowed_rate,
    density_ratio,
    interval,
    nearest_distance,
    outcome,
)


def cohort(seed: int, count: int = 300) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 4))


def test_distances_are_those_of_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacks, "BLOCK", 100)  # many blocks
    records, synthetic = cohort(1, 23), cohort(2, 17)
    every = np.linalg.norm(records[:, None] - synthetic[None], axis=2)
    np.testing.assert_allclose(nearest_distance(records, synthetic), -every.min(axis=1), rtol=1e-12)
    five, three = np.sort(every, axis=1)[:, :5], np.sort(every[:, :3], axis=1)
    np.testing.assert_allclose(attacks._distances(records, synthetic, 5), five, rtol=1e-12)
    np.testing.assert_allclose(attacks._distances(records, synthetic[:3], 5), three, rtol=1e-12)


def test_a_copy_is_found_by_both_attacks() -> None:
    members, others, reference = cohort(1), cohort(2), cohort(3)
    for score in (
        lambda records: nearest_distance(records, members),
        lambda records: density_ratio(records, members, reference),
    ):
        found = outcome(score(members), score(others))
        assert found.auc.share == 1.0 and found.auc.low > 0.98
        assert found.points[0].found.share == 1.0 and found.points[0].accused.share <= 0.01


def test_a_blurred_copy_is_found_by_density() -> None:
    members, others, reference = cohort(1), cohort(2), cohort(3, 3000)
    blurred = np.concatenate([members + 0.2 * cohort(10 + i) for i in range(6)])
    found = outcome(*(density_ratio(x, blurred, reference) for x in (members, others)))
    assert found.auc.low > 0.6


def test_fresh_records_of_the_population_tell_nothing() -> None:
    members, others, reference, synthetic = (cohort(i) for i in range(4))
    for scores in (
        [nearest_distance(x, synthetic) for x in (members, others)],
        [density_ratio(x, synthetic, reference) for x in (members, others)],
    ):
        found = outcome(*scores)
        assert found.auc.low < 0.5 < found.auc.high
        assert all(point.found.low <= point.accused.high for point in found.points)


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=30),
    st.lists(st.integers(0, 6), min_size=1, max_size=30),
)
def test_the_area_is_scikit_learns_with_ties_too(members: list[int], others: list[int]) -> None:
    found = outcome(np.array(members, float), np.array(others, float))
    truth = [1] * len(members) + [0] * len(others)
    assert found.auc.share == pytest.approx(roc_auc_score(truth, members + others))
    assert 0 <= found.auc.low <= found.auc.share <= found.auc.high <= 1


def test_a_point_accuses_no_more_than_asked_for() -> None:
    rng = np.random.default_rng(0)
    members, others = rng.integers(0, 50, 4000) + 5.0, rng.integers(0, 50, 3000) + 0.0
    for point in outcome(members, others, (0.1, 0.01, 0.001)).points:
        assert point.accused.share <= point.asked
        assert point.accused.low <= point.accused.share <= point.accused.high
    # Scores that are all the same accuse nobody.
    assert outcome(np.ones(5), np.ones(5), (0.5,)).points[0].accused.share == 0.0


def test_intervals_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    hits = [interval(int(k), 200, 0.95) for k in rng.binomial(200, 0.02, 2000)]
    assert np.mean([h.low <= 0.02 <= h.high for h in hits]) >= 0.945
    areas = []
    for _ in range(300):  # two normals 1 apart: the area is Phi(1 / sqrt 2) = 0.7602
        scores = rng.normal(1, 1, 60), rng.normal(0, 1, 60)
        areas.append(outcome(*scores, confidence=0.95).auc)
    assert np.mean([a.low <= 0.7602 <= a.high for a in areas]) >= 0.93


def test_what_epsilon_allows_is_the_region_of_randomized_response() -> None:
    for epsilon, delta in ((0.0, 0.0), (0.5, 0.0), (1.0, 1e-5), (3.0, 0.1)):
        rates = np.linspace(0, 1, 200_001)
        curve = [allowed_rate(r, epsilon, delta) for r in rates[::100]]
        area = np.trapezoid(curve, rates[::100])
        assert area == pytest.approx(allowed_area(epsilon, delta), abs=1e-3)
    # Randomized response with epsilon reaches the corner and no more.
    truth = np.e / (1 + np.e)
    assert allowed_rate(1 - truth, 1.0, 0.0) == pytest.approx(truth)


def test_nobody_to_attack_or_to_compare_with_is_a_mistake() -> None:
    with pytest.raises(UserError, match="members and as many others"):
        outcome(np.zeros(0), np.zeros(3))
    with pytest.raises(UserError, match="one record or more"):
        nearest_distance(np.zeros((2, 1)), np.zeros((0, 1)))
