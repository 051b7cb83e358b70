"""Kaggle's cardio table: one row a person."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, get_args

import numpy as np
import pandas as pd

from rdpjax.codecs.table import TableCodec
from rdpjax.data import cardio
from rdpjax.data.crafted import extreme_rows, join_frames, positive_rows, table_canaries, take_rows
from rdpjax.data.simulate import simulate_cardio
from rdpjax.datasets.dataset import Dataset, Evaluation, Output, Settings, Source
from rdpjax.errors import UserError, nearest
from rdpjax.flags import optional
from rdpjax.io.atomic import write_file
from rdpjax.io.delimited import fingerprint, parse_table, read_table, verbatim
from rdpjax.io.layout import Layout
from rdpjax.io.table_file import table_file

HELD_OUT = "holdout.csv"


@dataclass(frozen=True)
class CardioSettings(Settings):
    """Settings of the data set cardio.

    Attributes:
      age_unit: unit of the age column; auto decides value by value (120 or more is days).
      height_unit: unit of the height column; auto decides value by value (below 3 is metres).
      derived: columns computed from the generated ones and appended: bmi, pp.
    """

    age_unit: cardio.AgeUnit = "auto"
    height_unit: cardio.HeightUnit = "auto"
    derived: Annotated[tuple[str, ...], optional("[COLUMN ...]", "none")] = ()

    def __post_init__(self) -> None:
        known = get_args(cardio.Derived)
        for name in self.derived:
            if name not in known:
                hint = nearest(name, known) or f"; there are {', '.join(known)}"
                raise UserError(f"derived: unknown {name!r}{hint}")


def open_cardio(
    path: Path | None,
    environ: Mapping[str, str],
    settings: CardioSettings,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Source:
    """Read the cardio table from a file, or simulate a cohort where there is none."""
    found = cardio.find_cardio(path, environ)
    if found is None:
        table = parse_table(simulate_cardio().encode(), "simulated cohort")
    else:
        table = read_table(found)
    records = cardio.parse_cardio(
        table, age_unit=settings.age_unit, height_unit=settings.height_unit
    )
    # Keep the texts only: the cells as strings would stay in memory during training.
    text = partial(verbatim, table.header_text, table.texts)

    def keep(mask: np.ndarray, folder: Path) -> None:
        write_file(folder / HELD_OUT, text(mask))

    return Source(
        records=records.frame,
        keys=records.keys,
        format=records.layout.to_dict(),
        origin="simulated" if found is None else "file",
        notes=tuple(records.notes),
        fingerprint=fingerprint(table),
        keep=keep,
    )


def write_cardio(path: Path, blocks: Iterable[pd.DataFrame], output: Output) -> None:
    """Stream generated rows to a file in the input's format, in bounded memory."""
    layout, first = Layout.from_dict(output.format), 1
    with table_file(path, layout.separator, overwrite=output.overwrite) as write:
        for frame in blocks:
            write(
                cardio.cardio_columns(frame, layout, derived=output.settings.derived, first=first)
            )
            first += len(frame)


def cardio_evaluation() -> Evaluation:
    """Build the evaluation (scores and figures) of the cardio table."""
    from rdpjax.datasets.cardio_evaluation import CARDIO_EVALUATION

    return CARDIO_EVALUATION


CARDIO = Dataset(
    codec=lambda settings: TableCodec(cardio.CARDIO),
    open=open_cardio,
    take=take_rows,
    join=join_frames,
    write=write_cardio,
    crafted=partial(table_canaries, cardio.CARDIO),
    extremes=lambda base, records, codec: extreme_rows(base, records, codec.schema),
    positive=lambda records, codec: positive_rows(records, codec.schema),
    evaluation=cardio_evaluation,
    released="synthetic.csv",
    held_out=HELD_OUT,
    noun="rows",
    settings=CardioSettings,
)
