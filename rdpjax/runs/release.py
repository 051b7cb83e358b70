"""Release: the generator, data set, claim and records that a run published."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rdpjax.data.conditions import Condition
from rdpjax.datasets.dataset import Dataset, Output
from rdpjax.datasets.registry import dataset_of
from rdpjax.errors import UserError
from rdpjax.fitting.generator import Generator
from rdpjax.fitting.where import meeting
from rdpjax.privacy.report import read_report
from rdpjax.privacy.unprotected import UNPROTECTED, mark_records, records_name
from rdpjax.runs.folder import release_of
from rdpjax.runs.generator_file import read_generator


@dataclass(frozen=True)
class Release:
    """Output of `train`, or of `Synthesizer.save`.

    Attributes:
      folder: its path.
      generator: the released generator.
      dataset: reads, writes and evaluates the records.
      report: the content of `privacy.json`.
    """

    folder: Path
    generator: Generator
    dataset: Dataset
    report: Mapping[str, Any]

    @property
    def format(self) -> dict[str, Any]:
        """File format of the records; UserError if neither claim nor data set states one."""
        found = self._declared("format") or self.dataset.format
        if not isinstance(found, Mapping):
            raise UserError(f"{self.folder / 'privacy.json'}: names no file format")
        return dict(found)

    @property
    def source(self) -> str:
        """Origin of the records, so that a simulated cohort cannot pass for a real one."""
        if (found := self._declared("source")) is None:
            path = self.folder / "privacy.json"
            raise UserError(f"{path}: does not say `source`; was it changed by hand?")
        return str(found)

    @contextlib.contextmanager
    def records(self) -> Iterator[Path]:
        """Yield the path of the released records; a saved generator draws them for the moment."""
        private = self.folder.name != UNPROTECTED
        path = self.folder / records_name(self.dataset.released, private=private)
        if path.exists() or self._declared("format"):
            yield path
            return
        with tempfile.TemporaryDirectory() as folder:
            drawn = Path(folder) / self.dataset.released
            write_rows(drawn, self.generator, self.dataset, self.format, bytes(32))
            yield drawn

    def _declared(self, name: str) -> Any:
        declarations = self.report.get("declarations")
        return declarations.get(name) if isinstance(declarations, Mapping) else None


def open_release(path: Path) -> Release:
    """Open the release in a run folder, in a saved folder, or at `path` itself.

    Raises:
      UserError: no release there, a damaged one, or a changed `privacy.json`.
    """
    folder = release_of(path)
    generator = read_generator(folder)
    dataset = dataset_of(generator.config.dataset, generator.config.data)
    return Release(folder, generator, dataset, read_report(folder / "privacy.json"))


def write_rows(
    target: Path,
    generator: Generator,
    dataset: Dataset,
    format: Mapping[str, Any],
    root: bytes,
    rows: int | None = None,
    *,
    first: Sequence[np.ndarray] = (),
    where: tuple[Condition, ...] = (),
    overwrite: bool = False,
) -> None:
    """Stream generated records to `target`, the data set's file or folder, in bounded memory.

    Blocks that were generated before, the `first` ones, are not generated again. Of all rows those
    are written that meet the conditions `where`.
    """
    config, rows = generator.config, rows or generator.config.rows
    output = Output(rows, format, config.data, generator.encoding, overwrite)
    blocks: Iterator[np.ndarray] = itertools.chain(first, generator.blocks(root, len(first)))
    if where:
        blocks = meeting(blocks, generator.schema, where)
    dataset.write(target, generator.decoded(root, blocks, rows), output)
    if dataset.file is None and not config.private:
        mark_records(target)
