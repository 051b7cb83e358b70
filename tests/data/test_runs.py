"""Scores of levels in order."""

from __future__ import annotations

import numpy as np
import pytest

from rdpjax.data.runs import run_features
from rdpjax.data.schema import Categorical, Schema
from rdpjax.data.tokenizer import Marginals, Tokenizer


def features_of(column: Categorical, shares: np.ndarray) -> np.ndarray:
    return run_features(column.runs, column.scale, shares)


def categorical(*runs: int, scale: tuple[float, ...] = ()) -> Categorical:
    return Categorical("c", tuple(range(sum(runs))), runs=runs, scale=scale)


def test_a_level_apart_and_ten_bins():
    shares = np.array([0.5] + [0.05] * 10)
    flag, score, square = features_of(categorical(1, 10), shares).T
    assert flag.tolist() == [1] + [-1] * 10, "standardised: half of all are apart"
    assert score[0] == square[0] == 0
    assert (np.diff(score[1:]) > 0).all()
    np.testing.assert_allclose([score[1:].mean(), np.square(score[1:]).mean()], [0, 1], atol=1e-9)
    np.testing.assert_allclose(square[1:], score[1:] ** 2 - 1)


def test_what_is_rare_is_not_blown_up_without_end():
    shares = np.array([0.999] + [0.001 / 3] * 3)
    flag = features_of(categorical(1, 3), 1 - shares)[:, 0]
    assert np.abs(flag).max() <= 5


def test_levels_at_the_same_place_share_a_score():
    scale = (0.0, 1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 2.0, 3.0)
    features = features_of(categorical(4, 3, 2, scale=scale), np.full(9, 1 / 9))
    assert features.shape == (9, 2 + 2 + 2)
    flags, score, _, slopes = np.split(features, [2, 3, 4], axis=1)
    later, last = (flags > 0).T  # nested: the second run or a later one; the third
    assert later.tolist() == [False] * 4 + [True] * 5 and last.tolist() == [False] * 7 + [True] * 2
    np.testing.assert_allclose(flags.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(flags.std(axis=0), 1)
    for place in (1, 2, 3):
        assert len(set(score[np.array(scale) == place, 0].tolist())) == 1
    assert len(set(score[:, 0].tolist())) == 4 and (np.diff(score[:4, 0]) > 0).all()
    np.testing.assert_allclose(slopes, flags * score)


@pytest.mark.parametrize(
    "runs, count",
    [((5,), 2), ((2,), 1), ((1, 2), 2), ((1, 3), 3), ((2, 2), 2), ((1, 1, 1), 3), ((1, 5, 2), 5)],
)
def test_how_many_features(runs: tuple[int, ...], count: int):
    levels = sum(runs)
    features = features_of(categorical(*runs), np.full(levels, 1 / levels))
    assert features.shape == (levels, count) and np.isfinite(features).all()


def test_shares_that_noise_has_emptied_leave_numbers_that_exist():
    for shares in (np.zeros(11), np.eye(11)[0], np.eye(11)[5]):
        features = features_of(categorical(1, 10), shares)
        assert np.isfinite(features).all() and np.abs(features[:, 1]).max() <= 3
        assert (np.diff(features[1:, 1]) >= 0).all()


def test_in_a_codec_they_stand_first_and_other_columns_keep_their_cosines():
    plain = Schema("s", (Categorical("c", tuple(range(11))), Categorical("y", (0, 1))), "y")
    runs = Schema("s", (categorical(1, 10), Categorical("y", (0, 1))), "y")
    shares = (np.array([0.5] + [0.05] * 10), np.array([0.4, 0.6]))
    marginals = Marginals(shares, (0.0, 0.0), 100.0)
    cosines = Tokenizer.make(plain, marginals).code_features(8)
    features = Tokenizer.make(runs, marginals).code_features(8)
    np.testing.assert_array_equal(features[1], cosines[1])
    assert features.shape == cosines.shape and features.dtype == np.float32
    np.testing.assert_allclose(
        features[0, :, :3], features_of(runs.columns[0], shares[0]), rtol=1e-6
    )
    assert not features[0, :, 3:].any()
    assert Tokenizer.make(runs, marginals).code_features(2).shape == (2, 11, 2)
