"""`python -m rdpjax.account`: compute, calibrate, compare and verify (epsilon, delta)."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from rdpjax.accounting.compare import compare, opinions_as_text
from rdpjax.accounting.curve import check_files, draw, points_as_text, trace, write_csv
from rdpjax.accounting.statement import check_records, state
from rdpjax.errors import UserError, command
from rdpjax.flags import optional, run_verb, unset
from rdpjax.privacy.budget import Budget, Demand, calibrate
from rdpjax.privacy.events import Event, round_up_rate
from rdpjax.privacy.sources import Source, read_source

_Paths = tyro.conf.Positional[tuple[Path, ...]]
_Json = Annotated[bool, tyro.conf.arg(name="json", help_behavior_hint="")]
_Delta = Annotated[float | None, optional("FLOAT", "stated, or 1e-5")]


@dataclass(frozen=True)
class Show:
    """Print every event of the ledgers and the (epsilon, delta) that they compose to.

    Several paths are composed as if all had read the same records. Archived ledgers of earlier runs
    in a run folder are listed beside, with the composition of everything.
    """

    paths: _Paths = ()
    """Run folders, privacy.json files, ledger.jsonl files or configurations (.toml)."""

    records: Annotated[int | None, optional("INT", "what the configuration states")] = None
    """Public number of records: sets the sampling rate where a configuration has a batch size, and
    delta must be below 1 / records."""

    delta: _Delta = None
    """Delta of (epsilon, delta)-DP, in (0, 1)."""

    as_json: _Json = False
    """Print JSON instead of a table."""

    def run(self) -> int:
        check_records(self.records)
        sources = _sources(self.paths, self.records)
        statement = state(sources, _delta(sources, self.delta), self.records)
        _print(self.as_json, statement.to_dict(), statement.to_text())
        return 0


@dataclass(frozen=True)
class Calibrate:
    """Find the noise multipliers at which all stages together reach a total epsilon.

    The stages are those of a configuration, or are given one by one.
    """

    config: Annotated[Path | None, tyro.conf.Positional, unset("[CONFIG]")] = None
    """A configuration (.toml): its stages, shares and budget, unless given here."""

    epsilon: Annotated[float | None, optional("FLOAT", "the configuration's")] = None
    """Total epsilon, above 0."""

    delta: _Delta = None
    """Delta of (epsilon, delta)-DP, in (0, 1)."""

    stage: Annotated[
        tuple[tuple[str, float, int], ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(metavar="NAME Q STEPS"),
    ] = ()
    """A stage: its name, sampling rate in (0, 1] (1 reads every record) and steps. Repeat it."""

    shares: Annotated[
        dict[str, float], optional("[NAME SHARE ...]", "the configuration's, or equal")
    ] = field(default_factory=dict)
    """Each stage's share of the total mu squared; they sum to 1."""

    as_json: _Json = False
    """Print JSON instead of a table."""

    def run(self) -> int:
        if (self.config is None) == (not self.stage):
            raise UserError("give a configuration, or --stage NAME Q STEPS for each stage")
        source = self._stages() if self.config is None else self._configured(self.config)
        assert source.delta is not None
        statement = state([source], source.delta)
        noise = {event.stage: event.noise_multiplier for event in source.events}
        values = {"noise_multipliers": noise, **statement.to_dict()}
        _print(self.as_json, values, statement.to_text())
        return 0

    def _stages(self) -> Source:
        if self.epsilon is None:
            raise UserError("give --epsilon, the total that all stages may cost")
        budget = Budget(self.epsilon, Budget().delta if self.delta is None else self.delta)
        demands = [_demand(*plan) for plan in self.stage]
        equal = {demand.name: 1 / len(demands) for demand in demands}
        noise = calibrate(budget, demands, self.shares or equal)
        return Source("plan", tuple(d.event(noise[d.name]) for d in demands), budget.delta)

    def _configured(self, path: Path) -> Source:
        from rdpjax.config_file import load_config

        config = load_config(path)
        if not config.private:
            raise UserError(f"{path}: trains without noise (private = false); nothing to calibrate")
        if config.epsilons and not self.shares:
            raise UserError(f"{path}: states an epsilon for each stage; give --shares for a total")
        if config.epsilons and self.epsilon is None:
            raise UserError(f"{path}: states an epsilon for each stage; give --epsilon, the total")
        given = {"epsilon": self.epsilon, "delta": self.delta, "shares": self.shares or None}
        change: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
        return _plan(path, dataclasses.replace(config, **change, epsilons={}))


