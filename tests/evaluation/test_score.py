import json

import pytest

from rdpjax.errors import UserError
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
