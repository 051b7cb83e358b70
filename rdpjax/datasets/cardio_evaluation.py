"""Scores and figures of the cardio table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from rdpjax.data.cardio import CARDIO, KAGGLE_LAYOUT, CardioTable, read_cardio
from rdpjax.datasets.dataset import Evaluation, Say
from rdpjax.datasets.table_evaluation import draw_table
from rdpjax.evaluation.printout import as_table
from rdpjax.evaluation.score import score
from rdpjax.evaluation.training_rows import training_rows


def _rest(path: Path, held_out: CardioTable, folder_ids: bool) -> pd.DataFrame:
    source = read_cardio(path)
    return training_rows(source.frame, held_out.frame, source.ids, held_out.ids)


def _score(
    synthetic: CardioTable, real: CardioTable, train: pd.DataFrame | None, say: Say
) -> dict[str, Any]:
    # Columns in the published file's order, whatever the input's: forests sample features by
    # position, so only this order reproduces the field's figures.
    names = [name for name in KAGGLE_LAYOUT.fields if name in CARDIO.names]
    return score(synthetic.frame[names], real.frame, CARDIO, real_train=train, progress=say)


CARDIO_EVALUATION = Evaluation(
    read=lambda path, folder_ids: read_cardio(path),
    rest=_rest,
    score=_score,
    show=as_table,
    draw=draw_table,
    shown=50_000,
)
