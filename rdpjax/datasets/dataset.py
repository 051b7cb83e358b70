"""Interface of a data set: reading, encoding, writing, canaries and evaluation of its records."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rdpjax.codecs.codec import Codec, Encoding

Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """Settings of a data set, public: `[data]` of a configuration, and flags of `train`.

    A data set with settings derives a frozen dataclass; its `__post_init__` raises UserError.
    """

    def values(self) -> dict[str, Any]:
        """Return plain values by key, for `[data]`."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Source:
    """Private records as read.

    Attributes:
      records: canonical records, a frame or patients.
      keys: hold-out key of each record: its id, or its text.
      format: the file's format, declared public.
      origin: "file" or "simulated".
      notes: warnings for the curator; may come from the data.
      fingerprint: hash of the content; internal.
      keep: copies the records of a mask, byte for byte, into a folder: the hold-out.
      facts: exact statistics of the input; internal.
    """

    records: Any
    keys: Sequence[str]
    format: Mapping[str, Any]
    origin: str
    notes: tuple[str, ...]
    fingerprint: str
    keep: Callable[[np.ndarray, Path], object]
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Output:
    """Output of generated records: number, format and settings.

    Attributes:
      rows: number of records.
      format: the file's format.
      settings: settings of the data set.
      encoding: the fitted codec that decoded the records.
      overwrite: replace an existing file.
    """

    rows: int
    format: Mapping[str, Any]
    settings: Any
    encoding: Encoding | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class Evaluation:
    """Evaluation of a data set: readers, scores and figures of real and synthetic records.

    Attributes:
      read: `read(path, folder_ids)`: records with their ids; UserError where it cannot.
      rest: `rest(path, held_out, folder_ids)`: the records at a path without the hold-out.
      score: `score(synthetic, real, train, say)`: plain values; `train` may be None.
      show: formats the scores as text.
      draw: `draw(real, synthetic, schema, folder, settings, title)`: figures of canonical records.
      shown: most records that figures are drawn of.
    """

    read: Callable[[Path, bool], Any]
    rest: Callable[[Path, Any, bool], Any]
    score: Callable[[Any, Any, Any, Say], dict[str, Any]]
    show: Callable[[dict[str, Any]], str]
    draw: Callable[..., None]
    shown: int


@dataclass(frozen=True)
class Dataset:
    """Data set: codec, input and output, canaries, evaluation and defaults.

    Attributes:
      codec: builds the codec from the settings.
      open: reads the source, given a path (None: search the default places, else simulate), the
        environment, the settings, a private cache folder, and the progress callback.
      take: selects records by a mask or by indices.
      join: concatenates two sets of records.
      write: writes generated records, block by block, to a file or into a folder.
      crafted: `crafted(count, random)`: canaries, atypical and mutually distinct records.
      extremes: `extremes(base, records, codec)`: single records at and beyond the bounds, by name.
      positive: `positive(records, codec)`: mask of the records with a positive label.
      evaluation: builds the evaluation; a function, since it imports scikit-learn and matplotlib.
      released: name of the records in a release: a file, or a folder.
      held_out: name of the hold-out in `internal/`.
      noun: plural noun for the records.
      settings: class of the data set's settings.
      shares: default budget shares of the codec's measurements and of `marginals`.
      format: format of a release whose records were not read from a file.
    """

    codec: Callable[[Any], Codec]
    open: Callable[..., Source]
    take: Callable[[Any, np.ndarray], Any]
    join: Callable[[Any, Any], Any]
    write: Callable[[Path, Iterable[Any], Output], None]
    crafted: Callable[[int, np.random.Generator], Any]
    extremes: Callable[[Any, Any, Codec], Mapping[str, Any]]
    positive: Callable[[Any, Codec], np.ndarray]
    evaluation: Callable[[], Evaluation]
    released: str
    held_out: str
    noun: str
    settings: type[Any] = Settings
    shares: Mapping[str, float] = field(default_factory=dict)
    format: Mapping[str, Any] | None = None

    @property
    def file(self) -> str | None:
        """Name of the records in a release if they are a single file, else None."""
        return self.released if Path(self.released).suffix else None
