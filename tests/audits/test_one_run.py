"""One training with many canaries: the private run stands, and one without noise does not."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdpjax.audits.findings import Finding
from rdpjax.audits.one_run.audit import OneRunAudit, _audited, audit_one_run
from rdpjax.audits.one_run.watched import WatchingSession, watched
from rdpjax.codecs.table import TableCodec
from rdpjax.config import Config
from rdpjax.data.cardio import CARDIO
from rdpjax.data.crafted import table_canaries
from rdpjax.data.tokenizer import Marginals, encode_cells
from rdpjax.dpsgd import loop
from rdpjax.dpsgd.execution import Execution
from rdpjax.dpsgd.keys import Roots, step_keys
from rdpjax.dpsgd.plan import Plan
from rdpjax.errors import UserError
from rdpjax.fitting.fit import fit
from rdpjax.fitting.generator import make_context
from rdpjax.fitting.plans import make_plans
from rdpjax.fitting.session import Session
from rdpjax.mechanisms import measurement
from rdpjax.privacy.ledger import Ledger

Patch = pytest.MonkeyPatch


@pytest.fixture
def flags(toy_config: Config, small_data: Path, tmp_path: Path) -> Callable[..., OneRunAudit]:
    """`flags(...)`: an audit of the toy stages on cardio at epsilon 1."""
    path = tmp_path / "toy.toml"
    path.write_text(toy_config.to_toml())

    def flags(**given: Any) -> OneRunAudit:
        settings = {"records": 1200, "epsilon": 1.0, "quiet": True, "data": small_data, **given}
        return OneRunAudit(path, **settings)

    return flags


def audited(flags: OneRunAudit) -> tuple[dict[str, Finding], dict[str, Any]]:
    """What each attack found at 99 %, and the facts."""
    findings, facts = audit_one_run(_audited(flags), flags)
    return {f.attack.strip(): f for f in findings if f.confidence == 0.99}, facts


def noise_off(patch: Patch) -> None:
    patch.setattr(loop, "add_gaussian", lambda key, tree, *rest: tree)
    measurements_noise_off(patch)


def measurements_noise_off(patch: Patch) -> None:
    def exact(sums: np.ndarray, event: Any, key: bytes) -> tuple[np.ndarray, float]:
        return np.asarray(sums, float), event.noise_multiplier * event.clip_norm

    patch.setattr(measurement, "noisy", exact)


FEW = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 5))]


@pytest.mark.parametrize("seed", FEW)
def test_a_private_run_stays_within_its_claim(flags: Callable[..., OneRunAudit], seed: int) -> None:
    found, facts = audited(flags(seed=seed))
    best = found["best attack"]
    assert 0.999 < best.claimed <= 1
    assert best.measured <= 1
    assert not any(each.exceeds for each in found.values())
    assert best.ceiling == pytest.approx(4.4, abs=0.2)
    assert found.keys() == {"best attack", "all together", "vae", "labeler", "marginals"}
    assert facts["null_quantiles"]["0.5"] == 0
    assert facts["null_above_zero"] < 0.05
    assert 400 < facts["canaries_in"] < 600


@pytest.mark.slow  # once quick, as a command: test_run_prints_writes_and_judges
@pytest.mark.parametrize("seed", range(5))
def test_without_noise_the_claim_is_exceeded(
    flags: Callable[..., OneRunAudit], seed: int, monkeypatch: Patch
) -> None:
    noise_off(monkeypatch)
    found, _ = audited(flags(seed=seed))
    assert found["best attack"].exceeds
    assert 1 < found["best attack"].measured <= found["best attack"].ceiling


@pytest.mark.slow
def test_without_noise_on_the_histograms_alone_it_is_they_that_tell(
    flags: Callable[..., OneRunAudit], monkeypatch: Patch
) -> None:
    measurements_noise_off(monkeypatch)
    found, _ = audited(flags(seed=1))
    assert found["marginals"].exceeds
    assert not found["vae"].exceeds


def test_run_prints_writes_and_judges(
    flags: Callable[..., OneRunAudit],
    tmp_path: Path,
    monkeypatch: Patch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    noise_off(monkeypatch)
    files = {"json": tmp_path / "a.json", "picture": tmp_path / "a.svg"}
    assert flags(seed=1, **files).run() == 1
    told = capsys.readouterr().out
    assert "EXCEEDED" in told
    assert "do not publish" in told
    values = json.loads(files["json"].read_text())
    assert values["canaries"] == 1000
    assert {each["confidence"] for each in values["findings"]} == {0.95, 0.99}
    assert "<svg" in files["picture"].read_text()


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"canaries": 1300}, "canaries is 1300, more than the 1200 records"),
        ({"canaries": 3001, "records": 10_000}, "more than the 3000 records"),
        ({"canaries": 5}, "at least 20"),
        ({"epsilon": -1.0}, "epsilon is -1"),
        ({"canaries": 20, "records": 20}, "too few records .* --records takes more"),
    ],
)
def test_mistakes_are_told(
    flags: Callable[..., OneRunAudit], given: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint):
        audited(flags(**given))


def test_a_plan_without_noise_is_refused(
    toy_config: Config, small_data: Path, tmp_path: Path
) -> None:
    path = tmp_path / "bare.toml"
    path.write_text(dataclasses.replace(toy_config, private=False).to_toml())
    with pytest.raises(UserError, match="without noise"):
        _audited(OneRunAudit(path, data=small_data))


def test_epsilon_of_a_plan_by_stages_is_not_overridden(
    toy_config: Config, small_data: Path, tmp_path: Path
) -> None:
    path = tmp_path / "stages.toml"
    alone = {"marginals": 1.0, "vae": 1.0, "labeler": 1.0}
    path.write_text(
        dataclasses.replace(toy_config, epsilon=None, shares={}, epsilons=alone).to_toml()
    )
    with pytest.raises(UserError, match="gives each stage its own epsilon"):
        _audited(OneRunAudit(path, data=small_data, epsilon=1.0))


@pytest.mark.slow
def test_watching_changes_nothing_that_is_trained(toy_config: Config) -> None:
    """Same keys, same records: the same marginals and parameters."""
    records = table_canaries(CARDIO, 900, np.random.default_rng(0))
    codec, plans, roots = TableCodec(CARDIO), make_plans(toy_config), Roots.make(5)
    bare, seen = (
        fit(toy_config, codec, records, plans=plans, session=session)
        for session in (
            Session(Ledger(), roots),
            WatchingSession(Ledger(), roots, codec, records, 100),
        )
    )
    for own, same in zip(bare.marginals.shares, seen.marginals.shares, strict=True):
        np.testing.assert_array_equal(own, same)
    pairs = zip(jax.tree.leaves(bare.artefacts), jax.tree.leaves(seen.artefacts), strict=True)
    for own, same in pairs:
        np.testing.assert_allclose(own, same, rtol=1e-5, atol=1e-6)


def test_the_score_is_the_inner_product_with_the_own_gradient(toy_config: Config) -> None:
    """Without noise, and everyone drawn: (b - 1/2) of every canary along each other's gradient."""
    cells = encode_cells(CARDIO, table_canaries(CARDIO, 60, np.random.default_rng(0)))
    coins = np.random.default_rng(1).random(20) < 0.5
    plan = Plan.at_rate(1.0, noise_multiplier=1e-6, clip_norm=1.0, steps=1)
    context = make_context(toy_config, CARDIO, Marginals.uniform(CARDIO, 60.0), {})
    tokens = context.tokenizer.encode(cells)
    training = watched(Still().training(context), plan, context, tokens, 20)
    present = np.concatenate([np.ones(40, bool), coins])
    codes = jnp.asarray(tokens)
    chunk = loop.make_chunk(plan, Execution(), training.objective, training.update)
    state = training.init(jax.random.key(0))
    _, told = chunk(state, codes[present], step_keys(Roots.make(1), "x", 0, 1), jnp.float32(60))
    params, loss = training.objective(training.init(jax.random.key(0)))
    rows = jax.vmap(jax.grad(loss), (None, 0, None))(params, codes[40:], jax.random.key(0))
    rows = np.asarray(rows, np.float64).reshape(20, -1)
    rows *= np.minimum(1, 1 / np.linalg.norm(rows, axis=1, keepdims=True))
    np.testing.assert_allclose(told["square"][0], (rows**2).sum(axis=1), rtol=1e-3)
    np.testing.assert_allclose(told["inner"][0], rows @ (rows.T @ (coins - 0.5)), atol=0.02)


@dataclasses.dataclass(frozen=True)
class Still:
    """A stage whose loss needs no key: its gradient can be computed by hand."""

    sampling_rate: float = 1.0
    steps: int = 1
    clip_norm: float = 1.0

    def training(self, context: Any) -> Any:
        from rdpjax.stages.stage import Training

        prior = jnp.asarray(context.prior)
        every = jnp.arange(len(prior))

        def loss(params: Any, codes: Any, key: Any) -> Any:
            return -jax.nn.log_softmax(prior + params)[every, codes].sum()

        return Training(
            init=lambda key: jnp.zeros(prior.shape),
            objective=lambda state: (state, loss),
            update=lambda state, gradient, key: (state - gradient, {}),
            release=lambda state: state,
        )


@pytest.mark.slow
@pytest.mark.parametrize("off", [False, True], ids=["private", "noise off"])
def test_real_stages_of_cardio(cardio_path: Path, off: bool, monkeypatch: Patch) -> None:
    """Minutes: m = 1,000 at a claim of 1."""
    if off:
        noise_off(monkeypatch)
    found, _ = audited(
        OneRunAudit(Path("cardio.toml"), epsilon=1.0, data=cardio_path, seed=7, quiet=True)
    )
    assert found["best attack"].exceeds == off
