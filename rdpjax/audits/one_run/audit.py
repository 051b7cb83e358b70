"""`audit one-run`: many canaries in one training of the real pipeline.

Steinke, Nasr, Jagielski 2023, Privacy auditing with one (1) training run (arXiv 2305.08846).
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from rdpjax.audits.findings import PRIVATE, Finding, as_table, check_folders, write_findings
from rdpjax.audits.flags import ExperimentFlags
from rdpjax.audits.guessing import ceiling, epsilon_of_guesses, guess
from rdpjax.audits.one_run.counts import scores_of_counts
from rdpjax.audits.one_run.listening import Listener
from rdpjax.audits.one_run.watched import WatchingSession
from rdpjax.audits.picture import draw
from rdpjax.audits.subject import Subject, read_subject
from rdpjax.compute.devices import keep_programs
from rdpjax.config import MARGINALS, Config
from rdpjax.dpsgd.keys import Roots
from rdpjax.errors import UserError
from rdpjax.fitting.fit import fit
from rdpjax.fitting.plans import Plans, make_plans, target_of
from rdpjax.flags import optional
from rdpjax.privacy.accountants import pld_epsilon
from rdpjax.privacy.ledger import Ledger

LEAST = 20
"""Least number of canaries of an audit."""

CONFIDENCES = (0.95, 0.99)
"""Confidence levels reported; the last one decides."""

PARTS = (1.0, 0.2)
"""Shares of the canaries that are guessed for: all, and the fifth with the most extreme scores."""

THROWS = 1000
"""Draws of independent coins from which the null distribution is estimated."""


@dataclass(frozen=True)
class OneRunAudit(ExperimentFlags):
    """Certify a lower bound on epsilon with crafted records in one training of the real pipeline.

    Canaries are appended to the records, each by its own fair coin, and the whole pipeline is
    trained once: measurements and all stages, at the plan's noise. Attackers who see the noisy
    histograms and gradients, and know all records and the canaries, guess which coins are "in":
    from the histograms of the table, from each stage, and from all together. Less noise than
    planned in the histograms shows at once; in a stage alone the sampling of the other records
    hides much of it, and `audit gradient` is the sharper test. A few minutes on two cores.
    """

    path: tyro.conf.Positional[Path]
    """A run folder, a configuration (.toml), or the name of a shipped one; it is trained anew."""

    canaries: int = 1000
    """Number of canaries, 20 or more; not more than there are records."""

    records: int = 2000
    """Largest number of records that the canaries join, chosen at random. The claim holds for any
    number of records; among fewer of them attacks see more, and the audit is faster. Among too few
    the noise on the histograms leaves nothing to train on."""

    epsilon: Annotated[float | None, optional("FLOAT", "the plan's")] = None
    """Claim of the run that is audited, in place of the plan's."""

    def run(self) -> int:
        """Audit and print; exit status 0 where the claim stands, 1 if the 99 % bound exceeds it."""
        check_folders(self.json, self.picture)
        keep_programs()
        began = time.monotonic()
        subject = _audited(self)
        findings, facts = audit_one_run(subject, self)
        facts["seconds"] = round(time.monotonic() - began)
        title = (
            f"{subject.name}: one run, {self.canaries} canaries among {facts['records']} records"
        )
        print(f"{title}\n\n{as_table(findings)}\n\n{_null_text(facts)}\n{PRIVATE}")
        if self.json:
            write_findings(self.json, findings, facts)
        if self.picture:
            draw(findings, title, self.picture)
        decisive = [found for found in findings if found.confidence == CONFIDENCES[-1]]
        return int(any(found.exceeds for found in decisive))


