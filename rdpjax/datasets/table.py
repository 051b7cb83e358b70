"""Table with a user-defined schema: one row a record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import tyro

from rdpjax.codecs.table import TableCodec
from rdpjax.data.crafted import extreme_rows, join_frames, positive_rows, table_canaries, take_rows
from rdpjax.data.schema import Categorical, Column, Date, Determined, Schema
from rdpjax.datasets.dataset import Dataset, Evaluation, Output, Settings, Source
from rdpjax.errors import UserError, nearest
from rdpjax.flags import optional
from rdpjax.io.atomic import write_file
from rdpjax.io.cells import levels, numbers
from rdpjax.io.delimited import Table, fingerprint, read_table, verbatim
from rdpjax.io.layout import Cells, Layout
from rdpjax.io.table_file import table_file

HELD_OUT = "holdout.csv"


@dataclass(frozen=True)
class TableSettings(Settings):
    """Settings of a user's own table.

    Attributes:
      schema: its columns; None only where the schema comes with a release.
      label: the column to be predicted from the others, in place of the schema's.
    """

    schema: Annotated[Schema | None, tyro.conf.Fixed, tyro.conf.Suppress] = None
    label: Annotated[str | None, optional("COLUMN", "the schema's")] = None

    def __post_init__(self) -> None:
        if self.schema is not None:
            object.__setattr__(self, "schema", self.schema.with_label(self.label))
            object.__setattr__(self, "label", None)

    def values(self) -> dict[str, Any]:
        """Return nothing: the schema has a section of its own."""
        return {}


def table_dataset(schema: Schema) -> Dataset:
    """Build the data set of a user's own schema."""

    def evaluation() -> Evaluation:
        from rdpjax.datasets.table_evaluation import table_evaluation

        return table_evaluation(schema, lambda path, _: read_rows(schema, read_table(path)))

    return Dataset(
        codec=lambda settings: TableCodec(schema),
        open=partial(open_table, schema),
        take=take_rows,
        join=join_frames,
        write=partial(write_table, schema),
        crafted=partial(table_canaries, schema),
        extremes=lambda base, records, codec: extreme_rows(base, records, schema),
        positive=lambda records, codec: positive_rows(records, schema),
        evaluation=evaluation,
        released="synthetic.csv",
        held_out=HELD_OUT,
        noun="rows",
        settings=TableSettings,
        format=Layout(",", schema.written).to_dict(),
    )


def read_rows(schema: Schema, table: Table) -> pd.DataFrame:
    """Read the schema's columns of a table as canonical records; no other column is read.

    Raises:
      UserError: names the column that is missing, or the line and column of a cell that is no
        number, date or level.

    Examples:
      >>> from rdpjax.data.schema import Numeric
      >>> from rdpjax.io.delimited import parse_table
      >>> schema = Schema("s", (Numeric("age", "years", 0, 120), Categorical("sex", ("f", "m"))))
      >>> read_rows(schema, parse_table(b"id;sex;age\\n1;m;61\\n", "t.csv")).to_dict("records")
      [{'age': 61.0, 'sex': 'm'}]
    """
    for name in schema.names:
        if name not in table.header:
            hint = nearest(name, list(table.header)) or "; add it or mend the header"
            raise UserError(f"{table.path}: the header has no column {name!r}{hint}")

    def values(column: Column) -> np.ndarray:
        if isinstance(column, Categorical):
            return levels(table, column.name, column.levels, column.missing)
        if isinstance(column, Date):
            return numbers(table, column.name, column.missing, column.number)
        return numbers(table, column.name, column.missing)

    return pd.DataFrame({column.name: values(column) for column in schema.columns})


def open_table(
    schema: Schema,
    path: Path | None,
    environ: Mapping[str, str],
    settings: Settings,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Source:
    """Read the rows of a file; there is no default place, and no simulation.

    Raises:
      UserError: also for a column of which the schema says nothing.
    """
    if path is None:
        raise UserError(f"--data: name the table of schema {schema.name!r}")
    table = read_table(path)
    known = (*schema.written, *schema.drop)
    for name in table.header:
        if name not in known:
            hint = nearest(name, known) or "; describe it, or name it in drop"
            raise UserError(f"{path}: the schema has no column {name!r}{hint}")
    text = partial(verbatim, table.header_text, table.texts)

    def keep(mask: np.ndarray, folder: Path) -> None:
        write_file(folder / HELD_OUT, text(mask))

    dropped = [name for name in table.header if name in schema.drop]
    note = f"{path}: dropped, as the schema says: {', '.join(dropped)}"
    header = tuple(name for name in table.header if name in schema.written)
    return Source(
        records=read_rows(schema, table),
        keys=table.texts,
        format=Layout(_as_written(table), header).to_dict(),
        origin="file",
        notes=(note,) if dropped else (),
        fingerprint=fingerprint(table),
        keep=keep,
    )


def _as_written(table: Table) -> str:
    """Return the separator with the blank after it, if the header has one after each."""
    padded = f"{table.separator} "
    return padded if table.header_text.count(padded) == len(table.header) - 1 else table.separator


def write_table(schema: Schema, path: Path, blocks: Iterable[pd.DataFrame], output: Output) -> None:
    """Stream generated rows to a file, each number with the decimals of its resolution."""
    layout = Layout.from_dict(output.format)
    with table_file(path, layout.separator, overwrite=output.overwrite) as write:
        for frame in blocks:
            cells = {column.name: _cells(column, frame[column.name]) for column in schema.columns}
            for column in schema.determined:
                values = column.values(frame)
                frame = frame.assign(**{column.name: values})
                cells[column.name] = _determined(column, values)
            named = zip(layout.header, layout.fields, strict=True)
            write({name: cells[field] for name, field in named})


def _cells(column: Column, values: pd.Series) -> Cells:
    missing = column.missing[0] if column.missing else ""
    if isinstance(column, Date):
        texts = column.texts(values.to_numpy(np.float64, na_value=np.nan))
        return Cells(np.array(texts, object), missing=missing)
    if not isinstance(column, Categorical):
        found = values.to_numpy(np.float64, na_value=np.nan)
        return Cells(np.round(found, column.decimals), column.decimals, missing)
    if column.missing or isinstance(column.levels[0], bool | str):
        # pandas holds a missing word as NaN, or as None among numbers.
        texts = [
            None if gap else str(value) for value, gap in zip(values, values.isna(), strict=True)
        ]
        return Cells(np.array(texts, object), missing=missing)
    return Cells(values.to_numpy(np.int64), 0)


def _determined(column: Determined, values: np.ndarray) -> Cells:
    if column.formula:
        return Cells(values, column.decimals)
    return Cells(np.array([None if v is None else str(v) for v in values.tolist()], object))
