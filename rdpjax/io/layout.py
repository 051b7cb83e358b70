"""Layout of a table, which is public: separator, column names, order, decimals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from rdpjax.errors import UserError
from rdpjax.structure import build


@dataclass(frozen=True)
class Layout:
    """File format of a table, so that released rows can be written in the same one.

    Attributes:
      separator: field separator: `;`, `,`, a tab or `|`, with a blank after it or without.
      header: the modelled columns and the identifier, named and ordered as in the file.
      renamed: pairs (name in the file, name in the schema) where the two differ.
      identifier: the file's name for the record number, or None. It is never modelled.

    Examples:
      >>> layout = Layout(",", ("id", "sbp", "age"), renamed=(("sbp", "ap_hi"),), identifier="id")
      >>> layout.fields
      ('id', 'ap_hi', 'age')
      >>> Layout.from_dict(layout.to_dict()) == layout
      True
    """

    separator: str
    header: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...] = ()
    identifier: str | None = None

    def __post_init__(self) -> None:
        if self.separator.removesuffix(" ") not in (known := (";", ",", "\t", "|")):
            one = ", ".join(map(repr, known))
            raise UserError(f"separator {self.separator!r} must be one of {one}")
        if any(len(pair) != 2 for pair in self.renamed):
            raise UserError("renamed must be pairs: the name in the file and that in the schema")

    @property
    def fields(self) -> tuple[str, ...]:
        """The header in the schema's names."""
        names = dict(self.renamed)
        return tuple(names.get(name, name) for name in self.header)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON or TOML, which has no None: its key is left out."""
        values: dict[str, Any] = {
            "separator": self.separator,
            "header": list(self.header),
            "renamed": [list(pair) for pair in self.renamed],
        }
        return values if self.identifier is None else values | {"identifier": self.identifier}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Layout:
        """Invert `to_dict`; UserError for values that describe no layout."""
        layout: Layout = build(Layout, values, "layout")
        return layout


class Cells(NamedTuple):
    """A column of values to write.

    Attributes:
      values: `[records]`.
      decimals: decimals of numbers; None for texts.
      missing: text of a missing value (NaN among numbers, None among texts).
    """

    values: np.ndarray
    decimals: int | None = None
    missing: str = ""


def format_cells(columns: Sequence[Cells], separator: str) -> bytes:
    """Format columns as the lines of a delimited file, without a header.

    Args:
      columns: in the order of the file, all of one length.
      separator: field separator, with a blank after it or without.

    Returns:
      UTF-8 lines, each ended by `\\n`.

    Examples:
      >>> format_cells([Cells(np.array(["a", "b"])), Cells(np.array([62.0, 61.25]), 1)], ";")
      b'a;62.0\\nb;61.2\\n'
      >>> format_cells([Cells(np.array(["a;b", "c"]))], ";")
      b'"a;b"\\n"c"\\n'
      >>> format_cells([Cells(np.array(["a"])), Cells(np.array([62.0]), 0)], ", ")
      b'a, 62\\n'
    """
    separator, padding = separator[0], separator[1:]
    cells = [_cells(column) for column in columns]
    if padding:
        texts = [cell.cast(pa.string()) for cell in cells[1:]]
        cells[1:] = [pc.binary_join_element_wise(padding, text, "") for text in texts]
    table = pa.Table.from_arrays(cells, names=[str(i) for i in range(len(cells))])
    style = "needed" if any(_structural(cell, separator) for cell in cells) else "none"
    options = pyarrow.csv.WriteOptions(
        include_header=False, delimiter=separator, quoting_style=style
    )
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(table, sink, options)
    text: bytes = sink.getvalue().to_pybytes()
    return text


def _structural(cells: pa.Array, separator: str) -> bool:
    """Return whether texts contain a field or line separator, so that they need quotes."""
    if not pa.types.is_string(cells.type):
        return False
    held = pc.match_substring_regex(cells, f'[{separator}"\\r\\n]')
    return bool(pc.any(held, min_count=0).as_py())


def _cells(column: Cells) -> pa.Array:
    values, decimals, missing = column
    if decimals is None:
        return pa.array(values, pa.string()).fill_null(missing)
    gaps = np.isnan(values)
    scaled = pa.array(np.rint(np.where(gaps, 0, values) * 10**decimals).astype(np.int64))
    if decimals == 0:
        if not gaps.any():
            return scaled
        texts = scaled.cast(pa.string())
    else:
        # Distinct values are few, so formatting each of them once is far cheaper than every cell.
        encoded = scaled.dictionary_encode()
        distinct = encoded.dictionary.to_numpy(zero_copy_only=False) / 10**decimals
        shown = pa.array([f"{value:.{decimals}f}" for value in distinct], type=pa.string())
        texts = shown.take(encoded.indices)
    return pc.if_else(pa.array(gaps), missing, texts) if gaps.any() else texts
