"""Protocols of a codec: DP measurements, encoding to a binned table, decoding to records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from rdpjax.data.schema import Schema
from rdpjax.data.tokenizer import Tokenizer
from rdpjax.mechanisms.measurement import Answers, Measurement

Randoms = Callable[[int], np.random.Generator]
"""`randoms(part)`: an independent random generator for each part of a block of rows."""


class Encoding(Protocol):
    """Fitted codec: records to rows of a table of public bins, and rows to records.

    Guarantees:
      It is a function of the schema and the noisy answers alone, and so are the records it
      decodes from rows.
    """

    def cells(self, records: Any) -> np.ndarray:
        """Encode records as bin indices `[records, columns]`.

        Guarantees:
          A record's bins depend on that record, the schema and the noisy answers alone; every
          record gets valid ones, whatever its values (NaN, infinite, out of bounds).
        """
        ...

    def fitted(self, codes: np.ndarray, random: np.random.Generator) -> Encoding:
        """Fit statistics of generated rows, tokens `[rows, columns]`; post-processing."""
        ...

    def records(self, tokenizer: Tokenizer, values: np.ndarray, randoms: Randoms) -> Iterator[Any]:
        """Decode rows `[rows, columns]` into records, part by part, in order."""
        ...

    def head(self, records: Any, count: int) -> Any:
        """Take the first `count` of the records of one part."""
        ...

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return everything that `Codec.restored` needs, as arrays."""
        ...


class Codec(Protocol):
    """Codec of one kind of record: rows of a table with public columns.

    Attributes:
      schema: the table's columns.
      measurements: mechanisms run before records are encoded, in order; a later one may use the
        answers to earlier ones.
    """

    @property
    def schema(self) -> Schema: ...
    @property
    def measurements(self) -> tuple[Measurement, ...]: ...

    def fit(self, answers: Answers) -> Encoding:
        """Return the encoding under the noisy answers; post-processing."""
        ...

    def restored(self, arrays: Mapping[str, np.ndarray]) -> Encoding:
        """Restore the encoding from `to_arrays`; KeyError where an array is missing."""
        ...
