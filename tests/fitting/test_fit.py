"""One budget, one ledger, stages in order: what is entered is what is done, and it comes first."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest

from rdpjax.codecs.table import TableCodec
from rdpjax.config import Config
from rdpjax.config_file import load_config
from rdpjax.data.cardio import CARDIO
from rdpjax.data.schema import Schema
from rdpjax.data.tokenizer import histogram
from rdpjax.dpsgd import feed
from rdpjax.dpsgd.keys import Roots
from rdpjax.errors import UserError
from rdpjax.fitting import fit as pipeline
from rdpjax.fitting import stage_run as training
from rdpjax.fitting.fit import fit
from rdpjax.fitting.generator import Generator
from rdpjax.fitting.plans import make_plans, plan_events, target_of
from rdpjax.fitting.session import Session
from rdpjax.privacy.accountants import rdp_epsilon
from rdpjax.privacy.events import events_to_list
from rdpjax.privacy.ledger import BudgetExceeded, Ledger

ROOTS = Roots.make(1)


def same(a: Generator, b: Generator) -> bool:
    trees = [jax.tree.leaves((g.artefacts, g.offset, g.marginals.shares)) for g in (a, b)]
    return all(np.array_equal(x, y) for x, y in zip(*trees, strict=True))


# -- plan and ledger -----------------------------------------------------------------------------


def test_the_ledger_is_the_plan(
    untrained: None,
    train: Callable[..., tuple[Generator, Ledger]],
    toy_config: Config,
    toy_schema: Schema,
) -> None:
    _, ledger = train()
    assert list(ledger.events) == plan_events(toy_config, TableCodec(toy_schema))
    assert len(ledger.entries) == 5, "the marginals, and two chunks of each stage"
    epsilon = ledger.epsilon(toy_config.delta)
    assert toy_config.epsilon - 0.001 < epsilon <= toy_config.epsilon


def test_the_defaults_cost_what_they_say() -> None:
    config = load_config("cardio.toml")
    events = plan_events(config, TableCodec(CARDIO))
    assert [event.stage for event in events] == ["marginals", *config.stages]
    assert config.epsilon - 0.001 < rdp_epsilon(events, config.delta)[0] <= config.epsilon
    for event in events[1:]:
        stage = config.stages[event.stage]
        assert (event.clip_norm, event.steps) == (stage.clip_norm, stage.steps)
        assert event.mechanism == "poisson_gaussian" and (event.sampling_rate * 2**32).is_integer()
        assert 0 <= event.sampling_rate - stage.sampling_rate < 2**-32


def test_plans_are_made_without_data(
    untrained: None, train: Callable[..., tuple[Generator, Ledger]], toy_frame: pd.DataFrame
) -> None:
    """No argument could carry a record, and other records give the same accesses."""
    for function in (make_plans, plan_events, target_of):
        assert set(inspect.signature(function).parameters) <= {"config", "codec"}
    lists = [
        events_to_list(train(frame)[1].entries)
        for frame in (
            toy_frame,
            toy_frame[:2000],
            toy_frame[::-1],
            toy_frame.assign(ill=1 - toy_frame["ill"]),
        )
    ]
    assert all(events == lists[0] for events in lists)


def test_a_public_batch_size_is_a_rate(toy_config: Config) -> None:
    config = dataclasses.replace(toy_config, records=4000, batch_size=400)
    assert all(plan.sampling_rate >= 0.1 for plan in make_plans(config).stages.values())
    assert all(plan.sampling_rate < 0.1 + 2**-31 for plan in make_plans(config).stages.values())


def test_without_privacy_epsilon_is_infinite(
    untrained: None,
    train: Callable[..., tuple[Generator, Ledger]],
    toy_config: Config,
    toy_frame: pd.DataFrame,
) -> None:
    config = dataclasses.replace(toy_config, private=False)
    generator, ledger = train(config=config)
    assert target_of(config) is None and np.isinf(ledger.epsilon(1e-5))
    assert all(event.noise_multiplier == 0 for event in ledger.events)
    assert generator.marginals.records == len(toy_frame), "exact, as nothing is claimed"


EPSILONS = {"marginals": 1.0, "vae": 2.0, "labeler": 1.5}


def test_stages_with_epsilons_of_their_own(
    untrained: None,
    train: Callable[..., tuple[Generator, Ledger]],
    toy_config: Config,
    toy_schema: Schema,
) -> None:
    """Their composition is the target, and the run comes to it, to the last bit."""
    config = dataclasses.replace(toy_config, epsilon=None, shares={}, epsilons=EPSILONS)
    planned = plan_events(config, TableCodec(toy_schema))
    for event in planned:
        alone = rdp_epsilon([event], config.delta)[0]
        assert EPSILONS[event.stage] - 0.01 < alone <= EPSILONS[event.stage]
    composed = rdp_epsilon(planned, config.delta)[0]
    assert target_of(config) == (composed, config.delta) and 2 < composed < 4.5
    assert train(config=config)[1].epsilon(config.delta) == composed
    weak = {name: noise * 0.9 for name, noise in make_plans(config).measurements.items()}
    with pytest.raises(BudgetExceeded, match="epsilon would be"):
        train(config=config, plans=dataclasses.replace(make_plans(config), measurements=weak))


# -- what is refused before anything is read ------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"records": 700, "holdout": 0.0},
            "about 700 .public count., so vae expects 7.0 in a batch",
        ),
        ({"records": 500, "holdout": 0.0}, "fewer than 500 .public count."),
        ({"records": 1200, "holdout": 0.6}, "fewer than 500 .public count."),
    ],
)
def test_too_few_public_records_are_refused_before_any_is_read(
    settings: dict[str, Any],
    message: str,
    train: Callable[..., tuple[Generator, Ledger]],
    toy_config: Config,
) -> None:
    stages = {n: dataclasses.replace(s, sampling_rate=0.01) for n, s in toy_config.stages.items()}
    config, ledger = dataclasses.replace(toy_config, stages=stages, **settings), Ledger()
    with pytest.raises(UserError, match=message):
        train(config=config, ledger=ledger)
    assert ledger.entries == ()


def test_a_label_that_the_labeler_cannot_learn_is_refused_before_any_record_is_read(
    toy_schema: Schema, toy_frame: pd.DataFrame
) -> None:
    config, ledger = Config(epsilon=3.0), Ledger()
    three = dataclasses.replace(toy_schema, label="ward", positive=("north",))
    with pytest.raises(
        UserError, match="two levels, and 'ward' has 3; leave the stage labeler out"
    ):
        fit(
            config,
            TableCodec(three),
            toy_frame,
            plans=make_plans(config),
            session=Session(ledger, ROOTS),
        )
    assert ledger.entries == ()


# -- the entry comes first -----------------------------------------------------------------------


def test_every_access_is_on_disk_before_it_happens(
    train: Callable[..., tuple[Generator, Ledger]],
    toy_config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "ledger.jsonl"
    seen: list[tuple[str, int, int]] = []

    def last() -> dict[str, Any]:
        lines = path.read_text().splitlines()
        return {"number": len(lines), **json.loads(lines[-1])}

    def counted(*args: Any) -> np.ndarray:
        seen.append((last()["stage"], 0, last()["number"]))
        return histogram(*args)

    original = training.make_chunk

    def make_chunk(*args: Any) -> Any:
        chunk = original(*args)

        def looked(state: Any, records: Any, keys: Any, divisor: Any) -> Any:
            entry = last()
            assert entry["steps"] == len(keys.noise)
            seen.append((entry["stage"], entry["start"], entry["number"]))
            return chunk(state, records, keys, divisor)

        return looked

    monkeypatch.setattr("rdpjax.fitting.plans.histogram", counted)
    monkeypatch.setattr(training, "make_chunk", make_chunk)
    ledger = Ledger.create(path, target=target_of(toy_config), noise_id=ROOTS.noise_id)
    train(ledger=ledger)
    assert seen == [
        ("marginals", 0, 1),
        *(("vae", 0, 2), ("vae", 2, 3)),
        *(("labeler", 0, 4), ("labeler", 2, 5)),
    ]


def test_a_step_beyond_the_budget_is_not_taken(
    train: Callable[..., tuple[Generator, Ledger]],
    toy_config: Config,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Plans with less noise than the budget allows: the chunk that would exceed it never runs."""
    plans = make_plans(toy_config)
    weak = dataclasses.replace(
        plans.stages["labeler"], noise_multiplier=plans.stages["labeler"].noise_multiplier * 0.8
    )
    ran: list[int] = []
    original = training.make_chunk

    def make_chunk(*args: Any) -> Any:
        chunk = original(*args)

        def counted(*given: Any) -> Any:
            ran.append(1)
            return chunk(*given)

        return counted

    monkeypatch.setattr(training, "make_chunk", make_chunk)
    ledger = Ledger(target=target_of(toy_config), noise_id=ROOTS.noise_id)
    with pytest.raises(BudgetExceeded, match=r"'labeler', steps \d to \d: epsilon would be"):
        train(
            plans=dataclasses.replace(plans, stages={**plans.stages, "labeler": weak}),
            ledger=ledger,
        )
    assert len(ran) == len(ledger.entries) - 1 < 4
    assert ledger.epsilon(toy_config.delta) <= toy_config.epsilon


