"""What a kind of record offers: its measurements, its table of cells, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from rdpjax.data.schema import Schema
from rdpjax.data.tokenizer import Tokenizer
from rdpjax.mechanisms.measurement import Answers, Measurement

Randoms = Callable[[int], np.random.Generator]
"""`randoms(part)`: a random generator of its own for each part of a block of rows."""


class Encoding(Protocol):
    """Turn records into rows of a table of public cells, and rows into records.

    Guarantees:
      It is computed from the schema and noisy answers alone, and so is whatever it makes of rows.
    """

    def cells(self, records: Any) -> np.ndarray:
        """Encode records as cells `[records, columns]`.

        Guarantees:
          A record's cells depend on that record, the schema and the noisy answers alone; every
          record gets valid ones, whatever its values (NaN, infinite, out of bounds).
        """
        ...

    def fitted(self, codes: np.ndarray, random: np.random.Generator) -> Encoding:
        """Fit what is read off generated rows, codes `[rows, columns]`; post-processing."""
        ...

    def records(self, tokenizer: Tokenizer, values: np.ndarray, randoms: Randoms) -> Iterator[Any]:
        """Make records of decoded rows `[rows, columns]`, part by part, in order."""
        ...

    def head(self, records: Any, count: int) -> Any:
        """Take the first `count` of the records of one part."""
        ...

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return everything that `Codec.restored` needs, as arrays."""
        ...


class Codec(Protocol):
    """Encode one kind of record as rows of a table with public columns.

    Attributes:
      schema: the table's columns.
      measurements: what is measured before the table is made, in order; a later one may use the
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
        """Return the encoding of `to_arrays`; KeyError where an array is missing."""
        ...
