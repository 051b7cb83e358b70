"""The output of a run without privacy: where it lies, and how every file of it says so."""

from __future__ import annotations

from pathlib import Path

RELEASE = "release"
UNPROTECTED = "unprotected"
"""In a run without privacy it takes the place of `release/`, which there then is none of."""

NOT_PRIVATE = "not private: trained without noise, for comparisons only; do not publish it"
PREFIX = "not-private-"
"""Begins the names of files of records: their formats leave no room for a remark."""


def output_of(run: Path) -> Path:
    """Folder with the output of the run at `run`: `release/`, or `unprotected/` if it has that.

    Examples:
      >>> output_of(Path("no such run")).name
      'release'
    """
    return next((p for p in (run / RELEASE, run / UNPROTECTED) if p.exists()), run / RELEASE)


def output_for(run: Path, *, private: bool) -> Path:
    """Folder that a run at `run` writes its output to."""
    return run / (RELEASE if private else UNPROTECTED)


def records_name(name: str, *, private: bool) -> str:
    """What a file or folder of generated records is called.

    Examples:
      >>> records_name("synthetic.csv", private=True)
      'synthetic.csv'
      >>> records_name("synthetic.csv", private=False)
      'not-private-synthetic.csv'
    """
    return name if private else PREFIX + name


def mark_records(folder: Path) -> None:
    """Say of all files of records in `folder`, which holds nothing else, what they are."""
    for path in list(folder.iterdir()):
        path.rename(folder / records_name(path.name, private=False))


def mark_settings(folder: Path) -> None:
    """Say in every TOML file below `folder`, and in a notice, that nothing there is private."""
    for path in folder.rglob("*.toml"):
        text = path.read_text(encoding="utf-8")
        path.write_text(f"# {NOT_PRIVATE}\n{text}", encoding="utf-8")
    (folder / "DO_NOT_PUBLISH").write_text(f"{NOT_PRIVATE}\n", encoding="utf-8")
