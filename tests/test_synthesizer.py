"""The public object: a frame in, a frame out, one claim."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import rdpjax
from rdpjax.config import Config
from rdpjax.config_file import load_config
from rdpjax.data.fields import Categorical, Numeric
from rdpjax.data.frame import check_frame
from rdpjax.data.schema import Schema
from rdpjax.errors import UserError
from rdpjax.privacy.accountants import rdp_epsilon
from rdpjax.privacy.report import replay
from rdpjax.privacy.sources import read_source
from rdpjax.synthesizer import Synthesizer
from tests.data.tables import FRAME, SMALL


def test_the_fits_of_one_object_add_up(
    synth: Synthesizer, toy_config: Config, toy_frame: pd.DataFrame, tmp_path: Path
) -> None:
    """Ten fits are ten noisy counts of the same records; all but the last used to be forgotten.

    One seed for all, which is as good: with another one, each would compile programs of its own.
    """
    delta, first = toy_config.delta, synth.ledger
    assert synth.earlier_fits == () and "earlier_fits" not in synth.report()
    assert (
        repr(synth) == f"<Synthesizer of 'toy': fitted, epsilon {first.epsilon(delta):.4g} at "
        "delta 1e-05>"
    )
    synth.fit(toy_frame, seed=1)
    both = rdp_epsilon([*first.events, *synth.ledger.events], delta)[0]
    assert synth.earlier_fits == (first,) and both > synth.ledger.epsilon(delta)
    report = synth.report()
    assert report["epsilon_of_all_fits"] == both and report["epsilon"] == replay(report) < both
    assert f", {both:.4g} with 1 earlier fits>" in repr(synth)

    few = pd.concat([toy_frame[:50], toy_frame[-50:]])
    with pytest.raises(UserError, match="too few records"):
        synth.fit(few, seed=1)
    assert [event.stage for event in synth.ledger.events] == ["marginals"]
    assert "not fitted, epsilon" in repr(synth) and "with 2 earlier fits" in repr(synth)
    synth.fit(toy_frame, seed=1)
    assert [len(fit.events) for fit in synth.earlier_fits] == [3, 3, 1]

    synth.save(tmp_path)
    again = Synthesizer.load(tmp_path)
    assert again.report() == synth.report() and repr(again) == repr(synth)
    shown = read_source(tmp_path)
    assert [past.events for past in shown.earlier] == [fit.events for fit in synth.earlier_fits]
    again.fit(toy_frame, seed=1)
    assert len(again.earlier_fits) == 4, "what was loaded has read records too"


def test_a_budget_beside_epsilons_of_stages_is_refused(
    toy_config: Config, toy_schema: Schema
) -> None:
    own = {"marginals": 4.0, "vae": 4.0, "labeler": 4.0}
    config = dataclasses.replace(toy_config, epsilon=None, shares={}, epsilons=own)
    with pytest.raises(UserError, match="leave out the total"):
        Synthesizer(toy_schema, budget=rdpjax.Budget(1, 1e-5), config=config)
    assert Synthesizer(toy_schema, config=config).config.epsilons == own


def test_a_seed_is_told_and_no_seed_is_secret(
    toy_config: Config, toy_schema: Schema, toy_frame: pd.DataFrame
) -> None:
    synth = Synthesizer(toy_schema, config=toy_config).fit(toy_frame)
    assert synth.report()["secret_noise"] is True


def test_index_order_and_spare_columns_of_the_frame_do_not_matter(
    synth: Synthesizer, toy_config: Config, toy_schema: Schema, toy_frame: pd.DataFrame
) -> None:
    other = toy_frame[list(toy_frame)[::-1]].assign(name="x").set_index(toy_frame.index + 7)
    again = Synthesizer(toy_schema, config=toy_config).fit(other, seed=1)
    pd.testing.assert_frame_equal(synth.sample(50, seed=1), again.sample(50, seed=1))


def test_the_frame_is_left_as_it_was(
    toy_config: Config, toy_schema: Schema, toy_frame: pd.DataFrame
) -> None:
    copy = toy_frame.copy(deep=True)
    Synthesizer(toy_schema, config=toy_config).fit(toy_frame, seed=1)
    pd.testing.assert_frame_equal(copy, toy_frame)


def test_nothing_to_sample_or_save_before_fit(toy_schema: Schema, tmp_path: Path) -> None:
    synth = Synthesizer(toy_schema)
    for use in (lambda: synth.sample(1), lambda: synth.stream(1), lambda: synth.save(tmp_path)):
        with pytest.raises(UserError, match="call fit first"):
            use()
    assert list(tmp_path.iterdir()) == []


def test_rows_must_be_positive(synth: Synthesizer) -> None:
    for rows in (0, -3):
        with pytest.raises(UserError, match=f"rows is {rows}; ask for 1 or more"):
            synth.sample(rows)


def test_a_fit_that_fails_counts_what_it_read(synth: Synthesizer, toy_frame: pd.DataFrame) -> None:
    """And leaves no generator that another ledger belongs to."""
    with pytest.raises(UserError, match="too few records"):
        synth.fit(toy_frame[:10])
    assert [event.stage for event in synth.ledger.events] == ["marginals"]
    with pytest.raises(UserError, match="call fit first"):
        synth.sample(1)


def test_budget_and_public_records_reach_the_configuration(toy_schema: Schema) -> None:
    public = dataclasses.replace(toy_schema, records=5000)
    synth = Synthesizer(public, budget=rdpjax.Budget(epsilon=2, delta=1e-6))
    assert (synth.config.epsilon, synth.config.delta) == (2.0, 1e-6)
    assert synth.config.records == 5000
    with pytest.raises(UserError, match=r"delta is 0\.01; it must be below 1 / records"):
        Synthesizer(public, budget=rdpjax.Budget(epsilon=2, delta=0.01))


# -- other tables --------------------------------------------------------------------------------

COLUMNS = {
    "a number": (Numeric("x", "m", -1.5, 3.5, cell=0.5, resolution=0.1, within="uniform"),),
    "a level and a number": (Categorical("site", ("a", "b", "c")), Numeric("x", "m", 0, 9)),
    "a level": (Categorical("site", ("a", "b")),),
}


def fits_and_samples(columns: tuple[Any, ...], config: Config, folder: Path) -> None:
    schema = Schema("tiny", (*columns, Categorical("y", (0, 1))), label="y")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"y": rng.integers(0, 2, 3000)})
    for column in columns:
        if isinstance(column, Numeric):
            frame[column.name] = rng.normal(1 + frame["y"], 0.7).clip(column.low, column.high)
        else:
            frame[column.name] = rng.choice(list(column.levels), 3000)
    synth = Synthesizer(schema, config=config).fit(frame)
    rows = check_frame(schema, synth.sample(600))
    assert list(rows) == list(schema.names) and len(rows) == 600
    for column in columns:
        if isinstance(column, Numeric):
            assert rows[column.name].between(column.low, column.high).all()
    synth.save(folder)
    assert len(Synthesizer.load(folder).sample(5)) == 5


def test_one_number_and_a_label(toy_config: Config, tmp_path: Path) -> None:
    fits_and_samples(COLUMNS["a number"], toy_config, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("columns", COLUMNS.values(), ids=COLUMNS)
def test_small_schemas_with_the_default_stages(columns: tuple[Any, ...], tmp_path: Path) -> None:
    config = Config(block_rows=512, pool_rows=2048)
    tiny = {"steps": 2, "channels": 2, "hidden": 8, "latent": 4, "noise": 8, "fakes": 16}
    stages = {
        name: dataclasses.replace(
            stage, **{f.name: tiny[f.name] for f in dataclasses.fields(stage) if f.name in tiny}
        )
        for name, stage in config.stages.items()
    }
    fits_and_samples(columns, dataclasses.replace(config, stages=stages), tmp_path)


# -- arguments -----------------------------------------------------------------------------------


def test_a_bad_frame_is_refused_before_anything_is_read(toy_schema: Schema) -> None:
    synth = Synthesizer(toy_schema)
    with pytest.raises(UserError, match="is missing"):
        synth.fit(pd.DataFrame({"low": [1.0]}))
    assert synth.ledger.events == ()


@pytest.mark.parametrize(
    "given",
    [{"height": [1], "y": [0]}, np.zeros((3, 3)), "x.csv", None, FRAME["y"], [FRAME]],
    ids=type,
)
def test_fit_takes_a_frame_and_says_so(given: Any) -> None:
    with pytest.raises(UserError, match="fit takes a pandas DataFrame, not a "):
        Synthesizer(SMALL).fit(given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"schema": 5}, r"schema: give a Schema\(name, columns\), got 5"),
        ({"schema": "clinic"}, "schema: give a Schema"),
        ({"budget": 5}, r"budget: give Budget\(epsilon=..., delta=...\), got 5"),
        ({"budget": (5, 1e-5)}, "budget: give Budget"),
        ({"config": {"epsilon": 5}}, r"config: give Config\(...\), got"),
    ],
)
def test_arguments_of_another_kind_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Synthesizer(**{"schema": SMALL} | arguments)


# -- schemas without two classes, and of any name ------------------------------------------------


@pytest.fixture
def no_label(toy_config: Config) -> Config:
    shares = {"marginals": 0.5, "vae": 0.5}
    stages = {"vae": toy_config.stages["vae"]}
    return dataclasses.replace(
        toy_config, stages=stages, shares=shares, epsilons={}, label_source="generator"
    )


@pytest.mark.parametrize("label", [None, "ward"])
def test_no_label_or_one_of_many_levels(
    label: str | None, toy_schema: Schema, toy_frame: pd.DataFrame, no_label: Config, tmp_path: Path
) -> None:
    schema = dataclasses.replace(toy_schema, label=label)
    synth = Synthesizer(schema, config=no_label).fit(toy_frame, seed=1)
    rows = synth.sample(300, seed=1)
    assert set(rows["ward"]) == {"north", "south", "west"}
    synth.save(tmp_path)
    pd.testing.assert_frame_equal(Synthesizer.load(tmp_path).sample(300, seed=1), rows)


def test_what_needs_a_label_says_so_before_it_reads(toy_schema: Schema) -> None:
    config = Config()
    bare = dataclasses.replace(toy_schema, label=None)
    many = dataclasses.replace(toy_schema, label="ward")
    with pytest.raises(UserError, match="needs a label column of two levels, and schema 'toy' has"):
        Synthesizer(bare, config=config)
    with pytest.raises(
        UserError, match="two levels, and 'ward' has 3; leave the stage labeler out"
    ):
        Synthesizer(many, config=config)
    stages = {name: config.stages[name] for name in ("vae", "gan")}
    shares = {"marginals": 0.2, "vae": 0.6, "gan": 0.2}
    gan = Config(stages=stages, shares=shares, label_source="generator")
    with pytest.raises(UserError, match="gan: needs a column that the class is drawn from"):
        Synthesizer(bare, config=gan)
    assert Synthesizer(many, config=gan).schema == many
    for schema in (bare, many, toy_schema):
        assert list(Synthesizer(schema).config.stages) == ["autoregressive"]
        assert list(Synthesizer(schema, generator="vae").config.stages) == ["vae"]
    with pytest.raises(UserError, match="generator: unknown 'vea'; did you mean 'vae'"):
        Synthesizer(toy_schema, generator="vea")
    three = Synthesizer(toy_schema, config=config, generator="vaegan").config
    assert list(three.stages) == ["vae", "gan", "labeler"]
    with pytest.raises(UserError, match="needs a label column of two levels"):
        Synthesizer(bare, generator="vaegan")


def test_a_schema_called_sepsis_is_a_table_like_any_other(
    toy_schema: Schema, toy_frame: pd.DataFrame
) -> None:
    schema = dataclasses.replace(toy_schema, name="sepsis")
    default = Synthesizer(schema).config
    assert default.measurements == () and default.dataset == "table"
    wrong = Synthesizer(schema, config=load_config("sepsis.toml"))
    with pytest.raises(UserError, match="dataset 'sepsis' is of patients' files, and fit takes"):
        wrong.fit(toy_frame)
    assert wrong.ledger.events == ()


# -- values outside the bounds -------------------------------------------------------------------


def test_a_column_in_another_unit_is_refused_before_it_costs_anything(
    toy_schema: Schema, toy_frame: pd.DataFrame, toy_config: Config
) -> None:
    metres = toy_frame.assign(high=toy_frame["high"] * 10)
    synth = Synthesizer(toy_schema, config=toy_config)
    with pytest.raises(UserError, match=r"'high': .* in millimetres\?; .* accept_clipping=True"):
        synth.fit(metres)
    assert synth.ledger.events == () and synth.generator is None
    with pytest.warns(
        UserWarning, match="column 'high': .* of 3,000 values lie outside 0 to 90 cm"
    ):
        synth.fit(metres, seed=1, accept_clipping=True)
    assert len(synth.sample(10)) == 10
    assert "outside" not in json.dumps(synth.report())


def test_a_few_values_outside_are_told_and_clipped(
    toy_schema: Schema, toy_frame: pd.DataFrame, toy_config: Config
) -> None:
    few = toy_frame.assign(high=toy_frame["high"].where(toy_frame.index >= 60, 95.0))
    with pytest.warns(
        UserWarning, match="column 'high': 2% of 3,000 values lie outside 0 to 90 cm"
    ):
        Synthesizer(toy_schema, config=toy_config).fit(few, seed=1)
