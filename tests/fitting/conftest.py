"""The toy stages, trained or only entered in the ledger."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from rdpjax.codecs.table import TableCodec
from rdpjax.config import Config
from rdpjax.data.schema import Schema
from rdpjax.dpsgd.keys import Roots
from rdpjax.fitting import stage_run as training
from rdpjax.fitting.fit import fit
from rdpjax.fitting.generator import Generator
from rdpjax.fitting.plans import make_plans, target_of
from rdpjax.fitting.session import Session
from rdpjax.privacy.ledger import Ledger

ROOTS = Roots.make(1)


@pytest.fixture
def train(
    toy_config: Config, toy_schema: Schema, toy_frame: pd.DataFrame
) -> Callable[..., tuple[Generator, Ledger]]:
    """`train(frame)` fits the toy stages with the keys of seed 1."""

    def train(
        frame: pd.DataFrame = toy_frame, config: Config = toy_config, **given: Any
    ) -> tuple[Generator, Ledger]:
        ledger = Ledger(target=target_of(config), noise_id=ROOTS.noise_id)
        options: dict[str, Any] = {"plans": make_plans(config), "ledger": ledger, **given}
        ledger = options.pop("ledger")
        session = Session(ledger, ROOTS)
        return fit(config, TableCodec(toy_schema), frame, session=session, **options), ledger

    return train


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks that leave the state alone and compile nothing, where accesses are what matters."""

    def make_chunk(*args: Any) -> Any:
        return lambda state, records, keys, divisor: (state, {})

    monkeypatch.setattr(training, "make_chunk", make_chunk)
    monkeypatch.setattr(Generator, "fitted", lambda self, root: self)
