"""`python -m rdpjax.audit`: test the (epsilon, delta) claim by experiment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import tyro

from rdpjax.audits.gradient.audit import GradientAudit
from rdpjax.audits.one_run.audit import OneRunAudit
from rdpjax.audits.release import ReleaseAudit
from rdpjax.audits.replay.audit import ReplayAudit
from rdpjax.errors import command
from rdpjax.flags import run_verb

Audit = (
    Annotated[GradientAudit, tyro.conf.subcommand("gradient")]
    | Annotated[OneRunAudit, tyro.conf.subcommand("one-run")]
    | Annotated[ReleaseAudit, tyro.conf.subcommand("release")]
    | Annotated[ReplayAudit, tyro.conf.subcommand("replay")]
)


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: exit status 0; 1 where an audit refutes the claim; 2 for a UserError."""
    return run_verb(
        Audit,
        "python -m rdpjax.audit",
        "Test the privacy claim of a plan or a run by experiment.",
        argv,
    )


if __name__ == "__main__":
    raise SystemExit(main())
