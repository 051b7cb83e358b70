"""What a data set offers: how its records are read, encoded, written, crafted and judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rdpjax.codecs.codec import Codec, Encoding

Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """A data set's own settings, public: `[data]` of a configuration, and flags of `train`.

    A data set that has some derives a frozen dataclass; its `__post_init__` refuses by UserError.
    """


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
      settings: of the data set.
      encoding: what made the records.
      overwrite: replace an older file.
    """

    rows: int
    format: Mapping[str, Any]
    settings: Any
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
      draw: `draw(real, synthetic, schema, folder, settings, title)`: pictures of canonical records.
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
      codec: how its records become a table, given the settings.
      open: from a path (None: look in the usual places, else simulate), the environment, the
        settings, a private folder for caches, and the progress callback.
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
      settings: class of its own settings.
      shares: of the budget, by default, for the codec's measurements and `marginals`.
      format: of a release whose records came from no file.
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
        """What a release calls its records, if they are a single file."""
        return self.released if Path(self.released).suffix else None
