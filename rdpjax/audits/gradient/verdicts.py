"""Findings of the gradient audit: bounds computed from observed canaries, beside the claim."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from rdpjax.audits.bounds import certify, epsilon_of_mu
from rdpjax.audits.findings import Finding
from rdpjax.dpsgd.plan import Plan
from rdpjax.privacy.accountants import pld_epsilon, rdp_epsilon

FAILURE = 0.001
"""Probability that any bound of one audit is wrong."""

LARGE = (1e-3, 1e-1)
"""Further deltas for the claim of a whole run: few canaries certify most at large ones."""


def judge_steps(
    seen: Iterable[tuple[np.ndarray, np.ndarray]], plan: Plan, delta: float
) -> tuple[list[Finding], dict[str, Any], list[str]]:
    """Bound one step from fresh coins at sampling rate 1, and T steps by Gaussian composition.

    The noise is independent across steps, so T steps of mu compose to sqrt(T) mu. This is tested
    as well: the second attack knows the coins of the step before, and subtracts the noise that a
    canary showed in it, which helps only if noise is reused.

    Args:
      seen: observations and coins, `[steps, canaries]` each, chunk by chunk.
      plan: the claimed sampler, noise and steps.
      delta: of the claim.

    Returns:
      The findings, estimates as plain values, and notes for the reader.
    """
    observed, present = (np.concatenate(parts).T for parts in zip(*seen, strict=True))
    attacks = {"observation": (observed, present)}
    if plan.steps > 1:
        pairs = 2 * (plan.steps // 2)
        noise = (observed - present)[:, 0:pairs:2]
        attacks["noise of the step before subtracted"] = (
            observed[:, 1:pairs:2] - noise,
            present[:, 1:pairs:2],
        )
    each = FAILURE / len(attacks)
    root, mu = math.sqrt(plan.steps), 1 / plan.noise_multiplier
    bounds = {k: certify(x[c], x[~c], delta, each) for k, (x, c) in attacks.items()}
    step, whole = epsilon_of_mu(mu, delta), epsilon_of_mu(mu * root, delta)
    findings = []
    for attack, found in bounds.items():
        findings += [
            Finding(
                f"one step, Clopper-Pearson: {attack}",
                step, found.epsilon, found.epsilon_ceiling, delta, 1 - FAILURE,
            ),
            Finding(
                f"{plan.steps} steps, Gaussian DP: {attack}",
                whole, epsilon_of_mu(found.mu * root, delta),
                epsilon_of_mu(found.mu_ceiling * root, delta), delta, 1 - FAILURE,
            ),
        ]  # fmt: skip
    found = bounds["observation"]
    low, high = found.mu * root, found.mu_most * root
    notes = [
        f"mu of {plan.steps} steps: planned {mu * root:.4g}, found between {low:.4g} and "
        f"{high:.4g}; certified {findings[1].measured / whole:.0%} of epsilon {whole:.4g}"
    ]
    if high < mu * root:
        notes.append("More noise than planned, or canaries that are lost: see the stage's loss.")
    facts = {"mu_planned": mu * root, "mu_low": low, "mu_high": high}
    return findings, facts, notes


def judge_run(
    seen: Iterable[tuple[np.ndarray, np.ndarray]], plan: Plan, delta: float
) -> tuple[list[Finding], dict[str, Any], list[str]]:
    """Bound the whole run from one coin a canary, by the likelihood ratio under the plan.

    Arguments and result as of `judge_steps`.
    """
    q, variance = plan.sampling_rate, plan.noise_multiplier**2
    scores, present = np.zeros(1), np.zeros(0, bool)
    for observed, coins in seen:
        ratio = np.logaddexp(math.log1p(-q), math.log(q) + (2 * observed - 1) / (2 * variance))
        scores, present = scores + ratio.sum(axis=0), coins[0]
    event = plan.event("stage", 0, plan.steps)
    deltas = [delta, *(large for large in LARGE if large > delta)]
    findings, mu = [], 0.0
    for at in deltas:
        found = certify(scores[present], scores[~present], at, FAILURE / len(deltas))
        claimed = pld_epsilon([event], at)
        if claimed is None:
            claimed = rdp_epsilon([event], at)[0]
        attack = f"{plan.steps} steps, Clopper-Pearson"
        ceiling = found.epsilon_ceiling
        findings.append(Finding(attack, claimed, found.epsilon, ceiling, at, 1 - FAILURE))
        mu = max(mu, found.mu)
    notes = [
        f"By Gaussian DP, an estimate below sampling rate 1: mu {mu:.4g}, epsilon "
        f"{epsilon_of_mu(mu, delta):.4g} at delta {delta:g}",
        f"At best an audit of {len(present)} canaries certifies epsilon "
        f"{findings[0].ceiling:.3g} at delta {delta:g}: more canaries certify more.",
    ]
    return findings, {"mu_estimate": mu}, notes
