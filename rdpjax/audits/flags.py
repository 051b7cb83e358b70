"""Flags that all audits share."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from rdpjax.flags import Switch, optional


@dataclass(frozen=True)
class AuditFlags:
    """The subject of an audit, and the file of its findings."""

    path: tyro.conf.Positional[Path]
    """A run folder, a configuration (.toml), or the name of a shipped one."""

    data: Annotated[Path | None, optional("PATH", "as train finds them, else simulated")] = None
    """The records."""

    json: Annotated[Path | None, optional("FILE", "none")] = None
    """Also write the findings to this file."""

    quiet: Switch = False
    """No progress on stderr."""

    def say(self, line: str) -> None:
        """Print a line of progress on stderr."""
        if not self.quiet:
            print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class ExperimentFlags(AuditFlags):
    """Flags of an audit that draws random numbers."""

    seed: Annotated[int | None, optional("INT", "from the operating system")] = None
    """Seed of the audit's random numbers, for repeatable audits."""

    picture: Annotated[Path | None, optional("FILE", "none")] = None
    """Also draw the findings, as .png, .svg or .pdf."""
