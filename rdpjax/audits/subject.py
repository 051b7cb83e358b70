"""Subject of an audit: a configuration or a completed run, with its records."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rdpjax.codecs.codec import Codec
from rdpjax.config import Config
from rdpjax.config_file import load_config
from rdpjax.data.holdout import holdout_mask
from rdpjax.datasets.dataset import Dataset, Source
from rdpjax.datasets.registry import dataset_of
from rdpjax.errors import UserError
from rdpjax.runs.folder import RunFolder
from rdpjax.runs.release import Release, open_release


@dataclass(frozen=True)
class Subject:
    """Configuration of an audited run, with its records.

    Attributes:
      name: the path or name as the user gave it.
      config: the run's settings.
      dataset: reads and writes the records.
      source: the records, the hold-out included.
      held: bool `[records]`, a completed run's hold-out; None for a configuration.
      release: a completed run's, or what `Synthesizer.save` wrote; None for a configuration.
    """

    name: str
    config: Config
    dataset: Dataset
    source: Source
    held: np.ndarray | None = None
    release: Release | None = None

    @property
    def codec(self) -> Codec:
        return self.dataset.codec(self.config.data)

    @property
    def records(self) -> Any:
        """Training records: canonical records without the hold-out."""
        if self.held is None:
            return self.source.records
        return self.dataset.take(self.source.records, ~self.held)


def read_subject(path: Path, data: Path | None = None) -> Subject:
    """Read the configuration at `path` with its records.

    Args:
      path: a run folder, a configuration (.toml), or the name of a shipped one.
      data: the records; by default searched for as `train` does, and simulated where there are
        none.

    Raises:
      UserError: no such run or configuration, a run in progress, one that is not private, or
        records other than the run's.
    """
    folder = RunFolder(path) if path.is_dir() else None
    if folder is None:
        config = load_config(path)
    else:
        config, facts, roots = folder.read_start()
        if not folder.complete:
            raise UserError(f"{path}: the run is still in progress; finish it with --resume")
    if not config.private:
        raise UserError(f"{path}: a config without noise (private = false) claims nothing to audit")
    dataset = dataset_of(config.dataset, config.data)
    source = dataset.open(data, os.environ, config.data)
    if folder is None:
        return Subject(str(path), config, dataset, source)
    if source.fingerprint != facts["fingerprint"]:
        raise UserError(f"{path}: the run read other records; give them with --data PATH")
    held = holdout_mask(source.keys, config.holdout, roots.holdout)
    return Subject(str(path), config, dataset, source, held, open_release(path))


def read_saved(path: Path, data: Path | None, held_out: Path | None) -> Subject:
    """Read what `Synthesizer.save` wrote at `path`, with its training records and held-out records.

    Raises:
      UserError: no release there, one without privacy, or records of neither kind.
    """
    release = open_release(path)
    if not release.generator.config.private:
        raise UserError(f"{path}: a fit without noise claims nothing to audit")
    if data is None or held_out is None:
        raise UserError(
            f"{path}: has no run's internal/ folder; give the records that it was fitted on with "
            "--data FILE, and others that it was not with --held-out FILE"
        )
    dataset, settings = release.dataset, release.generator.config.data
    source = dataset.open(data, {}, settings)
    others = dataset.open(held_out, {}, settings).records
    held = np.arange(len(source.records) + len(others)) >= len(source.records)
    joined = dataclasses.replace(source, records=dataset.join(source.records, others))
    return Subject(str(path), release.generator.config, dataset, joined, held, release)