@dataclass(frozen=True)
class _Planned:
    paths: _Paths = ()
    """The plan: run folders, privacy.json files, ledger.jsonl files or configurations (.toml)."""

    stage: Annotated[
        tuple[tuple[str, float, int, float], ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(metavar="NAME Q STEPS SIGMA"),
    ] = ()
    """Instead of paths, a stage: name, sampling rate, steps and noise multiplier. Repeat it."""

    delta: _Delta = None
    """Delta of (epsilon, delta)-DP, in (0, 1)."""

    as_json: _Json = False
    """Print JSON instead of a table."""

    def plan(self) -> tuple[list[Event], float]:
        """Return the events of the plan, and its delta."""
        if bool(self.paths) == bool(self.stage):
            raise UserError("name a run, ledger or configuration, or --stage NAME Q STEPS SIGMA")
        if self.paths:
            sources = _sources(self.paths)
            events = [event for source in sources for event in source.events]
            if not events:
                raise UserError(f"{self.paths[0]}: lists no mechanism run; name a completed run")
            return events, _delta(sources, self.delta)
        return [_event(*stage) for stage in self.stage], _delta([], self.delta)


@dataclass(frozen=True)
class Curve(_Planned):
    """Print, write or draw epsilon against steps, noise, sampling rate or delta."""

    against: Literal["steps", "sigma", "q", "delta"] = "steps"
    """The parameter to vary; the rest of the plan stays."""

    of: Annotated[str | None, optional("NAME", "the only one")] = None
    """The stage in which it varies; needed where there are several."""

    values: Annotated[
        tuple[float, ...],
        optional("FLOAT [FLOAT ...]", "from an eighth of the plan's to 8 times it"),
    ] = ()
    """The values it takes."""

    csv: Annotated[Path | None, unset("FILE")] = None
    """Also write the points as CSV."""

    picture: Annotated[Path | None, unset("FILE")] = None
    """Also draw them (.png, .svg or .pdf)."""

    def run(self) -> int:
        events, delta = self.plan()
        check_files(self.csv, self.picture)
        points = trace(events, delta, self.against, values=self.values, stage=self.of, say=_say)
        if self.csv is not None:
            write_csv(points, self.against, self.csv)
        if self.picture is not None:
            fixed = "" if self.against == "delta" else f" at delta {delta:g}"
            draw(points, self.against, f"{self.of or 'plan'}{fixed}", self.picture)
        values = {"against": self.against, "points": [vars(point) for point in points]}
        _print(self.as_json, values, points_as_text(points, self.against))
        return 0


@dataclass(frozen=True)
class Compare(_Planned):
    """Compare the epsilon of several accountants for one plan, with what each figure is worth."""

    def run(self) -> int:
        events, delta = self.plan()
        opinions = compare(events, delta)
        values = {"delta": delta, "accountants": [vars(opinion) for opinion in opinions]}
        _print(self.as_json, values, f"{opinions_as_text(opinions)}\n\ndelta {delta:g}")
        return 0


@dataclass(frozen=True)
class Verify:
    """Test our accountants, or another, against independent mathematics; 1 if a property fails."""

    accountant: Annotated[str | None, unset("MODULE:FUNCTION")] = None
    """Your own accountant: `f(events, delta) -> epsilon`, events a list of (q, sigma, steps), and
    optionally `f.rdp(events, orders)`; ours by default. See docs/ACCOUNTING.md."""

    as_json: _Json = False
    """Print JSON instead of a table."""

    def run(self) -> int:
        from rdpjax.accounting.verify.candidate import load
        from rdpjax.accounting.verify.verify import as_text, verify

        properties = verify(None if self.accountant is None else load(self.accountant), _say)
        passed = all(p.passed for p in properties)
        values = {"passed": passed, "properties": [p.to_dict() for p in properties]}
        _print(self.as_json, values, as_text(properties))
        return 0 if passed else 1


Verb = (
    Annotated[Show, tyro.conf.subcommand("show")]
    | Annotated[Calibrate, tyro.conf.subcommand("calibrate")]
    | Annotated[Curve, tyro.conf.subcommand("curve")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Verify, tyro.conf.subcommand("verify")]
)


def _sources(paths: Sequence[Path], records: int | None = None) -> list[Source]:
    if not paths:
        raise UserError("name a run folder, a privacy.json, a ledger.jsonl or a configuration")
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError("a path is given twice; its mechanism runs would count twice")
    return [_source(path, records) for path in paths]


def _source(path: Path, records: int | None) -> Source:
    if path.suffix != ".toml":
        return read_source(path)
    # Imported here: it imports jax, which a ledger does not need.
    from rdpjax.config_file import load_config

    config = load_config(path)
    return _plan(path, config if records is None else dataclasses.replace(config, records=records))


def _plan(path: Path, config: Any) -> Source:
    from rdpjax.fitting.plans import plan_events

    return Source(str(path), tuple(plan_events(config)), delta=config.delta)


def _delta(sources: Sequence[Source], given: float | None) -> float:
    if given is not None:
        return given
    stated = {source.delta for source in sources if source.delta is not None}
    if len(stated) > 1:
        listed = ", ".join(f"{delta:g}" for delta in sorted(stated))
        raise UserError(f"the paths state different deltas ({listed}); give --delta")
    return stated.pop() if stated else Budget().delta


def _demand(name: str, rate: float, steps: int) -> Demand:
    event = _event(name, rate, steps, 1.0)  # any noise multiplier: the other fields are checked
    return Demand(name, event.mechanism, event.sampling_rate, event.steps)


def _event(name: str, rate: float, steps: int, sigma: float) -> Event:
    try:
        return Event(name, "poisson_gaussian", round_up_rate(rate), sigma, 1.0, steps)
    except UserError as error:
        told = str(error).removeprefix(f"event {name!r}: ")
        raise UserError(f"--stage {' '.join(name.split())}: {told}") from None


def _print(as_json: bool, values: dict[str, Any], text: str) -> None:
    print(json.dumps(values, indent=2, allow_nan=False) if as_json else text)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: exit status 0, 1 where a property fails, 2 for a UserError."""
    return run_verb(
        Verb,
        "python -m rdpjax.account",
        "Compute, calibrate, compare and verify the (epsilon, delta) of a plan or a run.",
        argv,
    )


if __name__ == "__main__":
    raise SystemExit(main())
