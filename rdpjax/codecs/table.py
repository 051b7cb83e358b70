"""Codec of tables: a record is one row of bins, and no measurement is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rdpjax.codecs.codec import Randoms
from rdpjax.data.schema import Schema
from rdpjax.data.tokenizer import Tokenizer, encode_cells
from rdpjax.mechanisms.measurement import Answers, Measurement


@dataclass(frozen=True)
class TableEncoding:
    """Encoding of frames in the schema's units; it depends on the schema alone.

    Attributes:
      schema: the columns.
    """

    schema: Schema

    def cells(self, records: pd.DataFrame) -> np.ndarray:
        return encode_cells(self.schema, records)

    def fitted(self, codes: np.ndarray, random: np.random.Generator) -> TableEncoding:
        return self

    def records(
        self, tokenizer: Tokenizer, values: np.ndarray, randoms: Randoms
    ) -> Iterator[pd.DataFrame]:
        yield tokenizer.frame(values)

    def head(self, records: pd.DataFrame, count: int) -> pd.DataFrame:
        return records.iloc[:count]

    def to_arrays(self) -> dict[str, np.ndarray]:
        return {}


@dataclass(frozen=True)
class TableCodec:
    """Codec of records that are rows of a frame with the schema's columns.

    Attributes:
      schema: the columns.
    """

    schema: Schema

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        return ()

    def fit(self, answers: Answers) -> TableEncoding:
        return TableEncoding(self.schema)

    def restored(self, arrays: Mapping[str, np.ndarray]) -> TableEncoding:
        return TableEncoding(self.schema)
