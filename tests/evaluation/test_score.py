import json

import numpy as np
import pandas as pd
import pytest

from rdpjax.data.schema import Categorical, Numeric, Schema
from rdpjax.errors import UserError
from rdpjax.evaluation.printout import as_table
from rdpjax.evaluation.score import NOTE, score


@pytest.fixture(scope="module")
def scores(toy, toy_schema, small_models):
    said = []
    figures = score(
        toy(300, seed=1), toy(250, seed=2), toy_schema, real_train=toy(280, seed=3),
        progress=said.append,
    )  # fmt: skip
    assert len(said) == 6 and said[0] == "synthetic rows: classifiers trained on 300 rows"
    return figures


def test_both_tables_are_judged_in_the_same_way(scores):
    assert [scores[k]["rows"] for k in ("real_test", "synthetic", "real_train")] == [250, 300, 280]
    for key in ("utility", "fidelity", "original"):
        assert scores["synthetic"][key].keys() == scores["real_train"][key].keys()


def test_figures_are_json_and_say_that_they_are_not_private(scores):
    assert json.loads(json.dumps(scores)) == scores
    assert scores["note"] == NOTE == "computed on real records without privacy: do not publish"


def test_what_cannot_be_judged_is_refused(toy, toy_schema):
    with pytest.raises(UserError, match="synthetic: 9 rows; give 50 or more"):
        score(toy(9), toy(60), toy_schema)
    with pytest.raises(UserError, match="every row has the same"):
        score(toy(60), toy(60).assign(sick=0), toy_schema)
    with pytest.raises(UserError, match="'age' is missing"):
        score(toy(60), toy(60).drop(columns="age"), toy_schema)


def test_a_table_without_a_label_has_missing_values_and_is_judged_all_the_same():
    schema = Schema("s", (Numeric("x", "", 0, 9, spikes=(99,), missing=("?",)),
                          Categorical("c", ("a", "b"), missing=("?",))))  # fmt: skip
    rng = np.random.default_rng(0)

    def rows(count):
        x = rng.integers(0, 10, count).astype(float)
        c = np.array(["a", "b", None], object)[rng.integers(0, 3, count)]
        return pd.DataFrame({"x": np.where(rng.random(count) < 0.2, np.nan, x), "c": c})

    figures = score(rows(400), rows(400), schema)
    side = figures["synthetic"]
    assert side["utility"] is side["original"] is side["positives"] is None
    assert set(side["fidelity"]["levels"]["c"]) == {"a", "b", "?"}
    assert side["fidelity"]["tvd3"] == 0 and 0 < side["fidelity"]["tvd2"] < 0.2
    assert abs(side["fidelity"]["two_sample_auroc"] - 0.5) < 0.1
    gone = score(rows(400).assign(x=3.0), rows(400), schema)["synthetic"]["fidelity"]
    assert gone["two_sample_auroc"] > 0.6 and gone["ks"]["x"] > 0.3
    text = as_table(figures)
    assert "AUROC" not in text.replace("two-sample AUROC", "") and "positives" not in text
