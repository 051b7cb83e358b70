import numpy as np
import pytest

from rdpjax.errors import UserError
from rdpjax.evaluation import original
from rdpjax.evaluation.original import encode, mmd2, original_metrics, prediction_f1

pytestmark = pytest.mark.usefixtures("small_models")


def test_mmd_is_the_double_sum_over_different_rows():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(7, 3)), rng.normal(0.5, 1, size=(5, 3))
    rows = np.concatenate([a, b])
    apart = [((rows[i] - rows[j]) ** 2).sum() for i in range(12) for j in range(i)]
    sigma2 = 0.5 * np.median(apart)

    def kernel(x, y):
        return np.exp(-((x - y) ** 2).sum() / (2 * sigma2))

    def within(x):
        pairs = [kernel(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j]
        return np.mean(pairs)

    across = np.mean([kernel(x, y) for x in a for y in b])
    assert mmd2(a, b) == pytest.approx(within(a) + within(b) - 2 * across, abs=1e-12)


def test_mmd_of_equal_rows_has_a_scale():
    assert mmd2(np.zeros((4, 2)), np.zeros((4, 2))) == 0


def test_groups_come_from_the_schema_and_scales_from_its_bounds(toy, toy_schema):
    frame = toy(50)
    frame.loc[0, ["age", "high_p", "low_p"]] = [66 * 365.25, 16000, 90]
    parts = encode(frame, toy_schema, ["age", "high_p", "low_p", "grade"])
    assert [part.shape[1] for part in parts.values()] == [1, 1, 1, 3]
    assert [parts[n][0, 0] for n in ("age", "high_p", "low_p")] == [1, 1, 0.5]
    assert (parts["grade"].sum(1) == 1).all()


def test_both_tables_are_cut_at_one_threshold(toy, toy_schema):
    # All synthetic pressures lie above the real median. Each table cut at its own median would
    # hide that; here the forest has seen no "below" and says "above" for every real row.
    real = toy(300, seed=1)
    shifted = toy(300, seed=2).assign(high_p=230.0)
    share = np.mean(real["high_p"].clip(70, 240) > real["high_p"].clip(70, 240).median())
    assert prediction_f1(shifted, real, toy_schema)["high_p"] == pytest.approx(
        2 * share / (1 + share)
    )


def test_a_level_is_not_told_by_its_own_group(toy, toy_schema):
    f1 = prediction_f1(toy(400, seed=1), toy(400, seed=2), toy_schema)
    assert list(f1) == ["age", "high_p", "low_p", "grade=a", "grade=b", "grade=c"]
    assert f1["grade=c"] < 0.5  # independent of all else: with its group it would be 1
    assert f1["low_p"] > 0.6


def test_at_most_so_many_rows_are_learnt_from(toy, toy_schema, monkeypatch):
    lengths = []

    def noted(frame, *rest):
        lengths.append(len(frame))
        return encode(frame, *rest)

    monkeypatch.setattr(original, "encode", noted)
    prediction_f1(toy(300), toy(100, seed=1), toy_schema, rows=60)
    prediction_f1(toy(40), toy(100, seed=1), toy_schema, rows=60)
    assert lengths == [60, 100, 40, 100]


def test_figures_of_a_fresh_draw_are_good(toy, toy_schema):
    figures = original_metrics(toy(900, seed=1), toy(850, seed=2), toy_schema)
    assert abs(figures["mmd2"]) < 0.005
    assert figures["forest_auroc"] > 0.7
    assert figures["prediction_f1_macro"] == pytest.approx(
        np.mean(list(figures["prediction_f1"].values()))
    )


def test_the_order_of_the_real_columns_does_not_matter(toy, toy_schema):
    made, real = toy(120, seed=1), toy(120, seed=2)
    turned = real[real.columns[::-1]]
    assert original_metrics(made, real, toy_schema) == original_metrics(made, turned, toy_schema)


def test_one_class_to_test_on_is_refused(toy, toy_schema):
    with pytest.raises(UserError, match="every row has the same"):
        original_metrics(toy(100), toy(100).assign(sick=1), toy_schema)
