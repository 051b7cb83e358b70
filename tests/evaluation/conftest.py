"""A small table with the dependence, the odd values and the rare level that figures are about."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest

from rdpjax.data.schema import Categorical, Numeric, Schema


@pytest.fixture(scope="session")
def toy_schema() -> Schema:
    return Schema(
        "toy",
        (
            Categorical("sick", (0, 1)),
            Numeric("low_p", "mmHg", 40, 140),
            Categorical("grade", ("a", "b", "c")),
            Numeric("age", "days", 29 * 365.25, 66 * 365.25, cell=365.25 / 4, within="uniform"),
            Numeric("high_p", "mmHg", 70, 240),
        ),
        label="sick",
        less=(("low_p", "high_p"),),
    )


@pytest.fixture(scope="session")
def toy() -> Callable[..., pd.DataFrame]:
    """Make `rows` records; the columns' order is not the schema's."""

    def make(rows: int = 400, seed: int = 0) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        age = np.floor(rng.uniform(30, 65, rows) * 365.25)
        high = np.rint(120 + 0.002 * (age - 17000) + rng.normal(0, 15, rows))
        high[rng.random(rows) < 0.02] *= 10  # a slip of the hand, far out of the bounds
        low = np.rint(np.clip(0.6 * high, 50, 130) + rng.normal(0, 6, rows))
        risk = 1 / (1 + np.exp(-(np.clip(high, 70, 240) - 125) / 8))
        return pd.DataFrame(
            {
                "age": age,
                "high_p": high,
                "low_p": low,
                "grade": rng.choice(["a", "b", "c"], rows, p=[0.8, 0.15, 0.05]),
                "sick": (rng.random(rows) < risk).astype(int),
            }
        )

    return make


@pytest.fixture(scope="module")
def small_models() -> Iterator[None]:
    """Forests of 20 trees and 20 rounds of boosting, for tests of what is done with the figures."""
    from sklearn import ensemble

    forest, boosting = ensemble.RandomForestClassifier, ensemble.HistGradientBoostingClassifier
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            ensemble,
            "RandomForestClassifier",
            lambda **given: forest(**{**given, "n_estimators": 20, "n_jobs": 1}),
        )
        patch.setattr(
            ensemble,
            "HistGradientBoostingClassifier",
            lambda **given: boosting(**{**given, "max_iter": 20}),
        )
        yield
