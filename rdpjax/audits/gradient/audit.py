"""`audit gradient`: canaries in the gradient of every step of a real stage.

Nasr et al. 2023, Tight auditing of differentially private machine learning (arXiv 2302.07956).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import numpy as np

from rdpjax.audits.findings import PRIVATE, Finding, as_table, check_folders, write_findings
from rdpjax.audits.flags import ExperimentFlags
from rdpjax.audits.gradient.canaries import Coins, extended, observe
from rdpjax.audits.gradient.verdicts import judge_run, judge_steps
from rdpjax.audits.picture import draw
from rdpjax.audits.subject import Subject, read_subject
from rdpjax.compute.devices import keep_programs
from rdpjax.data.tokenizer import Marginals
from rdpjax.dpsgd.execution import Execution, default_clipping, default_microbatch
from rdpjax.dpsgd.keys import Roots
from rdpjax.dpsgd.plan import Plan
from rdpjax.errors import UserError, nearest
from rdpjax.fitting.generator import make_context
from rdpjax.fitting.plans import make_plans
from rdpjax.flags import optional
from rdpjax.mechanisms.measurement import Answer
from rdpjax.privacy.accountants import rdp_epsilon
from rdpjax.stages.stage import Artefact, Training

LEAST = 80
"""Least number of canaries of an audit."""

FULL, SAMPLED = 1_000, 10_000
"""Default number of canaries, at sampling rate 1 and below 1."""


@dataclass(frozen=True)
class GradientAudit(ExperimentFlags):
    """Certify a lower bound on epsilon with canaries in the gradient of every step of a stage.

    Canaries are crafted records whose clipped gradients are orthogonal to each other and to all
    records. The stage is trained with the real sampler, clipping and noise, from its initial state
    and those of the stages before it. At sampling rate 1 every canary is in or out by a fair coin
    in every step, and the lower bound of one step is composed over the steps. Below 1 it is in or
    out for the whole run, and the whole run is attacked.
    """

    stage: Annotated[str | None, optional("NAME", "the first")] = None
    """Stage to audit."""

    noise_multiplier: Annotated[float | None, optional("FLOAT", "the plan's")] = None
    """Noise multiplier in place of the plan's."""

    sampling_rate: Annotated[float | None, optional("FLOAT", "the plan's")] = None
    """Sampling rate in place of the plan's, in (0, 1]."""

    steps: Annotated[int | None, optional("INT", "the plan's")] = None
    """Number of steps in place of the plan's."""

    canaries: Annotated[
        int | None, optional("INT", f"{FULL} at sampling rate 1, else {SAMPLED}")
    ] = None
    """Number of canaries, 80 or more."""

    records: int = 256
    """Real records that are trained on beside the canaries; they do not affect the result."""

    def run(self) -> int:
        """Audit and print; exit status 0 where the claim stands, 1 where a bound exceeds it."""
        check_folders(self.json, self.picture)
        keep_programs()
        audited = audit_gradient(self)
        print(audited.to_text())
        if self.json:
            write_findings(self.json, audited.findings, audited.facts)
        if self.picture:
            draw(audited.findings, audited.title, self.picture)
        return int(any(found.exceeds for found in audited.findings))


@dataclass(frozen=True)
class Audited:
    """Outcome of an audit.

    Attributes:
      title: the subject of the audit.
      findings: lower bounds beside the claim.
      facts: settings and estimates, as plain values.
      notes: further lines for the reader.
    """

    title: str
    findings: list[Finding]
    facts: dict[str, Any]
    notes: list[str]

    def to_text(self) -> str:
        return "\n".join([self.title, "", as_table(self.findings), "", *self.notes, PRIVATE])


