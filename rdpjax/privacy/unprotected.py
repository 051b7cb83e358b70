"""Output of a non-private run: its folder, and the mark that each of its files carries."""

from __future__ import annotations

from pathlib import Path

RELEASE = "release"
UNPROTECTED = "unprotected"
"""Output folder of a non-private run, which has no `release/`."""

NOT_PRIVATE = "not private: trained without noise, for comparisons only; do not publish it"
PREFIX = "not-private-"
"""Prefix of the names of files of records: their formats leave no room for a remark."""


def output_of(run: Path) -> Path:
    """Return the folder with a run's output: `release/`, or `unprotected/` if it has that.

    Examples:
      >>> output_of(Path("no such run")).name
      'release'
    """
    return next((p for p in (run / RELEASE, run / UNPROTECTED) if p.exists()), run / RELEASE)


def output_for(run: Path, *, private: bool) -> Path:
    """Return the folder that a run at `run` writes its output to."""
    return run / (RELEASE if private else UNPROTECTED)


def records_name(name: str, *, private: bool) -> str:
    """Return the name of a file or folder of generated records, marked if not private.

    Examples:
      >>> records_name("synthetic.csv", private=True)
      'synthetic.csv'
      >>> records_name("synthetic.csv", private=False)
      'not-private-synthetic.csv'
    """
    return name if private else PREFIX + name


def mark_records(folder: Path) -> None:
    """Mark all files of records in `folder`, which holds nothing else, as not private."""
    for path in list(folder.iterdir()):
        path.rename(folder / records_name(path.name, private=False))


def mark_settings(folder: Path) -> None:
    """Mark every TOML file below `folder` as not private, and add a notice."""
    for path in folder.rglob("*.toml"):
        text = path.read_text(encoding="utf-8")
        path.write_text(f"# {NOT_PRIVATE}\n{text}", encoding="utf-8")
    (folder / "DO_NOT_PUBLISH").write_text(f"{NOT_PRIVATE}\n", encoding="utf-8")
