"""The run folder: `release/` may be published, nothing else may.

    RUN/
      release/     synthetic.csv privacy.json schema.toml generator/{config.toml, arrays.npz}
      internal/    (mode 0700) config.toml run.json keys.json ledger.jsonl metrics.jsonl
                   checkpoints/ holdout.csv (or holdout/) facts.json history.jsonl plots/ archive/
                   tokens.npy (while a table too large for the device is trained on)

      unprotected/ what a run without privacy writes in place of `release/`, marked in every file
                   (`rdpjax/privacy/unprotected.py`); a run has one of the two

The output folder is written under another name and renamed, so it is there whole or not at all.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rdpjax.config import Config
from rdpjax.config_file import parse_config
from rdpjax.dpsgd.keys import Roots
from rdpjax.errors import UserError
from rdpjax.io.atomic import PRIVATE, disk_errors, new_folder, write_file
from rdpjax.privacy.unprotected import RELEASE, UNPROTECTED, output_of

REPORT = "privacy.json"
KEPT = ("archive", "history.jsonl", "DO_NOT_PUBLISH")
"""Entries of `internal/` that outlive a run which is overwritten."""
NOTICE = "Nothing in this folder is differentially private: do not publish it.\n"


class RunFolder:
    """Paths of one run's folder, and methods that write its files.

    Args:
      path: the run's folder; `create` makes it, `open` needs it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.release, self.unprotected = path / RELEASE, path / UNPROTECTED
        self.internal = path / "internal"
        self.ledger = self.internal / "ledger.jsonl"
        self.checkpoints = self.internal / "checkpoints"
        self.plots = self.internal / "plots"

    @property
    def exists(self) -> bool:
        """Whether the folder holds a run; the archived ledger of a refused one is not a run."""
        began = self.internal.iterdir() if self.internal.exists() else ()
        return self.complete or any(path.name not in KEPT for path in began)

    @property
    def has_keys(self) -> bool:
        """Whether a run began here: its keys are written before the first mechanism."""
        return (self.internal / "keys.json").exists()

    @property
    def complete(self) -> bool:
        """Whether the run completed: its output is written last."""
        return self.release.exists() or self.unprotected.exists()

    @property
    def output(self) -> Path:
        """Output folder of a completed run; see `output_of`."""
        return output_of(self.path)

    def check_writable(self) -> None:
        """Raise a UserError unless the folder can be made; nothing is left behind."""
        parent = next(p for p in (self.path, *self.path.absolute().parents) if p.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            raise UserError(f"{self.path}: cannot write there; choose another --out")

    def create(self) -> None:
        """Make `internal/`, readable by its owner alone."""
        with disk_errors(self.path):
            self.internal.mkdir(parents=True, mode=0o700, exist_ok=True)
            self.internal.chmod(0o700)
            write_file(self.internal / "DO_NOT_PUBLISH", NOTICE)

    def protect(self) -> None:
        """Make all of `internal/` readable by its owner alone, whichever code wrote it."""
        for path in (self.internal, *self.internal.rglob("*")):
            if path.exists() and not path.is_symlink():
                with contextlib.suppress(OSError):  # a file of another user
                    path.chmod(0o700 if path.is_dir() else PRIVATE)

    def archive(self) -> Path | None:
        """Archive an earlier run's ledger and report, and remove the rest except the history.

        Returns:
          Path of the archived ledger; None if there was none.
        """
        # Keys first: without them the run cannot be resumed, so it cannot go on without its ledger.
        (self.internal / "keys.json").unlink(missing_ok=True)
        keep = self.internal / "archive"
        keep.mkdir(parents=True, exist_ok=True)
        taken = [int(path.name[:3]) for path in keep.iterdir() if path.name[:3].isdecimal()]
        number = max(taken, default=-1) + 1
        ledger = keep / f"{number:03d}-{self.ledger.name}" if self.ledger.exists() else None
        for path in (self.ledger, *(p / REPORT for p in (self.release, self.unprotected))):
            if path.exists():
                path.rename(keep / f"{number:03d}-{path.name}")
        for folder in (self.release, self.unprotected):
            shutil.rmtree(folder, ignore_errors=True)
        for path in self.internal.iterdir():
            if path.name not in KEPT:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return ledger

    def discard(self) -> Path | None:
        """Remove a half-written run, but archive its ledger.

        Guarantees:
          What the run has read stays on the disk: its ledger is archived, unless it is empty.

        Returns:
          Path of the archived ledger; None if nothing was read.
        """
        if self.ledger.exists() and self.ledger.stat().st_size > 0:
            return self.archive()
        self.ledger.unlink(missing_ok=True)
        if any((self.internal / name).exists() for name in ("archive", "history.jsonl")):
            return self.archive()
        shutil.rmtree(self.internal)
        if not any(self.path.iterdir()):
            self.path.rmdir()
        return None

    # -- read back by a resumed run --------------------------------------------------------------

    def write_start(self, config: Config, facts: Mapping[str, Any], roots: Roots) -> None:
        """Write configuration, facts of the data and keys, before the first mechanism runs."""
        write_file(self.internal / "config.toml", config.to_toml())
        write_file(self.internal / "run.json", json.dumps(dict(facts), indent=1))
        self.write_keys(roots)

    def write_facts(self, facts: Mapping[str, Any]) -> None:
        """Write exact figures of the records that were read. Not private."""
        write_file(self.internal / "facts.json", json.dumps(dict(facts), indent=1))

    def write_keys(self, roots: Roots) -> None:
        keys = {
            "sampling": roots.sampling.hex(),
            "noise": roots.noise.hex(),
            "initialisation": roots.initialisation.hex(),
            "holdout": roots.holdout.hex(),
            "secret": roots.secret,
        }
        write_file(self.internal / "keys.json", json.dumps(keys, indent=1))

    def read_start(self) -> tuple[Config, dict[str, Any], Roots]:
        """Read what `write_start` wrote; UserError if no run started here."""
        try:
            text = (self.internal / "config.toml").read_text(encoding="utf-8")
            config = parse_config(text, written=True)
            facts = json.loads((self.internal / "run.json").read_text(encoding="utf-8"))
            keys = json.loads((self.internal / "keys.json").read_text(encoding="utf-8"))
            names = ("sampling", "noise", "initialisation", "holdout")
            roots = Roots(*(bytes.fromhex(keys[name]) for name in names), secret=keys["secret"])
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(
                f"{self.path}: no run to resume there; drop --resume, or give --overwrite"
            ) from None
        return config, facts, roots

    def forget_noise(self, roots: Roots) -> None:
        """Overwrite the keys without the noise root, so that the noise cannot be recomputed."""
        self.write_keys(
            Roots(roots.sampling, b"", roots.initialisation, roots.holdout, secret=roots.secret)
        )

    def add_metrics(self, stage: str, start: int, metrics: Mapping[str, np.ndarray]) -> None:
        """Append one line a step to `metrics.jsonl`. Not private."""
        columns = {name: np.asarray(values).tolist() for name, values in metrics.items()}
        steps = len(next(iter(columns.values()), []))
        path = self.internal / "metrics.jsonl"
        path.touch(mode=PRIVATE)
        with path.open("a", encoding="utf-8") as file:
            for i in range(steps):
                row = {"stage": stage, "step": start + i}
                file.write(json.dumps(row | {name: column[i] for name, column in columns.items()}))
                file.write("\n")

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return one row per (stage, step), the last one of a replayed step."""
        rows = _read_lines(self.internal / "metrics.jsonl")
        return list({(row["stage"], row["step"]): row for row in rows}.values())

    def add_history(self, run: str, fingerprint: str) -> int:
        """Count the completed run `run` once; return how many runs here read the same data."""
        path = self.internal / "history.jsonl"
        rows = _read_lines(path)
        if all(row.get("run") != run for row in rows):
            finished = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            rows.append({"run": run, "fingerprint": fingerprint, "finished": finished})
            write_file(path, "".join(json.dumps(row) + "\n" for row in rows))
        return sum(row["fingerprint"] == fingerprint for row in rows)


@contextlib.contextmanager
def release_written(target: Path) -> Iterator[Path]:
    """Yield a folder to fill, which replaces `target` when the block ends without an error."""
    with disk_errors(target), new_folder(target, overwrite=True) as folder:
        yield folder


def release_of(path: Path) -> Path:
    """Return the output folder of a run folder, or `path` itself if it is one."""
    return path if (path / "generator").is_dir() else output_of(path)


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """Parse a file of JSON lines; a line truncated by `kill -9` is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        with contextlib.suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    return rows