def test_a_ledger_that_cannot_be_written_stops_the_stage(
    train: Callable[..., tuple[Generator, Ledger]],
    toy_config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ledger = Ledger.create(tmp_path / "ledger.jsonl", target=target_of(toy_config))

    def never(*args: Any) -> Any:
        raise AssertionError("read without an entry")

    monkeypatch.setattr("rdpjax.fitting.plans.histogram", never)
    (tmp_path / "ledger.jsonl").unlink()
    (tmp_path / "ledger.jsonl").mkdir()
    with pytest.raises(UserError, match="cannot write the ledger"):
        train(ledger=ledger)


# -- replay --------------------------------------------------------------------------------------


def test_checkpoints_change_nothing(
    train: Callable[..., tuple[Generator, Ledger]], tmp_path: Path
) -> None:
    assert same(train()[0], train(checkpoints=tmp_path)[0])


@pytest.mark.parametrize("written", [True, False], ids=["file", "memory"])
def test_records_without_room_on_the_device_are_fed_to_it(
    written: bool,
    train: Callable[..., tuple[Generator, Ledger]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []

    def make_fed_chunk(*args: Any) -> Any:
        chunk = feed.make_fed_chunk(*args)

        def watched(state: Any, records: Any, *rest: Any) -> Any:
            seen.append(records)
            return chunk(state, records, *rest)

        return watched

    held, ledger = train()
    monkeypatch.setattr(training, "make_fed_chunk", make_fed_chunk)
    monkeypatch.setattr(feed, "HOST_ROOM", 4 * 3000 - 1)  # bytes: a code less than there are
    monkeypatch.setattr(pipeline, "BLOCK", 700)
    fed, other = train(checkpoints=tmp_path / "checkpoints" if written else None)
    assert len(seen) == 4 and {type(codes) for codes in seen} == {
        np.memmap if written else np.ndarray
    }
    assert ledger.entries == other.entries
    for a, b in zip(*(jax.tree.leaves(g.artefacts) for g in (held, fed)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
    assert not (tmp_path / "tokens.npy").exists(), "a copy of the records outlived the training"


def test_a_finished_stage_is_not_trained_again(
    train: Callable[..., tuple[Generator, Ledger]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, ledger = train(checkpoints=tmp_path)

    def never(*args: Any) -> Any:
        def chunk(*given: Any) -> Any:
            raise AssertionError("trained again")

        return chunk

    monkeypatch.setattr(training, "make_chunk", never)
    ledger = Ledger.resumed(ledger.to_lines(), noise_id=ROOTS.noise_id)
    again, _ = train(checkpoints=tmp_path, ledger=ledger)
    assert same(first, again) and len(ledger.entries) == 5


def test_other_keys_give_another_generator(
    train: Callable[..., tuple[Generator, Ledger]],
    toy_config: Config,
    toy_schema: Schema,
    toy_frame: pd.DataFrame,
) -> None:
    """Each of the three roots matters, so that `same` above says something."""
    base = train()[0]
    for name in ("sampling", "noise", "initialisation"):
        roots = dataclasses.replace(ROOTS, **{name: Roots.make(2).noise})
        other = fit(
            toy_config,
            TableCodec(toy_schema),
            toy_frame,
            plans=make_plans(toy_config),
            session=Session(Ledger(), roots),
        )
        assert not same(base, other), name


def test_progress_hears_of_every_chunk(
    train: Callable[..., tuple[Generator, Ledger]], toy_config: Config
) -> None:
    class Listener:
        def __init__(self) -> None:
            self.heard: list[tuple[str, int]] = []
            self.spent: list[float] = []

        def say(self, text: str) -> None:
            assert "ghost clipping" in text or "compiling (once)" in text

        def stage(self, name: str, steps: int) -> None:
            self.heard.append((name, 0))

        def advance(self, name: str, done: int, epsilon: float, metrics: Mapping[str, Any]) -> None:
            self.heard.append((name, done))
            self.spent.append(epsilon)
            assert not metrics or set(metrics) >= {"loss", "clipped", "drawn"}

    listener = Listener()
    _, ledger = train(progress=listener)
    assert listener.heard == [
        *(("marginals", 0), ("marginals", 1)),
        *(("vae", 0), ("vae", 2), ("vae", 4)),
        *(("labeler", 0), ("labeler", 2), ("labeler", 4)),
    ]
    assert listener.spent == sorted(listener.spent)
    assert listener.spent[-1] == ledger.epsilon(toy_config.delta)
