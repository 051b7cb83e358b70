"""All scores of one synthetic table, beside those of real rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from rdpjax.data.schema import Schema
from rdpjax.errors import UserError
from rdpjax.evaluation.fidelity import fidelity, rule_breaks
from rdpjax.evaluation.original import original_metrics
from rdpjax.evaluation.tables import ordered, positives
from rdpjax.evaluation.utility import need_two_classes, utility

NOTE = "computed on real records without privacy: do not publish"
_FEWEST_ROWS = 50  # minimum for five-fold cross-validation and medians


def _silent(_: str) -> None:
    pass


def score(
    synthetic: pd.DataFrame,
    real_test: pd.DataFrame,
    schema: Schema,
    *,
    real_train: pd.DataFrame | None = None,
    progress: Callable[[str], None] = _silent,
) -> dict[str, Any]:
    """Score a synthetic table against held-out real records.

    Args:
      synthetic: canonical frame to be scored. Its order of columns is that of the models' inputs.
      real_test: canonical frame of held-out real records.
      schema: columns, public bounds, levels, label.
      real_train: canonical frame of the real training records; their scores are those of a perfect
        copy.
      progress: callback, called with one line before each slow part.

    Returns:
      Plain values, ready for JSON: `note`, `dataset`, `real_test` (rows, positives, rule_breaks),
      and for each of `synthetic` and `real_train` (None if not given) a dictionary with `rows`,
      `positives`, `utility`, `fidelity` and `original`, as the functions of those names return.
      Without a label that divides records into positives and negatives, `positives`, `utility` and
      `original` are None.

    Raises:
      UserError: a column is missing, a table has under 50 rows, or the test rows have one class.
    """
    candidates = {"synthetic": synthetic, "real_train": real_train}
    for name, frame in {**candidates, "real_test": real_test}.items():
        if frame is not None and len(frame) < _FEWEST_ROWS:
            raise UserError(f"{name}: {len(frame)} rows; give {_FEWEST_ROWS} or more")
    classes = schema.has_classes
    if classes:
        need_two_classes(real_test, schema)
    names = list(ordered(synthetic, schema))
    ordered(real_test, schema)  # raises UserError for a missing column

    def judged(title: str, frame: pd.DataFrame) -> dict[str, Any]:
        ordered(frame, schema)
        frame, test = frame[names], real_test[names]
        ranks = original = None
        if classes:
            progress(f"{title}: classifiers trained on {len(frame):,} rows")
            ranks = utility(frame, test, schema)
        progress(f"{title}: marginals and two-sample detector")
        near = fidelity(frame, test, schema)
        if classes:
            progress(f"{title}: the original evaluator's three metrics")
            original = original_metrics(frame, test, schema)
        return {
            "rows": len(frame),
            "positives": share(frame),
            "utility": ranks,
            "fidelity": near,
            "original": original,
        }

    def share(frame: pd.DataFrame) -> float | None:
        return float(np.mean(positives(frame, schema))) if classes else None

    return {
        "note": NOTE,
        "dataset": schema.name,
        "real_test": {
            "rows": len(real_test),
            "positives": share(real_test),
            "rule_breaks": rule_breaks(real_test, schema),
        },
        "synthetic": judged("synthetic rows", synthetic),
        "real_train": None if real_train is None else judged("real training rows", real_train),
    }
