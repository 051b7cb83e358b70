"""Scores and figures of a table with a user-defined schema."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from rdpjax.data.schema import Schema
from rdpjax.datasets.dataset import Evaluation, Say
from rdpjax.evaluation import plots
from rdpjax.evaluation.printout import as_table
from rdpjax.evaluation.score import score
from rdpjax.evaluation.training_rows import training_rows


def table_evaluation(schema: Schema, read: Callable[[Path, bool], pd.DataFrame]) -> Evaluation:
    """Build the evaluation of tables of `schema`: scores and figures of what `read` returns."""

    def rest(path: Path, held_out: pd.DataFrame, folder_ids: bool) -> pd.DataFrame:
        return training_rows(read(path, folder_ids), held_out)

    def compare(
        synthetic: pd.DataFrame, real: pd.DataFrame, train: pd.DataFrame | None, say: Say
    ) -> dict[str, Any]:
        return score(synthetic, real, schema, real_train=train, progress=say)

    return Evaluation(
        read=read, rest=rest, score=compare, show=as_table, draw=draw_table, shown=50_000
    )


def draw_table(
    real: pd.DataFrame, synthetic: pd.DataFrame, schema: Schema, folder: Path, settings: Any,
    title: str,
) -> None:  # fmt: skip
    """Draw `densities.png` and `correlations.png` of a table into `folder`."""
    plots.plot_densities(real, synthetic, schema, folder / "densities.png", title)
    plots.plot_correlations(real, synthetic, schema, folder / "correlations.png", title)
