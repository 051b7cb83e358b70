"""Gradient canaries: what they show of the real engine, and that they notice when it is broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdpjax.audits.gradient.audit import Audited, GradientAudit, audit_gradient
from rdpjax.audits.gradient.canaries import Coins, extended, observe, with_canaries
from rdpjax.config import Config
from rdpjax.data.cardio import CARDIO
from rdpjax.data.tokenizer import Marginals
from rdpjax.dpsgd import keys, loop
from rdpjax.dpsgd.execution import Clipping, Execution
from rdpjax.dpsgd.plan import Plan
from rdpjax.errors import UserError
from rdpjax.fitting.generator import make_context

Patch = pytest.MonkeyPatch
FULL = {"noise_multiplier": 1.0, "sampling_rate": 1.0, "steps": 100}
TRUE = 91.817
"""Epsilon at delta 1e-5 of 100 Gaussian steps at sigma 1."""


@pytest.fixture
def audited(toy_config: Config, small_data: Path, tmp_path: Path) -> Callable[..., Audited]:
    """`audited(**flags)`: an audit of a toy stage on cardio, quiet."""
    path = tmp_path / "toy.toml"
    path.write_text(toy_config.to_toml())

    def audited(**flags: Any) -> Audited:
        settings = {"records": 40, "quiet": True, **flags}
        return audit_gradient(GradientAudit(path, data=small_data, **settings))

    return audited


def toy_training(config: Config) -> tuple[Any, np.ndarray]:
    context = make_context(config, CARDIO, Marginals.uniform(CARDIO, 50.0), {})
    random = np.random.default_rng(0)
    codes = np.stack([random.integers(0, w, 30) for w in context.tokenizer.widths], axis=1)
    return config.stages["vae"].training(context), codes.astype(np.uint8)


def seen(
    config: Config, plan: Plan, coins: Coins, clipping: Clipping = "ghost"
) -> tuple[np.ndarray, np.ndarray]:
    training, codes = toy_training(config)
    parts = observe(plan, Execution(clipping), training, codes, coins, keys.Roots.make(3))
    observed, present = (np.concatenate(part) for part in zip(*parts, strict=True))
    return observed, present


RAW = np.array([4, 5], np.uint32)


@pytest.mark.parametrize("clipping", ["ghost", pytest.param("vmap", marks=pytest.mark.slow)])
def test_without_noise_a_canary_shows_itself_alone(toy_config: Config, clipping: Clipping) -> None:
    plan = Plan.at_rate(1.0, noise_multiplier=1e-7, clip_norm=3.0, steps=7)
    observed, present = seen(toy_config, plan, Coins(RAW, 90, fresh=True), clipping)
    assert observed.shape == (7, 90)
    np.testing.assert_allclose(observed, present * (1 - 1e-4), atol=1e-5)


def test_coins_are_fair_and_fresh_or_kept() -> None:
    thrown = jax.vmap(Coins(RAW, 4000, fresh=True).at)(jnp.arange(5))
    assert np.abs(np.asarray(thrown).mean(axis=1) - 0.5).max() < 5 / np.sqrt(4 * 4000)
    assert np.abs(np.corrcoef(thrown) - np.eye(5)).max() < 5 / np.sqrt(4000)
    kept = np.asarray(jax.vmap(Coins(RAW, 50, fresh=False).at)(jnp.arange(5)))
    assert (kept == kept[0]).all()
    assert 10 < kept[0].sum() < 40


def test_observations_have_the_planned_law(toy_config: Config) -> None:
    plan = Plan.at_rate(0.25, noise_multiplier=0.5, clip_norm=3.0, steps=60)
    observed, present = seen(toy_config, plan, Coins(RAW, 400, fresh=False))
    out, into = observed[~present], observed[present]
    assert abs(out.std() / 0.5 - 1) < 5 / np.sqrt(2 * out.size)
    assert abs(out.mean()) < 5 * 0.5 / np.sqrt(out.size)
    assert abs(into.mean() - 0.25) < 5 * np.sqrt(0.25 + 0.25 * 0.75) / np.sqrt(into.size)
    assert np.abs(np.corrcoef(observed) - np.eye(60)).max() < 5.5 / np.sqrt(400)


def test_canaries_change_nothing_for_the_records(toy_config: Config) -> None:
    training, codes = toy_training(toy_config)
    plan = Plan.at_rate(1.0, noise_multiplier=1.0, clip_norm=1.0, steps=1)
    state = training.init(jax.random.key(0))
    step = jax.tree.map(lambda column: column[0], keys.step_keys(keys.Roots.make(1), "x", 0, 1))
    params, loss = training.objective(state)
    alone, _ = loop.drawn_sum(plan, Execution(), loss, params, jnp.asarray(codes), step)
    watched = extended(training, Coins(RAW, 90, fresh=True), 1.0)
    params, loss = watched.objective(watched.init(jax.random.key(0)))
    records = with_canaries(codes, 90)
    both, _ = loop.drawn_sum(plan, Execution(), loss, params, records, step)
    for ours, theirs in zip(
        *map(jax.tree.leaves, (both.gradient["stage"], alone.gradient)), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 5))]
)
def test_it_certifies_most_of_the_truth_and_never_more(
    audited: Callable[..., Audited], seed: int
) -> None:
    found = audited(**FULL, seed=seed)
    step, whole, *_ = found.findings
    assert whole.claimed == pytest.approx(TRUE, abs=1e-3)
    assert 0.8 * TRUE <= whole.measured <= TRUE
    assert step.claimed == pytest.approx(4.3772, abs=1e-4)
    assert 1 < step.measured <= step.claimed
    assert found.facts["mu_low"] <= 10 <= found.facts["mu_high"]
    assert not any(each.exceeds for each in found.findings)
    assert all(each.measured <= each.ceiling for each in found.findings)


def sigma_halved(patch: Patch) -> None:
    true = loop.add_gaussian
    patch.setattr(loop, "add_gaussian", lambda key, tree, sd, *at: true(key, tree, sd / 2, *at))


def noise_off(patch: Patch) -> None:
    patch.setattr(loop, "add_gaussian", lambda key, tree, *rest: tree)


def clip_doubled(patch: Patch) -> None:
    true = Execution.clipped_sum
    patch.setattr(Execution, "clipped_sum", lambda *args: true(*args[:-1], args[-1] * 2))


def clip_off(patch: Patch) -> None:
    true = Execution.clipped_sum
    patch.setattr(Execution, "clipped_sum", lambda *args: true(*args[:-1], 1e30))


def same_noise_every_step(patch: Patch) -> None:
    true = loop.add_gaussian
    patch.setattr(
        loop, "add_gaussian", lambda key, tree, sd, *at: true(jnp.zeros_like(key), tree, sd, *at)
    )


SABOTAGE = (sigma_halved, noise_off, clip_doubled, clip_off, same_noise_every_step)


@pytest.mark.parametrize(
    "sabotage",
    [
        pytest.param(f, marks=[] if f in (noise_off, clip_off) else [pytest.mark.slow])
        for f in SABOTAGE
    ],
    ids=lambda f: f.__name__,
)
def test_sabotage_exceeds_the_claim(
    audited: Callable[..., Audited], sabotage: Callable[[Patch], None], monkeypatch: Patch
) -> None:
    sabotage(monkeypatch)
    found = audited(**FULL | {"steps": 20}, canaries=400, seed=1)
    assert any(each.exceeds for each in found.findings)


def test_too_much_noise_is_no_breach_but_is_said(
    audited: Callable[..., Audited], monkeypatch: Patch
) -> None:
    true = loop.add_gaussian
    monkeypatch.setattr(
        loop, "add_gaussian", lambda key, tree, sd, *at: true(key, tree, 3 * sd, *at)
    )
    found = audited(**FULL | {"steps": 20}, canaries=400, seed=1)
    assert not any(each.exceeds for each in found.findings)
    assert "More noise than planned" in found.to_text()


def test_a_sampled_plan_is_attacked_as_a_whole(audited: Callable[..., Audited]) -> None:
    flags = {"noise_multiplier": 1.0, "sampling_rate": 0.1, "steps": 100, "canaries": 2000}
    found = audited(**flags, seed=1)
    claim = found.findings[0]
    assert [each.delta for each in found.findings] == [1e-5, 1e-3, 1e-1]
    assert 0 < claim.measured < claim.claimed
    assert claim.measured < claim.ceiling == pytest.approx(4.02, abs=0.1)
    assert not any(each.exceeds for each in found.findings)
    assert "At best" in found.to_text()


@pytest.mark.slow
@pytest.mark.parametrize("sabotage", [sigma_halved, noise_off], ids=lambda f: f.__name__)
def test_sabotage_of_a_sampled_plan_exceeds_the_claim(
    audited: Callable[..., Audited], sabotage: Callable[[Patch], None], monkeypatch: Patch
) -> None:
    sabotage(monkeypatch)
    flags = {"noise_multiplier": 1.0, "sampling_rate": 0.1, "steps": 50, "canaries": 4000}
    assert any(each.exceeds for each in audited(**flags, seed=1).findings)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_audit(audited: Callable[..., Audited]) -> None:
    flags = FULL | {"steps": 4, "canaries": 80}
    one, same, other = (audited(**flags, seed=seed).facts for seed in (1, 1, 2))
    assert one == same != other


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ({"stage": "vea"}, "no stage 'vea'; did you mean 'vae'"),
        ({"canaries": 79}, "at least 80"),
        ({"records": 0}, "--records is 0"),
        ({"sampling_rate": 1.5}, "must lie in"),
        ({"noise_multiplier": 0.0}, "must be positive"),
        ({"steps": 0}, "steps must be 1 or more"),
    ],
)
def test_mistakes_are_told(
    audited: Callable[..., Audited], flags: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint):
        audited(**flags)


def test_run_prints_and_writes(
    toy_config: Config, small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "toy.toml"
    path.write_text(toy_config.to_toml())
    audit = GradientAudit(
        path, **FULL | {"steps": 1}, stage="labeler", canaries=200, data=small_data, records=5,
        seed=3, json=tmp_path / "a.json", picture=tmp_path / "a.png", quiet=True,
    )  # fmt: skip
    assert audit.run() == 0
    assert "do not publish" in capsys.readouterr().out
    values = json.loads((tmp_path / "a.json").read_text())
    assert values["stage"] == "labeler"
    assert len(values["findings"]) == 2  # with one step there is none before it
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["vae", "gan", "labeler"])
def test_real_stages_of_cardio(small_data: Path, stage: str) -> None:
    flags = GradientAudit(
        Path("cardio.toml"), stage=stage, **FULL, data=small_data, seed=1, quiet=True
    )
    found = audit_gradient(flags)
    assert 0.8 * TRUE <= found.findings[1].measured <= TRUE
    assert not any(each.exceeds for each in found.findings)
