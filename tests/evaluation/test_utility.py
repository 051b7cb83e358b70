import numpy as np
import pytest

from rdpjax.errors import UserError
from rdpjax.evaluation.utility import utility


def test_dependence_is_learnt_and_chance_is_chance(toy, toy_schema):
    test = toy(600, seed=2)
    good = utility(toy(800, seed=1), test, toy_schema)
    shuffled = toy(800, seed=1)
    shuffled["sick"] = np.random.default_rng(0).permutation(shuffled["sick"])
    bad = utility(shuffled, test, toy_schema)
    assert list(good) == ["gradient_boosting", "forest", "logistic"]
    for model in good:
        assert good[model]["auroc"] > 0.75 > 0.65 > bad[model]["auroc"]
        assert good[model]["auprc"] > test["sick"].mean() + 0.1


def test_the_order_of_the_test_columns_does_not_matter(toy, toy_schema, small_models):
    train, test = toy(300, seed=1), toy(300, seed=2)
    assert utility(train, test, toy_schema) == utility(train, test[test.columns[::-1]], toy_schema)


def test_one_class_to_learn_from_is_chance(toy, toy_schema):
    test = toy(200, seed=2)
    for figures in utility(toy(200).assign(sick=1), test, toy_schema).values():
        assert figures == {"auroc": 0.5, "auprc": test["sick"].mean()}


def test_one_class_to_test_on_is_refused(toy, toy_schema):
    with pytest.raises(UserError, match="every row has the same 'sick'"):
        utility(toy(200), toy(200).assign(sick=0), toy_schema)
