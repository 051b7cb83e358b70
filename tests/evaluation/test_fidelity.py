from itertools import combinations

import numpy as np
import pytest
from scipy.stats import ks_2samp

from rdpjax.evaluation.fidelity import (
    fidelity,
    ks_statistic,
    level_ratios,
    level_shares,
    pair_trends,
    rule_breaks,
    total_variation,
    two_sample_auroc,
)
from rdpjax.evaluation.tables import bin_count, binned, numbers, ordered


def test_ks_is_scipys_with_ties():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, 300).astype(float), rng.integers(1, 11, 170).astype(float)
    assert ks_statistic(a, b) == pytest.approx(ks_2samp(a, b).statistic, abs=1e-12)
    assert ks_statistic(a, a) == 0
    assert ks_statistic(a, a + 100) == 1


@pytest.mark.parametrize("ways", [1, 2, 3])
def test_total_variation_is_that_of_counted_tuples(toy, toy_schema, ways):
    a, b = binned(toy(300, seed=1), toy_schema), binned(toy(200, seed=2), toy_schema)
    sizes = {name: bin_count(toy_schema, name) for name in toy_schema.names}
    means = []
    for names in combinations(a, ways):
        rows_a, rows_b = (list(zip(*(t[n] for n in names), strict=True)) for t in (a, b))
        seen = set(rows_a) | set(rows_b)
        gap = sum(abs(rows_a.count(c) / 300 - rows_b.count(c) / 200) for c in seen)
        means.append(gap / 2)
    assert total_variation(a, b, sizes, ways) == pytest.approx(np.mean(means), abs=1e-12)
    assert total_variation(a, a, sizes, ways) == 0


def test_a_detector_finds_noise_on_heaped_values_and_nothing_in_a_fresh_draw(toy, toy_schema):
    real, fresh = (toy(400, seed=s).assign(high_p=lambda t: t["high_p"].round(-1)) for s in (1, 2))
    blurred = fresh.assign(high_p=fresh["high_p"] + 3)
    assert two_sample_auroc(fresh, real, toy_schema) == pytest.approx(0.5, abs=0.1)
    assert two_sample_auroc(blurred, real, toy_schema) > 0.9


def test_a_lost_level_is_missing(toy, toy_schema, small_models):
    real, lost = toy(1000, seed=1), toy(1000, seed=2)
    lost["grade"] = "a"
    figures = fidelity(lost, real, toy_schema)
    assert figures["levels_missing"] == ["grade=b", "grade=c"]
    assert figures["levels"]["grade"] == {"a": 1.0, "b": 0.0, "c": 0.0}
    assert figures["level_ratios"]["grade=c"] == 0


def test_a_level_that_reality_hardly_has_is_not_missed(toy, toy_schema):
    real = toy(1000)
    real["grade"] = "a"
    real.loc[:4, "grade"] = "c"
    shares = level_shares(real, toy_schema)
    assert set(level_ratios(shares, shares)) == {"grade=a", "sick=0", "sick=1"}


def test_rules_are_counted_on_the_values_as_written(toy, toy_schema):
    frame = toy(100)
    frame["high_p"], frame["low_p"] = 300.0, 200.0
    frame.loc[:9, "low_p"] = 301.0  # both clip to their bounds, in good order
    assert rule_breaks(frame, toy_schema) == {"low_p > high_p": 0.1}


def test_pair_trends_see_broken_dependence(toy, toy_schema):
    real, fresh = toy(3000, seed=1), toy(3000, seed=2)
    shuffled = fresh.assign(high_p=fresh["high_p"].sample(frac=1, random_state=0).to_numpy())
    assert pair_trends(real, real, toy_schema) == 1
    assert pair_trends(fresh, real, toy_schema) > 0.96
    assert pair_trends(shuffled, real, toy_schema) < pair_trends(fresh, real, toy_schema) - 0.05


def test_pair_trends_by_hand(toy, toy_schema):
    real, other = toy(500, seed=1), toy(400, seed=2)
    names = ordered(other, toy_schema)
    numeric = ("age", "high_p", "low_p")
    values = [numbers(frame, toy_schema, numeric) for frame in (other, real)]
    bins = [binned(frame, toy_schema, 10) for frame in (other, real)]
    sizes = {name: bin_count(toy_schema, name, 10) for name in names}
    scores = []
    for one, two in combinations(names, 2):
        if one in numeric and two in numeric:
            rho = [np.corrcoef(v[one], v[two])[0, 1] for v in values]
            scores.append(1 - abs(rho[0] - rho[1]) / 2)
        else:
            a, b = ({n: t[n] for n in (one, two)} for t in bins)
            scores.append(1 - total_variation(a, b, sizes, 2))
    assert pair_trends(other, real, toy_schema) == pytest.approx(np.mean(scores), abs=1e-12)


def test_equal_tables_are_perfect(toy, toy_schema, small_models):
    real = toy(400)
    figures = fidelity(real, real, toy_schema)
    assert [figures[k] for k in ("ks_mean", "tvd1", "tvd2", "tvd3")] == [0, 0, 0, 0]
    assert figures["column_shapes"] == figures["pair_trends"] == 1
    assert figures["levels_missing"] == []


def test_a_column_without_spread_is_uncorrelated(toy, toy_schema):
    flat = toy(300).assign(high_p=120.0)
    assert 0 < pair_trends(flat, toy(300, seed=1), toy_schema) < 1
