"""Size and classes are judged by noisy counts, or by public ones: the records are not asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rdpjax.config import Config
from rdpjax.data.schema import Schema
from rdpjax.data.tokenizer import encode_cells, histogram
from rdpjax.errors import UserError
from rdpjax.fitting import stage_run as training
from rdpjax.fitting.generator import Generator
from rdpjax.fitting.plans import make_plans
from rdpjax.mechanisms import measurement
from rdpjax.privacy.events import Event
from rdpjax.privacy.ledger import Ledger


@pytest.fixture
def counts(
    toy_schema: Schema,
    toy_frame: pd.DataFrame,
    untrained: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., None]:
    """`counts(records=, ill=)` makes the noisy histograms say so, whatever the records are."""

    def counts(*, records: float = 3000.0, ill: float = 0.5, deviation: float = 5.0) -> None:
        noisy = histogram(toy_schema, encode_cells(toy_schema, toy_frame))
        noisy *= records / noisy[-1]
        noisy[-3:-1] = records * (1 - ill), records * ill

        def given(sums: np.ndarray, event: Event, key: bytes) -> Any:
            return noisy.copy(), deviation

        monkeypatch.setattr(measurement, "noisy", given)

    return counts


def test_size_is_judged_by_the_noisy_count(
    train: Callable[..., tuple[Generator, Ledger]],
    counts: Callable[..., None],
    toy_frame: pd.DataFrame,
) -> None:
    counts(records=60.0)
    with pytest.raises(UserError, match="too few records for the plan: fewer than 500"):
        train(toy_frame)
    counts(records=3000.0)
    generator, _ = train(toy_frame[:40])
    assert generator.marginals.records == 3000.0


def test_size_is_judged_by_the_public_count_where_there_is_one(
    train: Callable[..., tuple[Generator, Ledger]],
    counts: Callable[..., None],
    toy_config: Config,
    toy_frame: pd.DataFrame,
) -> None:
    counts(records=60.0)
    generator, _ = train(toy_frame[:40], dataclasses.replace(toy_config, records=2500))
    assert generator.marginals.records == 2000  # the held-out fifth is not read
    counts(records=3000.0)
    with pytest.raises(UserError, match="too few records for the plan: fewer than 500"):
        train(toy_frame, dataclasses.replace(toy_config, records=400))


def test_batches_too_small_to_learn_from_are_refused(
    train: Callable[..., tuple[Generator, Ledger]],
    counts: Callable[..., None],
    toy_config: Config,
) -> None:
    counts(records=700.0)
    thin = {n: dataclasses.replace(s, sampling_rate=0.01) for n, s in toy_config.stages.items()}
    plans = make_plans(toy_config)
    plans = dataclasses.replace(
        plans,
        stages={n: dataclasses.replace(p, threshold=2**32 // 100) for n, p in plans.stages.items()},
    )
    with pytest.raises(UserError, match=r"so vae expects 7\.0 in a batch, and needs 8"):
        train(config=dataclasses.replace(toy_config, stages=thin), plans=plans)


def test_delta_is_checked_against_the_noisy_count(
    train: Callable[..., tuple[Generator, Ledger]],
    counts: Callable[..., None],
    toy_frame: pd.DataFrame,
) -> None:
    counts(records=200_000.0)
    with pytest.raises(UserError, match="delta is 1e-05; with about 200000 records"):
        train(toy_frame[:40])


def test_classes_are_judged_by_the_noisy_shares(
    train: Callable[..., tuple[Generator, Ledger]],
    counts: Callable[..., None],
    toy_frame: pd.DataFrame,
) -> None:
    counts(ill=0.0)
    with pytest.raises(UserError, match="label 'ill': hardly any record has level 1"):
        train(toy_frame)
    counts(ill=1.0)
    with pytest.raises(UserError, match="label 'ill': hardly any record has level 0"):
        train(toy_frame)
    counts(ill=0.5)
    train(toy_frame.assign(ill=1))  # what the records say is not looked at


def test_the_divisor_is_the_rate_times_the_noisy_count(
    train: Callable[..., tuple[Generator, Ledger]],
    counts: Callable[..., None],
    toy_frame: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts(records=2000.0)
    divisors: list[float] = []

    def make_chunk(*args: Any) -> Any:
        def looked(state: Any, records: Any, keys: Any, divisor: Any) -> Any:
            divisors.append(float(divisor))
            return state, {}

        return looked

    monkeypatch.setattr(training, "make_chunk", make_chunk)
    train(toy_frame)
    assert divisors == pytest.approx([200.0] * 4)


def test_no_records_at_all_is_the_users_mistake(
    train: Callable[..., tuple[Generator, Ledger]], toy_frame: pd.DataFrame
) -> None:
    with pytest.raises(UserError, match="too few records"):
        train(toy_frame[:0])
