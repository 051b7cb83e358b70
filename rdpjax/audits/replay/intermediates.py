"""Compare recordings: mechanism outputs within their sensitivity, all else bit for bit.

A float32 sum rounds differently with one more term: `SLACK` times float32's spacing of the largest
possible sum is allowed. The engine clips a ten-thousandth below C.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rdpjax.audits.replay.comparisons import Comparison, differing
from rdpjax.audits.replay.neighbours import Neighbourhood
from rdpjax.audits.replay.recording import Recording
from rdpjax.dpsgd.keys import Roots, step_keys
from rdpjax.dpsgd.plan import Plan
from rdpjax.dpsgd.sampling import draw
from rdpjax.fitting.plans import Plans
from rdpjax.privacy.events import Event, merge

SLACK = 4.0
BAND = 6.0
"""Standard deviations allowed for random quantities, though they are equal in every replay."""

_quietly = np.errstate(invalid="ignore", over="ignore")  # NaN and infinity break every bound

PRIVATE = {"loss", "clipped", "drawn"}
"""Metrics of the batch: computed from records without noise, they stay in `internal/`."""


def masks(plan: Plan, name: str, roots: Roots, records: int) -> np.ndarray:
    """Compute the Poisson draw of each step, bool `[steps, records]`."""
    keys = step_keys(roots, name, 0, plan.steps).sampling
    each = jax.jit(jax.vmap(lambda key, i, turn: draw(key, records, plan.threshold, i, turn)))
    found, first = np.zeros((plan.steps, records + 1), bool), jnp.zeros(plan.steps, jnp.uint32)
    for turn in itertools.count():
        undecided = np.asarray(first) < records
        if not undecided.any():
            return found[:, :records]
        drawn = each(keys, first, jnp.full(plan.steps, turn))
        found[np.flatnonzero(undecided)[:, None], np.asarray(drawn.indices)[undecided]] = True
        first = jnp.where(undecided, drawn.following, first)
    raise AssertionError("unreachable")


@_quietly
def measurements(
    base: Recording, others: Mapping[str, Recording], events: Mapping[str, Event]
) -> list[Comparison]:
    """Compare how far one record moves each measurement, in L2 norm, with the sensitivity."""
    found = []
    for name, answer in base.answers.items():
        moved = [float(np.linalg.norm(other.answers[name] - answer)) for other in others.values()]
        found.append(
            Comparison(
                "sum, moved", name, events[name].clip_norm, max(moved, key=_nan_first), len(moved)
            )
        )
    return found


@_quietly
def sums(
    base: Recording,
    others: Iterable[Recording],
    plans: Plans,
    records: int,
    expected: float,
    which: Mapping[str, np.ndarray] | None = None,
) -> list[Comparison]:
    """Compare how far one record moves the clipped sum of each step, in L2 norm, with C.

    Both fits have the same noise, which cancels in the difference of the noisy gradients.

    Args:
      base: recording of the fit without the record.
      others: recordings with it, in the same states.
      plans: plans of both.
      records: number of records.
      expected: number of records that the pipeline uses.
      which: bool `[steps]` by stage, the steps in which the record is drawn, by default all; in the
        others not a bit may differ.
    """
    found = []
    for name, plan in plans.stages.items():
        clip, divisor = plan.event(name, 0, 1).clip_norm, plan.sampling_rate * expected
        drawn = np.ones(plan.steps, bool) if which is None else which[name]
        moved, same, times = 0.0, 0, 0
        for other in others:
            a, b = (r.gradients[name].astype(np.float64) for r in (base, other))
            norms = np.linalg.norm((b - a) * divisor, axis=1)
            moved = max([moved, *norms[drawn]], key=_nan_first)
            same += differing(base.gradients[name][~drawn], other.gradients[name][~drawn])
            times += int(drawn.sum())
        largest = records * clip * (1 if which is None else plan.sampling_rate)
        size = np.linalg.norm(base.gradients[name].astype(np.float64), axis=1).max() * divisor
        slack = SLACK * float(np.finfo(np.float32).eps) * (largest + size)
        what = "clipped sum, moved" if which is None else "clipped sum, moved where drawn"
        found.append(Comparison(what, name, clip + slack, moved, times))
        if which is not None:
            what = "noisy gradient where not drawn"
            found.append(Comparison(what, name, 0, same, int((~drawn).sum())))
    return found


def rates(recordings: Mapping[int, Recording], events: Mapping[str, Event]) -> list[Comparison]:
    """Compare the number of drawn records with the claimed rate, in standard deviations.

    Args:
      recordings: by the number of records.
      events: the claim.
    """
    found = []
    for name in next(iter(recordings.values())).gradients:
        rate, off, times = events[name].sampling_rate, 0.0, 0
        for records, recording in recordings.items():
            sizes = recording.metrics[name]["drawn"].astype(float)
            trials = records * len(sizes)
            spread = math.sqrt(max(trials * rate * (1 - rate), 1e-9))
            off, times = max(off, abs(sizes.sum() - trials * rate) / spread), times + len(sizes)
        found.append(
            Comparison("size of the draws, off the claim in deviations", name, BAND, off, times)
        )
    return found


def draws(recordings: Mapping[int, Recording], plans: Plans, roots: Roots) -> list[Comparison]:
    """Count steps whose draw differs in size from the sampler's; keyed by the number of records."""
    found = []
    for name, plan in plans.stages.items():
        wrong = 0
        for records, recording in recordings.items():
            sizes = masks(plan, name, roots, records).sum(axis=1)
            wrong += int((recording.metrics[name]["drawn"] != sizes).sum())
        steps = plan.steps * len(recordings)
        found.append(Comparison("size of the draw, not the sampler's", name, 0, wrong, steps))
    return found


