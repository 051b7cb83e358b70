"""`audit replay`: neighbouring data sets through one pipeline with the same keys, step by step.

A mechanism's output may move with one record by its declared sensitivity; everything else must be
equal, bit for bit, once the outputs are. The comparison is deterministic and needs no attack
statistics: it finds faults that no lower bound on epsilon could certify.

References:
  Re:cord-play, 2026, arXiv 2602.17454: 13 violations in 12 libraries, found by comparing internal
  states on neighbouring inputs with declared sensitivities.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from rdpjax.audits.flags import AuditFlags
from rdpjax.audits.replay import intermediates as compare
from rdpjax.audits.replay.comparisons import Comparison, as_table, broken
from rdpjax.audits.replay.known_noise import noise, repeated_keys
from rdpjax.audits.replay.neighbours import Neighbourhood, neighbourhood
from rdpjax.audits.replay.recording import Recording, record
from rdpjax.audits.subject import Subject, read_subject
from rdpjax.compute.devices import keep_programs
from rdpjax.dpsgd.keys import Roots
from rdpjax.dpsgd.plan import SCALE
from rdpjax.dpsgd.sampling import capacity
from rdpjax.errors import UserError
from rdpjax.fitting.plans import Plans, make_plans, plan_events, target_of
from rdpjax.io.atomic import write_json
from rdpjax.privacy.events import events_to_list
from rdpjax.privacy.sealed import SealError
from rdpjax.runs.generator_file import write_generator

FEW = 4
"""Number of steps at sampling rate 1."""

SEEDS = 100
"""Seeds tried until their keys draw the added record in every stage."""


@dataclass(frozen=True)
class ReplayAudit(AuditFlags):
    """Replay neighbouring data sets with the same keys, and compare every intermediate.

    Each measurement and each clipped sum must move by no more than its declared sensitivity; all
    else (updates, states, tokens, divisors, noise, released files) must be equal bit for bit. The
    subject's records, sampling rates, noise and clip norms are used; its keys are not.
    """

    records: int = 2000
    """Largest number of records to replay with."""

    def run(self) -> int:
        """Compare and print; exit status 0 where every bound holds, 1 where one is broken."""
        if self.records < 2:
            raise UserError(f"--records {self.records}: give 2 or more")
        _compile_quickly()
        keep_programs()

        subject = read_subject(self.path, self.data)
        found = list(replay(subject, self.records, self.say))
        print(as_table(found))
        if self.json is not None:
            write_json(
                self.json, {"subject": subject.name, "comparisons": [c.to_dict() for c in found]}
            )
        for each in broken(found):
            print(f"BROKEN: {each.what} ({each.where}): {each.measured:.6g}, not {each.bound:.6g}")
        return 1 if broken(found) else 0


def _compile_quickly() -> None:
    """Lower XLA's optimisation level: programs run for a moment. `$XLA_FLAGS` has precedence."""
    flags = os.environ.get("XLA_FLAGS", "")
    if "optimization_level" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_backend_optimization_level=1".strip()


def replay(
    subject: Subject, most: int = 2000, say: Callable[[str], object] = lambda line: None
) -> Iterator[Comparison]:
    """Compare neighbouring data sets in the subject's pipeline.

    Neighbours have one record more at the end: with geometric skips the sampler then draws the
    others as before (`_steady`). A record in the middle renumbers those behind it, so that their
    draws and the keys of their losses change: the distribution is the same and the bits are not.
    For it the measurements and the codes are compared.

    Args:
      subject: the audited configuration with its records.
      most: largest number of records to replay with.
      say: callback, called with a line of progress.

    Yields:
      The comparisons, as they are made. A read outside an open ledger entry is one, and the last.

    Raises:
      UserError: the pipeline refuses so few records.
    """
    count = _steady(make_plans(subject.config), min(most, len(subject.records) - 1))
    hood = neighbourhood(subject.records, subject.dataset, subject.codec, count)
    say(f"  {len(hood.base)} records; beside them {', '.join(hood.added)}")
    try:
        yield from _all_drawn(subject, hood, say)
        yield from _as_configured(subject, hood, say)
    except SealError as error:
        yield Comparison("reads outside an open entry", str(error), 0, 1)


