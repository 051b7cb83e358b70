"""What a kind of record offers: its measurements, its table of cells, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from rdpjax.data.encoding import Encoding
from rdpjax.data.schema import Schema
from rdpjax.mechanisms.measurement import Answers, Measurement

Randoms = Callable[[int], np.random.Generator]
"""`randoms(part)`: a random generator of its own for each part of a block of rows."""


class Decoder(Protocol):
    """Turn rows of the table into records; computed from noisy answers alone."""

    def fitted(self, codes: np.ndarray, random: np.random.Generator) -> Decoder:
        """Fit what is read off generated rows: uint8 codes `[rows, columns]`."""
        ...

    def records(self, encoding: Encoding, values: np.ndarray, randoms: Randoms) -> Iterator[Any]:
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

    def cells(self, records: Any, answers: Answers) -> np.ndarray:
        """Encode records as cells `[records, columns]`, each by itself.

        Guarantees:
          A record's cells depend on that record, the schema and the noisy answers alone; every
          record gets valid ones, whatever its values.
        """
        ...

    def decoder(self, answers: Answers) -> Decoder:
        """Return the way back, under the noisy answers; post-processing."""
        ...

    def restored(self, arrays: Mapping[str, np.ndarray]) -> Decoder:
        """Return the decoder of `to_arrays`; KeyError where an array is missing."""
        ...
