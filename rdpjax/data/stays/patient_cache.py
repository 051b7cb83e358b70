"""Cache of parsed patients: one array file per source, which loads at once.

The file holds private records in the clear, as the source does: it is readable by its owner alone
and belongs to the internal side of a run. A source that differs in any byte has another key.
"""

from __future__ import annotations

import contextlib
import hashlib
import zipfile
from pathlib import Path

import numpy as np

from rdpjax.data.stays.patients import Patients
from rdpjax.data.stays.sepsis import COLUMNS, LONGEST
from rdpjax.io.atomic import new_file

VERSION = 2
"""Version of the parser's output format: raise it whenever that changes."""

_ARRAYS = ("values", "starts", "first", "onset", "statics")


def cache_file(folder: Path, key: bytes) -> Path:
    """Return the cache file of a source with the given content hash."""
    whole = hashlib.blake2b(key, digest_size=16)
    whole.update(repr((VERSION, COLUMNS, LONGEST)).encode())
    return folder / f"patients-{whole.hexdigest()}.npz"


def read_cached(path: Path) -> tuple[Patients, tuple[str, ...], str] | None:
    """Load patients, notes and fingerprint from a cache file; None if it is absent or damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            # The check sums of the archive detect any damage.
            patients = Patients(
                **{name: arrays[name] for name in _ARRAYS}, ids=tuple(arrays["ids"].tolist())
            )
            return patients, tuple(arrays["notes"].tolist()), str(arrays["fingerprint"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def write_cached(path: Path, patients: Patients, notes: tuple[str, ...], fingerprint: str) -> None:
    """Write patients to a cache file that its owner alone can read.

    On an OSError (disk full, say) no file is left behind, and every run parses the source.
    """
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
        path.parent.chmod(0o700)
        with new_file(path) as file:
            np.savez(
                file,
                **{name: getattr(patients, name) for name in _ARRAYS},
                ids=np.array(patients.ids),
                notes=np.array(notes, dtype=str),
                fingerprint=np.array(fingerprint),
            )
