"""Table with a user-defined schema: one row a record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from rdpjax.codecs.table import TableCodec
from rdpjax.data.crafted import extreme_rows, join_frames, positive_rows, table_canaries, take_rows
from rdpjax.data.schema import Categorical, Column, Schema
from rdpjax.datasets.dataset import Dataset, Evaluation, Output, Settings, Source
from rdpjax.errors import UserError, nearest
from rdpjax.io.atomic import write_file
from rdpjax.io.cells import levels, numbers
from rdpjax.io.delimited import Table, fingerprint, read_table, verbatim
from rdpjax.io.layout import Cells, Layout
from rdpjax.io.table_file import table_file

HELD_OUT = "holdout.csv"


def table_dataset(schema: Schema) -> Dataset:
    """Build the data set of a user's own schema; commands find it by its release, not by a name."""

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
        format=Layout(",", schema.names).to_dict(),
    )


def read_rows(schema: Schema, table: Table) -> pd.DataFrame:
    """Read the schema's columns of a table; other columns are dropped.

    Raises:
      UserError: names the missing column, or the line and column of a cell that is not a number or
        level.

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
            return levels(table, column.name, column.levels)
        return numbers(table, column.name)

    return pd.DataFrame({column.name: values(column) for column in schema.columns})


def open_table(
    schema: Schema,
    path: Path | None,
    environ: Mapping[str, str],
    settings: Settings,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Source:
    """Read the rows of a file; there is no default place, and no simulation."""
    if path is None:
        raise UserError(f"--data: name the table of schema {schema.name!r}")
    table = read_table(path)
    text = partial(verbatim, table.header_text, table.texts)

    def keep(mask: np.ndarray, folder: Path) -> None:
        write_file(folder / HELD_OUT, text(mask))

    ignored = [name for name in table.header if name not in schema.names]
    note = f"{path}: ignored, as the schema has no such column: {', '.join(ignored)}"
    return Source(
        records=read_rows(schema, table),
        keys=table.texts,
        format=Layout(table.separator, schema.names).to_dict(),
        origin="file",
        notes=(note,) if ignored else (),
        fingerprint=fingerprint(table),
        keep=keep,
    )


def write_table(schema: Schema, path: Path, blocks: Iterable[pd.DataFrame], output: Output) -> None:
    """Stream generated rows to a file, each number with the decimals of its resolution."""
    layout = Layout.from_dict(output.format)
    columns = [schema.column(name) for name in layout.fields]
    with table_file(path, layout.separator, overwrite=output.overwrite) as write:
        for frame in blocks:
            named = zip(layout.header, columns, strict=True)
            write({name: _cells(column, frame[column.name].to_numpy()) for name, column in named})


def _cells(column: Column, values: np.ndarray) -> Cells:
    if not isinstance(column, Categorical):
        return Cells(np.round(values.astype(np.float64), column.decimals), column.decimals)
    if isinstance(column.levels[0], bool | str):
        return Cells(values.astype(str).astype(object))
    return Cells(values.astype(np.int64), 0)
