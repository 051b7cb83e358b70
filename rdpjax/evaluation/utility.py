"""Utility: train on synthetic (TSTR) or real (TRTR) rows, test on held-out real ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from rdpjax.data.schema import Schema
from rdpjax.errors import UserError
from rdpjax.evaluation.tables import numbers, ordered, positives

JOBS = 2
"""Number of threads of the forests; the scores do not depend on it."""


def need_two_classes(frame: pd.DataFrame, schema: Schema) -> None:
    """Raise UserError if the label of the test rows has one class: AUROC is then undefined."""
    if len(np.unique(positives(frame, schema))) < 2:
        raise UserError(
            f"real test rows: every row has the same {schema.label!r}; give rows of both classes"
        )


def classification(
    model: Any, inputs: Any, target: np.ndarray, test_inputs: Any, test_target: np.ndarray
) -> dict[str, float]:
    """Fit a scikit-learn classifier and score it on other rows.

    Returns:
      `auroc` and `auprc` (average precision; class 1 is the positive one). With one class in the
      training label no model is trained: 0.5 and the test rows' share of positives.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    if len(np.unique(target)) < 2:
        return {"auroc": 0.5, "auprc": float(test_target.mean())}
    ranks = model.fit(inputs, target).predict_proba(test_inputs)[:, 1]
    return {
        "auroc": float(roc_auc_score(test_target, ranks)),
        "auprc": float(average_precision_score(test_target, ranks)),
    }


def utility(train: pd.DataFrame, test: pd.DataFrame, schema: Schema) -> dict[str, dict[str, float]]:
    """Compute AUROC and AUPRC of three classifiers with fixed settings, trained on one table.

    Args:
      train: canonical frame, synthetic (TSTR) or real (TRTR). The order of its columns is that of
        the models' inputs (see `tables.ordered`).
      test: canonical frame of held-out real records.
      schema: defines the label and its positive levels.

    Returns:
      `{"gradient_boosting": {"auroc": ..., "auprc": ...}, "forest": ..., "logistic": ...}`.

    Raises:
      UserError: if the test rows have one class only.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    need_two_classes(test, schema)
    names = ordered(train, schema)[:-1]
    models = {
        "gradient_boosting": HistGradientBoostingClassifier(random_state=0),
        "forest": make_pipeline(
            _filled(),
            RandomForestClassifier(
                n_estimators=200, min_samples_leaf=5, n_jobs=JOBS, random_state=0
            ),
        ),
        "logistic": make_pipeline(_filled(), StandardScaler(), LogisticRegression(max_iter=2000)),
    }
    inputs, test_inputs = numbers(train, schema, names), numbers(test, schema, names)
    target, test_target = positives(train, schema), positives(test, schema)
    return {
        name: classification(model, inputs, target, test_inputs, test_target)
        for name, model in models.items()
    }


def _filled() -> Any:
    """Return a step that puts medians in place of missing values, and flags which were missing."""
    from sklearn.impute import SimpleImputer

    return SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
