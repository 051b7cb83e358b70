"""Records from noise: the same for the same key, within the rules, at the noisy shares."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from rdpjax.codecs.table import TableEncoding
from rdpjax.config import Config
from rdpjax.data.schema import Schema
from rdpjax.data.tokenizer import Marginals, encode_cells, histogram, marginals_from
from rdpjax.dpsgd.compiled import Compiled
from rdpjax.dpsgd.keys import as_key
from rdpjax.errors import UserError
from rdpjax.fitting import generator as module
from rdpjax.fitting.generator import Generator, collapse_warnings

ROOT, OTHER = bytes(32), bytes(31) + b"\x01"
WEIGHTS = 0.1  # of each code of both numbers in the labeler's logit


@pytest.fixture(scope="module")
def marginals(toy_schema: Schema, toy_frame: pd.DataFrame) -> Marginals:
    exact = histogram(toy_schema, encode_cells(toy_schema, toy_frame))
    noise = np.random.default_rng(5).normal(0, 3, exact.shape)
    return marginals_from(toy_schema, exact + noise, 3.0)


@pytest.fixture(scope="module")
def untilted(toy_settings: Config, toy_schema: Schema, marginals: Marginals) -> Generator:
    """A generator off by a little in every column, whose labeler goes by the numbers."""
    # Enough candidates that the raking is no noise itself.
    config = dataclasses.replace(toy_settings, pool_rows=40_960)
    empty = Generator(config, toy_schema, marginals, {}, TableEncoding(toy_schema))
    shape = empty.context.prior.shape
    rng = np.random.default_rng(6)
    slope = np.zeros(shape, np.float32)
    slope[:2] = WEIGHTS * np.arange(shape[1])
    artefacts = {
        "vae": {"logits": jnp.asarray(rng.normal(0, 0.3, shape), jnp.float32)},
        "labeler": {"weights": jnp.asarray(slope)},
    }
    return Generator(config, toy_schema, marginals, artefacts, TableEncoding(toy_schema))


@pytest.fixture(scope="module")
def fitted(untilted: Generator) -> Generator:
    return untilted.fitted(ROOT)


def drawn(generator: Generator, count: int, root: bytes = ROOT) -> pd.DataFrame:
    return pd.concat(list(generator.rows(root, count)), ignore_index=True)


@pytest.mark.parametrize("count", [1, 10, 511, 512, 513, 1700])
def test_fewer_rows_are_the_first_of_more(count: int, fitted: Generator) -> None:
    pd.testing.assert_frame_equal(drawn(fitted, count), drawn(fitted, 2000).iloc[:count])


def test_the_same_key_gives_the_same_rows(fitted: Generator) -> None:
    pd.testing.assert_frame_equal(drawn(fitted, 700), drawn(fitted, 700))
    assert not drawn(fitted, 700).equals(drawn(fitted, 700, OTHER))


def test_blocks_are_no_copies_of_each_other(fitted: Generator) -> None:
    frame = drawn(fitted, 1600)
    values = frame[["low", "high"]].to_numpy()
    assert (values[:400] == values[400:800]).all(axis=1).mean() < 0.1


def test_rows_stream_block_by_block(fitted: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten million rows cost the memory of one block: the next is made when it is asked for."""
    made: list[int] = []
    draw = fitted._draw

    def counted(key: Any) -> Any:
        made.append(len(made))
        return draw(key)

    monkeypatch.setitem(fitted.__dict__, "_draw", counted)
    rows = fitted.rows(ROOT, 10_000_000)
    assert isinstance(rows, Iterator) and made == []
    for number in range(3):
        assert 0 < len(next(rows)) <= 512
        assert len(made) == number + 2  # and the next one, which is computed meanwhile