def audit_gradient(flags: GradientAudit) -> Audited:
    """Train the stage with canaries, and bound what an attacker learns from its noisy gradients.

    Raises:
      UserError: no such stage, plan or records, or too few canaries.
    """
    subject = read_subject(flags.path, flags.data)
    name = flags.stage or next(iter(subject.config.stages))
    if name not in subject.config.stages:
        known = list(subject.config.stages)
        raise UserError(f"--stage: no stage {name!r}{nearest(name, known)}; {', '.join(known)}")
    plan = _plan(flags, subject, name)
    count = flags.canaries
    if count is None:
        count = FULL if plan.sampling_rate == 1 else SAMPLED
    if count < LEAST:
        raise UserError(f"--canaries is {count}; at least {LEAST} are needed")
    if flags.records < 1:
        raise UserError(f"--records is {flags.records}; it must be 1 or more")
    thrown = np.random.default_rng(flags.seed).integers(0, 2**32, 2, dtype=np.uint32)
    coins = Coins(thrown, count, fresh=plan.sampling_rate == 1)
    training, codes = _prepared(subject, name, plan, flags.records)
    expected = plan.sampling_rate * (len(codes) + count)
    execution = _execution(subject, training, coins, plan, codes, expected)
    roots = Roots.make(flags.seed)
    seen = _followed(
        observe(plan, execution, training, codes, coins, roots), plan.steps, flags.quiet
    )
    delta = subject.config.delta
    event = plan.event(name, 0, plan.steps)
    setting = (
        f"sigma {plan.noise_multiplier:g}, q {plan.sampling_rate:.4g}, C {plan.clip_norm:g}, "
        f"{plan.steps} steps"
    )
    facts: dict[str, Any] = {
        "audit": "gradient",
        "stage": name,
        **event.to_dict(),
        "canaries": count,
        "clipping": execution.clipping,
        "epsilon_rdp": rdp_epsilon([event], delta)[0],
    }
    judged = judge_steps if coins.fresh else judge_run
    findings, more, notes = judged(seen, plan, delta)
    title = f"{subject.name}: stage {name}, {setting}, {count} canaries"
    return Audited(title, findings, facts | more, notes)


def _plan(flags: GradientAudit, subject: Subject, name: str) -> Plan:
    planned = make_plans(subject.config).stages[name]
    rate, noise, steps = flags.sampling_rate, flags.noise_multiplier, flags.steps
    return Plan.at_rate(
        planned.sampling_rate if rate is None else rate,
        noise_multiplier=planned.noise_multiplier if noise is None else noise,
        clip_norm=planned.clip_norm,
        steps=planned.steps if steps is None else steps,
        discrete=planned.discrete,
    )


def _prepared(subject: Subject, name: str, plan: Plan, records: int) -> tuple[Training, np.ndarray]:
    """Build the stage's training, and codes of the first records, by noiseless measurements."""
    config, codec = subject.config, subject.codec
    some = subject.dataset.take(subject.records, np.arange(len(subject.records)) < records)
    # Nothing of this is released, so the measurements are taken without noise.
    answers: dict[str, Answer] = {}
    for measurement in codec.measurements:
        answers[measurement.name] = Answer(measurement.vector(some, answers), 0.0)
    cells = codec.fit(answers).cells(some)
    stages = dict(config.stages)
    stages[name] = dataclasses.replace(stages[name], steps=plan.steps)
    config = dataclasses.replace(config, stages=stages)
    artefacts: dict[str, Artefact] = {}
    marginals = Marginals.uniform(codec.schema, float(max(len(some), 1)))
    context = make_context(config, codec.schema, marginals, artefacts)
    for earlier, stage in config.stages.items():
        training = stage.training(context)
        if earlier == name:
            break
        artefacts[earlier] = training.release(training.init(jax.random.key(0)))
    return training, context.tokenizer.encode(cells)


def _execution(
    subject: Subject,
    training: Training,
    coins: Coins,
    plan: Plan,
    codes: np.ndarray,
    expected: float,
) -> Execution:
    config = subject.config
    clipping: Any = config.clipping
    if plan.discrete:
        clipping = "lattice"
    elif clipping == "auto":
        watched = extended(training, coins, plan.clip_norm)
        params, loss = watched.objective(watched.init(jax.random.key(0)))
        example = {
            "codes": jax.ShapeDtypeStruct(codes.shape[1:], codes.dtype),
            "canary": jax.ShapeDtypeStruct((), np.int32),
        }
        clipping, _ = default_clipping(loss, params, example, jax.random.key(0))
    return Execution(
        clipping=clipping,
        precision=config.precision,
        microbatch=config.microbatch or default_microbatch(jax.default_backend(), expected),
    )


def _followed(
    seen: Iterator[tuple[np.ndarray, np.ndarray]], steps: int, quiet: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield `seen` unchanged, with a progress bar on stderr."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), disable=quiet) as bars:
        bar = bars.add_task("steps", total=steps)
        for observed, coins in seen:
            bars.advance(bar, len(observed))
            yield observed, coins
