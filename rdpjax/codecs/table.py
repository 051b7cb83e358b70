"""A table's rows: each is a row of cells already, and nothing is measured first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rdpjax.codecs.codec import Randoms
from rdpjax.data.encoding import Encoding, encode_cells
from rdpjax.data.schema import Schema
from rdpjax.mechanisms.measurement import Answers, Measurement


@dataclass(frozen=True)
class TableDecoder:
    """Rows are records: frames in the schema's units."""

    def fitted(self, codes: np.ndarray, random: np.random.Generator) -> TableDecoder:
        return self

    def records(
        self, encoding: Encoding, values: np.ndarray, randoms: Randoms
    ) -> Iterator[pd.DataFrame]:
        yield encoding.frame(values)

    def head(self, records: pd.DataFrame, count: int) -> pd.DataFrame:
        return records.iloc[:count]

    def to_arrays(self) -> dict[str, np.ndarray]:
        return {}


@dataclass(frozen=True)
class TableCodec:
    """Encode records that are rows of a frame with the schema's columns.

    Attributes:
      schema: the columns.
    """

    schema: Schema

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        return ()

    def cells(self, records: pd.DataFrame, answers: Answers) -> np.ndarray:
        return encode_cells(self.schema, records)

    def decoder(self, answers: Answers) -> TableDecoder:
        return TableDecoder()

    def restored(self, arrays: Mapping[str, np.ndarray]) -> TableDecoder:
        return TableDecoder()