def test_values_are_the_schemas(fitted: Generator) -> None:
    frame = drawn(fitted, 3000)
    assert list(frame) == ["low", "high", "ward", "ill"] and len(frame) == 3000
    assert frame["low"].between(0, 20).all() and frame["high"].between(0, 90).all()
    assert (frame["high"] % 1 == 0).all() and (frame["low"] * 2 % 1 == 0).all()
    assert set(frame["ward"]) == {"north", "south", "west"} and set(frame["ill"]) == {0, 1}


def test_the_rule_holds_in_every_row(fitted: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = drawn(fitted, 5000)
    with_redraws = (frame["low"] >= frame["high"]).mean()
    with monkeypatch.context() as patch:
        patch.setattr(Schema, "breaks_rule", lambda self, values: np.zeros(len(values), bool))
        free = drawn(fitted, 5000)
    without = (free["low"] >= free["high"]).mean()
    assert without > 0.01 and with_redraws == 0


def test_a_row_is_redrawn_three_times_at_most(
    fitted: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def always(self: Schema, values: np.ndarray) -> np.ndarray:
        asked.append(1)
        return np.ones(len(values), bool)

    monkeypatch.setattr(Schema, "breaks_rule", always)
    assert not len(next(fitted.blocks(ROOT)))
    assert len(asked) == 4  # after each draw but the last, and once more to leave the row out
    with pytest.raises(UserError, match=r"hardly any generated row keeps all rules .low < high"):
        fitted.fitted(ROOT)


def test_one_way_shares_are_the_noisy_ones(
    untilted: Generator, fitted: Generator, marginals: Marginals, toy_schema: Schema
) -> None:
    def distances(generator: Generator) -> list[float]:
        """Total variation to the noisy shares, on the codes that the tilt knows."""
        tokenizer = generator.context.tokenizer
        codes = tokenizer.encode(encode_cells(toy_schema, drawn(generator, 20_000)))
        shares = tokenizer.code_shares()
        return [
            float(
                np.abs(np.bincount(codes[:, j], minlength=tokenizer.width) / 20_000 - s).sum() / 2
            )
            for j, s in enumerate(shares)
        ]

    assert max(distances(fitted)) < 0.025
    assert max(distances(untilted)) > 0.05, "the tilt has something to do"
    assert fitted.tilt is not None
    assert fitted.tilt.effective >= 0.3 and fitted.tilt.acceptance > 0.15


def test_labels_follow_the_labeler_at_the_noisy_share(
    fitted: Generator, marginals: Marginals
) -> None:
    frame = drawn(fitted, 20_000)
    wanted = marginals.shares[3][1]
    assert frame["ill"].mean() == pytest.approx(wanted, abs=0.015)
    low, high = frame["low"] < 6, frame["low"] > 12
    assert frame["ill"][high].mean() > frame["ill"][low].mean() + 0.2


def test_labels_of_the_generator_where_it_is_asked_for(
    untilted: Generator, marginals: Marginals
) -> None:
    config = dataclasses.replace(untilted.config, label_source="generator")
    frame = drawn(dataclasses.replace(untilted, config=config).fitted(ROOT), 20_000)
    assert frame["ill"].mean() == pytest.approx(marginals.shares[3][1], abs=0.015)
    low, high = frame["low"] < 6, frame["low"] > 12
    assert frame["ill"][high].mean() == pytest.approx(frame["ill"][low].mean(), abs=0.05)


def test_the_label_may_be_any_level(untilted: Generator, marginals: Marginals) -> None:
    """The first level positive: the labeler's logits are for it, at its own noisy share."""
    schema = dataclasses.replace(untilted.schema, positive=(0,))
    frame = drawn(dataclasses.replace(untilted, schema=schema).fitted(ROOT), 20_000)
    assert frame["ill"].mean() == pytest.approx(marginals.shares[3][1], abs=0.015)
    low, high = frame["low"] < 6, frame["low"] > 12
    assert frame["ill"][high].mean() < frame["ill"][low].mean() - 0.2


def test_without_rules_there_is_one_draw(untilted: Generator) -> None:
    free = dataclasses.replace(untilted, schema=dataclasses.replace(untilted.schema, less=()))
    key = jnp.zeros(2, jnp.uint32)
    assert untilted._draw(as_key(key)).shape == (module.DRAWS, 512, 4)
    assert free._draw(as_key(key)).shape == (1, 512, 4)


def test_a_level_of_noisy_share_zero_is_rare(untilted: Generator, marginals: Marginals) -> None:
    shares = list(marginals.shares)
    shares[2] = np.array([0.7, 0.3, 0.0])
    zero = dataclasses.replace(
        untilted, marginals=dataclasses.replace(marginals, shares=tuple(shares))
    )
    frame = drawn(zero.fitted(ROOT), 10_000)
    assert (frame["ward"] == "west").mean() < 0.002


def test_a_new_column_order_of_artefacts_changes_nothing(fitted: Generator) -> None:
    """The name of a stage finds its artefact, not its place."""
    turned = dataclasses.replace(fitted, artefacts=dict(reversed(fitted.artefacts.items())))
    pd.testing.assert_frame_equal(drawn(fitted, 100), drawn(turned, 100))


# -- collapse ------------------------------------------------------------------------------------


def collapse(frame: pd.DataFrame, schema: Schema, marginals: Marginals) -> list[str]:
    return collapse_warnings(frame, schema, marginals)


def test_a_healthy_release_is_not_warned_about(
    toy_frame: pd.DataFrame, toy_schema: Schema, marginals: Marginals, fitted: Generator
) -> None:
    assert collapse(toy_frame, toy_schema, marginals) == []
    assert collapse(drawn(fitted, 2000), toy_schema, marginals) == []


@pytest.mark.parametrize(
    "column, value, warning",
    [
        ("low", 8.0, "low: spread is below half of its noisy estimate"),
        ("high", 33.0, "high: spread is below half of its noisy estimate"),
        ("ill", 0, "ill = 1: below a quarter of its noisy share"),
    ],
)
def test_a_collapsed_column_is_warned_about(
    column: str,
    value: Any,
    warning: str,
    toy_frame: pd.DataFrame,
    toy_schema: Schema,
    marginals: Marginals,
) -> None:
    assert collapse(toy_frame.assign(**{column: value}), toy_schema, marginals) == [warning]


def test_a_lost_level_is_warned_about(
    toy_frame: pd.DataFrame, toy_schema: Schema, marginals: Marginals
) -> None:
    lost = toy_frame.assign(ward=toy_frame["ward"].replace("west", "north"))
    assert collapse(lost, toy_schema, marginals) == [
        "ward = west: below a quarter of its noisy share"
    ]
    noisier = dataclasses.replace(marginals, deviation=100.0)
    assert collapse(lost, toy_schema, noisier) == [], "a share inside the noise tells nothing"


def programs(generator: Generator, patch: pytest.MonkeyPatch) -> list[str]:
    """What is compiled for a few rows of a generator, as text."""
    seen: list[str] = []

    class Shown(Compiled):
        def __call__(self, *args: Any) -> Any:
            run, closed_over = self._hoisted(args)
            seen.append(run.lower(closed_over, *args).as_text())
            return super().__call__(*args)

    patch.setattr(module, "Compiled", Shown)
    assert len(drawn(generator, 10)) == 10
    return seen


def test_another_generator_of_these_stages_needs_no_other_program(
    untilted: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was learned was a constant of the programs, so that every run compiled its own."""
    shares = tuple(0.999 * share + 0.001 / len(share) for share in untilted.marginals.shares)
    other = dataclasses.replace(
        untilted,
        artefacts=jax.tree.map(lambda leaf: leaf * 1.5, untilted.artefacts),
        marginals=dataclasses.replace(untilted.marginals, shares=shares),
    )
    assert other.context.tokenizer.widths == untilted.context.tokenizer.widths
    again = dataclasses.replace(untilted)  # without what was compiled before
    first, second = programs(again, monkeypatch), programs(other, monkeypatch)
    assert len(set(first)) == 2, "of sampling, and of the label"
    assert first == second
