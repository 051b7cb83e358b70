"""Runs with discrete noise throughout, and resumed runs whose ledger and checkpoints disagree."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest

from rdpjax.codecs.table import TableCodec
from rdpjax.config import Config
from rdpjax.data.schema import Schema
from rdpjax.dpsgd.keys import Roots
from rdpjax.errors import UserError
from rdpjax.fitting.fit import fit
from rdpjax.fitting.generator import Generator
from rdpjax.fitting.plans import make_plans, plan_events, target_of
from rdpjax.fitting.session import Session
from rdpjax.privacy.accountants import rdp_epsilon
from rdpjax.privacy.ledger import Ledger
from rdpjax.privacy.report import privacy_report, replay

ROOTS = Roots.make(1)
Train = Callable[..., tuple[Generator, Ledger]]


@pytest.fixture
def train(toy_config: Config, toy_schema: Schema, toy_frame: pd.DataFrame) -> Train:
    """`train()` fits the toy stages, hardened, with the keys of seed 1."""

    def train(hardened: bool = True, **given: Any) -> tuple[Generator, Ledger]:
        config = dataclasses.replace(toy_config, hardened=hardened)
        ledger = Ledger(target=target_of(config), noise_id=ROOTS.noise_id)
        options: dict[str, Any] = {"plans": make_plans(config), "ledger": ledger, **given}
        ledger = options.pop("ledger")
        session = Session(ledger, ROOTS)
        return fit(config, TableCodec(toy_schema), toy_frame, session=session, **options), ledger

    return train


@pytest.mark.slow
def test_every_access_is_discrete_and_the_budget_is_kept(train: Train, toy_config: Config) -> None:
    generator, ledger = train()
    mechanisms = {event.mechanism for event in ledger.events}
    assert mechanisms == {"discrete_gaussian", "poisson_discrete_gaussian"}
    epsilon, order = rdp_epsilon(ledger.events, toy_config.delta)
    assert toy_config.epsilon - 0.001 < epsilon <= toy_config.epsilon
    assert order is not None and order % 1 == 0
    report = privacy_report(
        ledger.events, 1e-5, unit="row", secret_noise=True, declarations={}, versions={}
    )
    assert report["epsilon_pld"] is None and "PLD is not available" in report["notes"][0]
    assert replay(report) == report["epsilon"] == epsilon
    assert generator.tilt is not None


def test_whole_orders_cost_little(toy_config: Config) -> None:
    """Of the same budget nearly the same noise is left."""
    plain, hardened = (
        make_plans(dataclasses.replace(toy_config, hardened=hardened)).stages["vae"]
        for hardened in (False, True)
    )
    assert not plain.discrete and hardened.discrete
    assert plain.noise_multiplier <= hardened.noise_multiplier < 1.05 * plain.noise_multiplier


@pytest.mark.slow
def test_it_learns_what_the_other_way_learns(train: Train) -> None:
    """The same masks, another noise of the same size: the released numbers stay near."""
    plain, hardened = (train(hardened=hardened)[0] for hardened in (False, True))
    one, two = (jax.tree.leaves(generator.artefacts) for generator in (plain, hardened))
    assert all(np.abs(a - b).max() < 1 for a, b in zip(one, two, strict=True))


def test_a_resumed_run_gives_the_same_bits(train: Train, tmp_path: Path) -> None:
    whole, ledger = train(checkpoints=tmp_path)
    shutil.rmtree(tmp_path / "labeler")
    ledger = Ledger.resumed(ledger.to_lines(), noise_id=ROOTS.noise_id)
    again, _ = train(checkpoints=tmp_path, ledger=ledger)
    for a, b in zip(*(jax.tree.leaves(g.artefacts) for g in (whole, again)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(ledger.entries) == 5, "a replay is no new access"


@pytest.mark.parametrize("hardened", [False, True])
def test_a_checkpoint_that_the_ledger_does_not_list_is_refused(
    train: Train, tmp_path: Path, hardened: bool
) -> None:
    _, ledger = train(hardened, checkpoints=tmp_path)
    known = {"version": 1, "events": [e.to_dict() for e in ledger.entries if e.start != 2]}
    torn = Ledger.from_dict(known, noise_id=ROOTS.noise_id)
    with pytest.raises(UserError, match=r"vae: the checkpoint holds 4 steps of 'vae', which"):
        train(hardened, checkpoints=tmp_path, ledger=torn)


def test_a_plan_shows_its_noise_before_any_data(toy_config: Config) -> None:
    events = plan_events(dataclasses.replace(toy_config, hardened=True))
    assert [event.mechanism for event in events] == [
        "discrete_gaussian",
        *["poisson_discrete_gaussian"] * 2,
    ]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"private": False}, "hardened: without noise there is nothing to harden"),
        ({"clipping": "ghost"}, "clipping is 'ghost'; hardened clips integer units"),
    ],
)
def test_what_does_not_go_with_it_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Config(hardened=True, **settings)