def _all_drawn(
    subject: Subject, hood: Neighbourhood, say: Callable[[str], object]
) -> Iterator[Comparison]:
    """Compare a few steps at sampling rate 1, with each neighbour, then with another noise root."""
    config, codec, count = subject.config, subject.codec, len(hood.base)
    events = {event.stage: event for event in plan_events(config, codec)}
    plans, roots = _cut(make_plans(config), FEW, every=True), Roots.make(SEEDS)
    again = partial(record, config, codec, plans=plans)

    say("  every record drawn in every step, with each neighbour")
    base = again(hood.base, roots=roots)
    others = {what: again(table, roots=roots, told=base) for what, table in hood.added.items()}
    without = again(hood.removed, roots=roots, told=base, until="measurements")
    expected = _expected(base)
    yield from compare.measurements(base, {**others, "removed": without}, events)
    yield from compare.sums(base, others.values(), plans, count + 1, expected)
    yield from compare.draws({count: base, count + 1: others["extreme"]}, plans, roots)
    yield from compare.post_processing(base, others.values())

    say("  the same under another noise root")
    renewed, other = _renewed(roots), others["extreme"]
    pair = [again(table, roots=renewed, told=base) for table in (hood.base, hood.added["extreme"])]
    yield from noise(
        [(base, pair[0]), (other, pair[1])], (roots, renewed), events, _divisors(plans, expected)
    )


def _as_configured(
    subject: Subject, hood: Neighbourhood, say: Callable[[str], object]
) -> Iterator[Comparison]:
    """Compare at the configured sampling rates, with and without a record, and interrupted."""
    config, codec, count = subject.config, subject.codec, len(hood.base)
    events = {event.stage: event for event in plan_events(config, codec)}
    plans = _cut(make_plans(config), 2 * config.chunk_steps)
    roots, drawn = _roots(plans, count + 1)
    common = partial(record, config, codec, plans=plans, target=target_of(config))
    again = partial(common, roots=roots)

    say("  the configured sampling rates, with and without a record")
    base = again(hood.base, until="release")
    other = again(hood.added["extreme"], told=base, until="release")
    yield from compare.sums(base, [other], plans, count + 1, _expected(base), which=drawn)
    yield from compare.draws({count: base, count + 1: other}, plans, roots)
    yield from compare.rates({count: base, count + 1: other}, events)
    yield compare.codes(base, hood)
    yield from compare.post_processing(base, [other])
    with tempfile.TemporaryDirectory() as folder:
        yield compare.files(
            _released(base, Path(folder) / "one"), _released(other, Path(folder) / "other")
        )
        say("  interrupted and resumed")
        resumed = again(hood.base, interrupted_in=Path(folder) / "checkpoints")
    yield from compare.resumption(base, resumed)
    planned = [
        dataclasses.replace(event, steps=plans.stages[event.stage].steps)
        if event.stage in plans.stages
        else event
        for event in events.values()
    ]
    yield compare.ledgers([base, other, resumed], planned)

    say("  the same under another noise root")
    renewed = _renewed(roots)
    pair = (base, common(hood.base, roots=renewed, told=base))
    yield from noise([pair], (roots, renewed), events, _divisors(plans, _expected(base)))
    yield repeated_keys(make_plans(config), roots, config.chunk_steps)


def _steady(plans: Plans, most: int) -> int:
    """Choose `most` or fewer records, so that one more leaves the sampler's capacity unchanged.

    With another capacity the same keys draw others: the distribution is the same, the bits are not.
    """
    rates = [plan.threshold for plan in plans.stages.values()]
    return next(
        (n for n in range(most, 1, -1) if all(capacity(n, q) == capacity(n + 1, q) for q in rates)),
        most,
    )


def _expected(recording: Recording) -> float:
    """Return the number of records that the pipeline uses, noisy or public."""
    _, context = next(iter(recording.states.values()))
    return context.tokenizer.marginals.records


def _divisors(plans: Plans, expected: float) -> dict[str, float]:
    """Return the divisor of each stage's noisy sums, the expected batch size."""
    return {name: plan.sampling_rate * expected for name, plan in plans.stages.items()}


def _renewed(roots: Roots) -> Roots:
    """Return the same root keys with another noise root."""
    return dataclasses.replace(roots, noise=Roots.make(SEEDS + 1).noise)


def _cut(plans: Plans, steps: int, *, every: bool = False) -> Plans:
    """Cut the plans to fewer steps; with `every`, at sampling rate 1."""
    stages = {
        name: dataclasses.replace(
            plan,
            steps=min(plan.steps, steps),
            threshold=SCALE if every else plan.threshold,
        )
        for name, plan in plans.stages.items()
    }
    return Plans(plans.measurements, stages)


def _roots(plans: Plans, records: int) -> tuple[Roots, dict[str, np.ndarray]]:
    """Find root keys that draw the last record in every stage, if any do; and the steps when."""
    for seed in range(SEEDS):
        roots = Roots.make(seed)
        drawn = {
            name: compare.masks(plan, name, roots, records)[:, -1]
            for name, plan in plans.stages.items()
        }
        if all(steps.any() for steps in drawn.values()):
            break
    return roots, drawn


def _released(recording: Recording, folder: Path) -> dict[str, bytes]:
    """Return the released files besides the records, which follow from them, and the events."""
    assert recording.generator is not None
    folder.mkdir()
    write_generator(folder, recording.generator)
    files = {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return files | {"events": json.dumps(events_to_list(recording.entries)).encode()}