def post_processing(base: Recording, others: Iterable[Recording]) -> list[Comparison]:
    """Compare what must be equal given equal answers: contexts, states, metrics of updates."""
    others = list(others)
    found = []
    for name, (state, context) in base.states.items():
        seen = {"context": 0, "state": 0, "metric": 0}
        for other in others:
            its_state, its_context = other.states[name]
            seen["context"] += differing(_arrays(context), _arrays(its_context))
            seen["state"] += differing(state, its_state)
            mine, its = (
                {k: v for k, v in r.metrics[name].items() if k not in PRIVATE}
                for r in (base, other)
            )
            seen["metric"] += differing(mine, its)
        found.append(
            Comparison(
                "inputs of a stage, numbers that differ", name, 0, seen["context"], len(others)
            )
        )
        found.append(
            Comparison("last state, numbers that differ", name, 0, seen["state"], len(others))
        )
        if set(base.metrics[name]) - PRIVATE:
            found.append(
                Comparison("update's metrics that differ", name, 0, seen["metric"], len(others))
            )
    return found


def _arrays(context: Any) -> Any:
    tokenizer = context.tokenizer
    shares = [context.label_share, *tokenizer.marginals.shares, tokenizer.marginals.records]
    return [context.prior, context.features, shares, list(tokenizer.groups), context.artefacts]


def codes(base: Recording, hood: Neighbourhood) -> Comparison:
    """Compare codes of the records that stay, under the same answers."""
    assert base.generator is not None
    tokenizer, encoding = base.generator.context.tokenizer, base.generator.encoding

    def of(table: Any) -> np.ndarray:
        return tokenizer.encode(encoding.cells(table))

    reference = of(hood.base)
    wrong = sum(differing(of(table)[:-1], reference) for table in hood.added.values())
    wrong += differing(of(hood.removed), np.delete(reference, hood.place, axis=0))
    return Comparison("tokens of the others that differ", "codec", 0, wrong, len(hood.added) + 1)


def files(one: Mapping[str, bytes], other: Mapping[str, bytes]) -> Comparison:
    """Count released files, by name, whose bytes differ."""
    wrong = sum(one.get(name) != other.get(name) for name in one.keys() | other.keys())
    return Comparison("released files that differ", "release", 0, wrong, len(one))


def ledgers(recordings: Sequence[Recording], planned: Sequence[Event]) -> Comparison:
    """Count events that differ between the plan and a ledger."""
    wrong = 0
    for recording in recordings:
        entered = list(merge(recording.entries))
        wrong += sum(e not in planned for e in entered) + sum(e not in entered for e in planned)
    return Comparison("events that are not the plan's", "ledger", 0, wrong, len(recordings))


def resumption(whole: Recording, resumed: Recording) -> list[Comparison]:
    """Compare an interrupted fit with an uninterrupted one: the same bits, and the same entries."""
    wrong = sum(
        differing(state, resumed.states[name][0]) for name, (state, _) in whole.states.items()
    )
    entries = 0 if whole.entries == resumed.entries else 1
    return [
        Comparison("last states after resumption that differ", "every stage", 0, wrong),
        Comparison("entries after resumption that differ", "ledger", 0, entries),
    ]


def _nan_first(value: float) -> float:
    """Sort key that makes NaN the largest value, so that it breaks every bound."""
    return math.inf if math.isnan(value) else value
