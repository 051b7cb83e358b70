"""What a data set offers: how its records are read, encoded, written, crafted and judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rdpjax.codecs.codec import Codec, Encoding
from rdpjax.data import cardio
from rdpjax.data.stays.patient_table import Label

Say = Callable[[str], None]


@dataclass(frozen=True)
class Reading:
    """How files are read: what a user can say about them.

    Attributes:
      age_unit: of the age column.
      height_unit: of the height column.
      recursive: look for a patient's file in a folder's folders too.
      skip_bad: go on without files that cannot be read.
      folder_ids: a patient's id names the folders of its file too.
    """

    age_unit: cardio.AgeUnit = "auto"
    height_unit: cardio.HeightUnit = "auto"
    recursive: bool = False
    skip_bad: bool = False
    folder_ids: bool = False


@dataclass(frozen=True)
class Source:
    """Private records as they were found.

    Attributes:
      records: canonical records, a frame or patients.
      keys: what a record is kept out by: its id, or its text.
      format: the file's format, declared public.
      origin: "file" or "simulated".
      notes: what the curator should hear; may come from the data.
      fingerprint: hash of the content; internal.
      keep: writes the records of a mask, as they stood, in a folder: the hold-out.
      facts: exact figures of what was read; internal.
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
    """What is written where generated records go.

    Attributes:
      rows: how many records.
      format: the file's format.
      derived: columns to append.
      hours: how many hours are modelled.
      dense: write what was not measured filled in too.
      encoding: what made the records.
      overwrite: replace an older file.
    """

    rows: int
    format: Mapping[str, Any]
    derived: Sequence[Any] = ()
    hours: int = 24
    dense: bool = False
    encoding: Encoding | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class Evaluation:
    """How real and synthetic records of a data set are read, compared and drawn.

    Attributes:
      read: `read(path, folder_ids)`: records with their ids; UserError where it cannot.
      rest: `rest(path, held_out, folder_ids)`: those at a path that were not held out.
      score: `score(synthetic, real, train, say)`: plain values; `train` may be None.
      show: the scores as text.
      draw: `draw(real, synthetic, schema, folder, hours, title)`: pictures of canonical records.
      shown: how many records pictures are drawn of, at most.
    """

    read: Callable[[Path, bool], Any]
    rest: Callable[[Path, Any, bool], Any]
    score: Callable[[Any, Any, Any, Say], dict[str, Any]]
    show: Callable[[dict[str, Any]], str]
    draw: Callable[..., None]
    shown: int


@dataclass(frozen=True)
class Dataset:
    """One data set.

    Attributes:
      codec: how its records become a table, given the modelled hours and the label.
      open: from a path (None: look in the usual places, else simulate), the environment, how to
        read, a private folder for caches, and the progress callback.
      take: the records of a mask or of indices.
      join: the records of both.
      write: generated records, block by block, to a file or into a folder.
      crafted: `crafted(count, random)`: canaries, unlike anybody's record and each other.
      extremes: `extremes(base, records, codec)`: single records at and beyond the bounds, by name.
      positive: `positive(records, codec)`: mask of the records with a positive label.
      evaluation: late, since it brings in scikit-learn and matplotlib.
      released: what a release calls its records: a file, or a folder.
      held_out: what `internal/` calls the hold-out.
      noun: what several records are called.
      derived: columns that can be appended to a release.
      shares: of the budget, by default, for the codec's measurements and `marginals`.
      format: of a release whose records came from no file.
    """

    codec: Callable[[int, Label], Codec]
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
    derived: tuple[str, ...] = ()
    shares: Mapping[str, float] = field(default_factory=dict)
    format: Mapping[str, Any] | None = None

    @property
    def file(self) -> str | None:
        """What a release calls its records, if they are a single file."""
        return self.released if Path(self.released).suffix else None
