"""`python -m rdpjax.account`: what a plan or a run costs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from rdpjax.errors import UserError, command
from rdpjax.flags import parsed
from rdpjax.privacy.budget import Budget
from rdpjax.privacy.statement import Source, read_source, state

app = tyro.extras.SubcommandApp()


@app.command
def show(
    paths: tyro.conf.Positional[tuple[Path, ...]],
    delta: float | None = None,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """Print every access to the records and what all of them cost together.

    Several paths are composed as if all had read the same records.

    Args:
      paths: Run folders, privacy.json files, ledger.jsonl files or configurations (.toml).
      delta: Probability left to chance, in (0, 1); by default what the paths state, else 1e-5.
      as_json: Print JSON instead of a table.
    """
    if not paths:
        raise UserError("name a run folder, a privacy.json, a ledger.jsonl or a configuration")
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError("a path is given twice; its accesses would count twice")
    sources = [_source(path) for path in paths]
    statement = state(sources, _delta(sources) if delta is None else delta)
    print(json.dumps(statement.to_dict(), indent=2) if as_json else statement.to_text())


def _source(path: Path) -> Source:
    if path.suffix != ".toml":
        return read_source(path)
    # Imported here: they bring in jax, and a ledger is shown without it.
    from rdpjax.config import load_config
    from rdpjax.pipeline import plan_events

    config = load_config(path)
    return Source(str(path), tuple(plan_events(config)), delta=config.delta)


def _delta(sources: Sequence[Source]) -> float:
    stated = {source.delta for source in sources if source.delta is not None}
    if len(stated) > 1:
        listed = ", ".join(f"{delta:g}" for delta in sorted(stated))
        raise UserError(f"the paths state different deltas ({listed}); give --delta")
    return stated.pop() if stated else Budget().delta


@command
def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parsed(
        lambda: app.cli(
            prog="python -m rdpjax.account",
            description="What a plan or a run costs.",
            args=argv,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