def audit_one_run(subject: Subject, flags: OneRunAudit) -> tuple[list[Finding], dict[str, Any]]:
    """Train once with canaries; return the findings, and the audit's facts.

    Raises:
      UserError: more canaries than records, too few of either, or no canaries for the data set.
    """
    config = subject.config
    random = np.random.default_rng(flags.seed)
    base = _base(subject, flags, random)
    crafted = subject.dataset.crafted(flags.canaries, random)
    coins = random.random(flags.canaries) < 0.5
    ledger = Ledger(target=target_of(config))
    scores = attack(config, subject, subject.dataset.join(base, crafted), coins, ledger, flags)
    claimed = ledger.epsilon(config.delta)
    tries = len(scores) * len(PARTS)

    @functools.cache
    def bound(guesses: int, correct: int, confidence: float) -> float:
        each = (1 - confidence) / tries
        return epsilon_of_guesses(flags.canaries, guesses, correct, config.delta, each)

    def certified(scores: np.ndarray, coins: np.ndarray, confidence: float) -> float:
        counts = [guess(scores, coins, round(part * len(coins))) for part in PARTS]
        return max(bound(found.guesses, found.correct, confidence) for found in counts)

    findings = []
    for confidence in CONFIDENCES:
        most = ceiling(flags.canaries, flags.canaries, config.delta, (1 - confidence) / tries)
        each = {name: certified(score, coins, confidence) for name, score in scores.items()}
        listed = {"best attack": max(each.values())}
        if confidence == CONFIDENCES[-1]:
            listed |= {f"  {name}": value for name, value in each.items()}
        findings += [
            Finding(name, claimed, value, most, config.delta, confidence)
            for name, value in listed.items()
        ]
    null = [
        max(certified(score, other, CONFIDENCES[-1]) for score in scores.values())
        for other in random.random((THROWS, flags.canaries)) < 0.5
    ]
    facts = {
        "audit": "one-run",
        "canaries": flags.canaries,
        "canaries_in": int(coins.sum()),
        "records": len(base),
        "epsilon_pld": pld_epsilon(ledger.events, config.delta),
        "right_guesses": {
            name: [guess(score, coins, round(part * len(coins))).correct for part in PARTS]
            for name, score in scores.items()
        },
        "guesses": [round(part * flags.canaries) for part in PARTS],
        "null_quantiles": {str(at): float(np.quantile(null, at)) for at in (0.5, 0.95, 0.99, 1.0)},
        "null_above_zero": float(np.mean(np.array(null) > 0)),
    }
    return findings, facts


def attack(
    config: Config,
    subject: Subject,
    candidates: Any,
    coins: np.ndarray,
    ledger: Ledger,
    flags: OneRunAudit,
) -> dict[str, np.ndarray]:
    """Train on the candidates whose coin is "in", and score the canaries, the last of them.

    Returns:
      By attack: float64 `[canaries]`, higher meaning "in". A function of what is released and of
      the candidates alone.
    """
    plans = make_plans(config)
    codec = subject.codec
    session = WatchingSession(ledger, Roots.make(flags.seed), codec, candidates, len(coins))
    known = len(candidates) - len(coins)
    present = np.concatenate([np.ones(known, bool), coins])
    listener = Listener({name: plan.steps for name, plan in plans.stages.items()}, flags.quiet)
    with listener:
        try:
            generator = fit(
                config,
                codec,
                subject.dataset.take(candidates, present),
                plans=plans,
                session=session,
                progress=listener,
            )
        except UserError as error:
            raise UserError(f"{error} (among {known} records; --records takes more)") from None
    scores = _weighted(listener.inner, plans)
    if MARGINALS in plans.measurements:
        cells = session.cells
        scores[MARGINALS] = scores_of_counts(
            codec.schema, generator.marginals, cells[:known], cells[known:]
        )
    return {"all together": sum(scores.values(), np.zeros(len(coins))), **scores}


def _weighted(inner: Mapping[str, np.ndarray], plans: Plans) -> dict[str, np.ndarray]:
    """Sum inner products over the steps, weighted to log odds under the plan."""
    return {
        name: plans.stages[name].sampling_rate / plans.stages[name].noise_multiplier ** 2 * summed
        for name, summed in inner.items()
    }


def _audited(flags: OneRunAudit) -> Subject:
    subject = read_subject(flags.path, flags.data)
    if flags.epsilon is None:
        return subject
    if subject.config.epsilons:
        raise UserError(
            f"--epsilon: {flags.path} gives each stage its own epsilon; change them there"
        )
    config = dataclasses.replace(subject.config, epsilon=flags.epsilon)
    return dataclasses.replace(subject, config=config)


def _base(subject: Subject, flags: OneRunAudit, random: np.random.Generator) -> Any:
    records = subject.records
    count = min(flags.records, len(records))
    if flags.canaries < LEAST:
        raise UserError(f"--canaries is {flags.canaries}; at least {LEAST} are needed")
    if flags.canaries > count:
        raise UserError(
            f"--canaries is {flags.canaries}, more than the {count} records; take fewer canaries, "
            "or raise --records"
        )
    chosen = np.zeros(len(records), bool)
    chosen[random.choice(len(records), count, replace=False)] = True
    return subject.dataset.take(records, chosen)


def _null_text(facts: Mapping[str, Any]) -> str:
    quantiles = facts["null_quantiles"]
    return (
        f"Null distribution of the best attack at 99 %, {THROWS} throws of other coins: median "
        f"{quantiles['0.5']:.3f}, 95 % {quantiles['0.95']:.3f}, 99 % {quantiles['0.99']:.3f}, most "
        f"{quantiles['1.0']:.3f}; above 0 in {facts['null_above_zero']:.1%}."
    )
