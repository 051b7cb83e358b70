"""The public object: a frame in, a frame out, one claim."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import rdpjax
from rdpjax.codecs.table import TableCodec
from rdpjax.config import Config
from rdpjax.config_file import load_config
from rdpjax.data.cardio import CARDIO
from rdpjax.data.fields import Categorical, Numeric
from rdpjax.data.schema import Schema
from rdpjax.data.tokenizer import encode_cells
from rdpjax.datasets.dataset import Settings
from rdpjax.errors import UserError
from rdpjax.fitting.plans import plan_events
from rdpjax.privacy.accountants import rdp_epsilon
from rdpjax.privacy.report import replay
from rdpjax.privacy.sources import read_source
from rdpjax.runs.lock import LOCK, run_lock
from rdpjax.runs.run import run
from rdpjax.runs.start import Options
from rdpjax.synthesizer import Synthesizer, check_frame


@pytest.fixture
def synth(toy_config: Config, toy_schema: Schema, toy_frame: pd.DataFrame) -> Synthesizer:
    return Synthesizer(toy_schema, config=toy_config).fit(toy_frame, seed=1)


def test_fit_sample_save_load(
    synth: Synthesizer, toy_config: Config, toy_schema: Schema, tmp_path: Path
) -> None:
    rows = synth.sample(700, seed=4)
    assert list(rows) == list(toy_schema.names) and len(rows) == 700
    assert list(rows.index) == list(range(700))
    pd.testing.assert_frame_equal(rows, synth.sample(700, seed=4))
    pd.testing.assert_frame_equal(rows[:20], synth.sample(20, seed=4))
    assert not rows.equals(synth.sample(700, seed=5))
    assert not synth.sample(700).equals(synth.sample(700)), "the system's randomness"
    assert list(synth.ledger.events) == plan_events(toy_config, TableCodec(toy_schema))
    synth.save(tmp_path / "runs" / "toy")
    again = Synthesizer.load(tmp_path / "runs" / "toy")
    pd.testing.assert_frame_equal(rows, again.sample(700, seed=4))
    assert again.schema == toy_schema
    expected = dataclasses.replace(toy_config, dataset="table", data=Settings(), holdout=0.0)
    assert again.config == synth.config == expected
    assert again.ledger.epsilon(1e-5) == synth.ledger.epsilon(1e-5)
    assert again.report() == synth.report()
    assert [p.name for p in (tmp_path / "runs" / "toy").iterdir()] == ["release"]


def test_the_claim_of_a_saved_one(synth: Synthesizer, toy_config: Config, tmp_path: Path) -> None:
    synth.save(tmp_path)
    report = json.loads((tmp_path / "release" / "privacy.json").read_text())
    assert report["epsilon"] == replay(report) == synth.ledger.epsilon(toy_config.delta)
    assert toy_config.epsilon - 0.001 < report["epsilon"] <= toy_config.epsilon
    assert (report["unit"], report["secret_noise"]) == ("one row = one person", False)


def test_the_fits_of_one_object_add_up(
    synth: Synthesizer, toy_config: Config, toy_frame: pd.DataFrame, tmp_path: Path
) -> None:
    """Ten fits are ten noisy counts of the same records; all but the last used to be forgotten."""
    delta, first = toy_config.delta, synth.ledger
    assert synth.earlier_fits == () and "earlier_fits" not in synth.report()
    assert (
        repr(synth) == f"<Synthesizer of 'toy': fitted, epsilon {first.epsilon(delta):.4g} at "
        "delta 1e-05>"
    )
    synth.fit(toy_frame, seed=2)
    both = rdp_epsilon([*first.events, *synth.ledger.events], delta)[0]
    assert synth.earlier_fits == (first,) and both > synth.ledger.epsilon(delta)
    report = synth.report()
    assert report["epsilon_of_all_fits"] == both and report["epsilon"] == replay(report) < both
    assert f", {both:.4g} with 1 earlier fits>" in repr(synth)

    few = pd.concat([toy_frame[:50], toy_frame[-50:]])
    with pytest.raises(UserError, match="too few records"):
        synth.fit(few, seed=3)
    assert [event.stage for event in synth.ledger.events] == ["marginals"]
    assert "not fitted, epsilon" in repr(synth) and "with 2 earlier fits" in repr(synth)
    synth.fit(toy_frame, seed=4)
    assert [len(fit.events) for fit in synth.earlier_fits] == [3, 3, 1]

    synth.save(tmp_path)
    again = Synthesizer.load(tmp_path)
    assert again.report() == synth.report() and repr(again) == repr(synth)
    shown = read_source(tmp_path)
    assert [past.events for past in shown.earlier] == [fit.events for fit in synth.earlier_fits]
    again.fit(toy_frame, seed=5)
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


def test_a_release_is_never_overwritten(synth: Synthesizer, tmp_path: Path) -> None:
    synth.save(tmp_path)
    with pytest.raises(UserError, match="release: exists; choose another folder"):
        synth.save(tmp_path)


def test_save_waits_for_no_other_process_in_its_folder(synth: Synthesizer, tmp_path: Path) -> None:
    """It used to write a release into the folder of a run that was going on."""
    with run_lock(tmp_path / "run"):
        with pytest.raises(UserError, match=r"run: a run is going on here \(process \d+\); wait"):
            synth.save(tmp_path / "run")
        assert [path.name for path in (tmp_path / "run").iterdir()] == [LOCK]
    synth.save(tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["release"]


def test_save_holds_its_folder(
    synth: Synthesizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other: list[str] = []

    def meanwhile(*_: object) -> None:
        with pytest.raises(UserError) as caught, run_lock(tmp_path / "run"):
            raise AssertionError
        other.append(str(caught.value))
        raise OSError

    monkeypatch.setattr("rdpjax.synthesizer.write_generator", meanwhile)
    with pytest.raises(UserError):
        synth.save(tmp_path / "run")
    assert "a run is going on here" in other[0]
    assert list(tmp_path.iterdir()) == []


def test_save_leaves_an_unfinished_run_alone(synth: Synthesizer, tmp_path: Path) -> None:
    """Its --resume would have taken the release for its own."""
    (tmp_path / "internal").mkdir()
    (tmp_path / "internal" / "keys.json").write_text("{}")
    with pytest.raises(UserError, match="holds an unfinished run; choose another folder"):
        synth.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["internal"]


def test_an_unwritable_place_is_the_users_to_mend(synth: Synthesizer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write there"):
        synth.save(tmp_path / "file" / "run")


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


def test_load_wants_a_completed_run(synth: Synthesizer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no generator there"):
        Synthesizer.load(tmp_path / "nothing")
    synth.save(tmp_path)
    path = tmp_path / "release" / "privacy.json"
    report = json.loads(path.read_text())
    path.write_text(json.dumps(report | {"epsilon": 0.1}))
    with pytest.raises(UserError, match=r"claims epsilon 0\.1, but its events cost"):
        Synthesizer.load(tmp_path)
    path.write_text("{")
    with pytest.raises(UserError, match=r"privacy\.json: no JSON"):
        Synthesizer.load(tmp_path)


def test_a_run_folder_can_be_loaded(toy_config: Config, small_data: Path, tmp_path: Path) -> None:
    run(toy_config, Options(tmp_path, small_data, seed=1, overwrite=True), quiet=True)
    synth = Synthesizer.load(tmp_path)
    assert synth.schema == CARDIO and synth.config == toy_config
    rows = synth.sample(200, seed=1)
    assert set(rows) == set(CARDIO.names) and rows["ap_hi"].between(70, 240).all()
    report = json.loads((tmp_path / "release" / "privacy.json").read_text())
    assert synth.ledger.epsilon(report["delta"]) == pytest.approx(report["epsilon"], abs=1e-9)


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


# -- what a frame may hold -----------------------------------------------------------------------

SMALL = Schema(
    "small",
    (Numeric("height", "m", 0, 9), Categorical("k", ("a", "b")), Categorical("y", (0, 1))),
    label="y",
)
FRAME = pd.DataFrame({"height": [1.0, 2.0, 3.0], "k": ["a", "b", "a"], "y": [1, 0, 1]})
CELLS = [[1, 0, 1], [2, 1, 0], [3, 0, 1]]


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"y": [True, False, True]},
        {"y": [1.0, 0.0, 1.0]},
        {"y": pd.array([1, 0, 1], "Int64")},
        {"y": pd.array([True, False, True], "boolean")},
        {"y": np.array([1, 0, 1], object)},
        {"k": pd.Categorical(["a", "b", "a"])},
        {"k": pd.array(["a", "b", "a"], "string")},
        {"height": ["1", "2", "3"]},
        {"height": [1, 2, 3]},
        {"height": pd.array([1, 2, 3], "Float64")},
    ],
    ids=str,
)
def test_the_same_records_in_other_kinds_of_columns(changed: dict[str, Any]) -> None:
    """A bool label used to become level 0 throughout, without a word."""
    clean = check_frame(SMALL, FRAME.assign(**changed))
    assert encode_cells(SMALL, clean).tolist() == CELLS


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"height": [1, "two", 3]}, "row 1, column 'height': 'two' is no finite number"),
        ({"height": [1, 2, np.inf]}, "row 2, column 'height': inf is no finite number"),
        ({"height": [np.nan, 2, 3]}, "row 0, column 'height': nan is no finite number"),
        ({"height": pd.array([1, None, 3], "Int64")}, "row 1, column 'height': <NA> is no finite"),
        (
            {"height": pd.to_datetime(["2020", "2021", "2022"])},
            "row 0, column 'height': 2020-01-01",
        ),
        ({"k": ["a", "c", "b"]}, "row 1, column 'k': 'c' is no level; levels are 'a', 'b'"),
        ({"k": pd.array(["a", None, "b"], "string")}, "row 1, column 'k': <NA> is no level"),
        ({"y": [0, 2, 1]}, "row 1, column 'y': 2 is no level; levels are 0, 1"),
        ({"y": pd.array([1, None, 0], "Int64")}, "row 1, column 'y': <NA> is no level"),
        ({"y": ["0", "1", "0"]}, "row 0, column 'y': '0' is no level; levels are 0, 1 (numbers)"),
        ({"k": ["a", "a ", "b"]}, "row 1, column 'k': 'a ' is no level; levels are 'a', 'b'"),
        ({"y": pd.Series([1, 0, 2], dtype="int8")}, "row 2, column 'y': 2 is no level"),
    ],
    ids=str,
)
def test_a_bad_value_is_named(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_frame(SMALL, FRAME.assign(**changed))
    assert str(caught.value).startswith(message)


def test_a_missing_misspelt_or_doubled_column_is_named() -> None:
    with pytest.raises(UserError, match=r"column 'height' is missing; did you mean 'heigth'\?"):
        check_frame(SMALL, FRAME.rename(columns={"height": "heigth"}))
    with pytest.raises(UserError, match="column 'y' is missing"):
        check_frame(SMALL, FRAME.drop(columns="y"))
    with pytest.raises(UserError, match="column 'height' stands twice"):
        check_frame(SMALL, pd.concat([FRAME, FRAME[["height"]]], axis=1))


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


@pytest.mark.parametrize("written", [[1, 0, 1], [True, False, True], [1.0, 0.0, 1.0]], ids=str)
def test_booleans_and_numbers_are_taken_for_each_other(written: list[Any]) -> None:
    truths = dataclasses.replace(
        SMALL, columns=(*SMALL.columns[:2], Categorical("y", [False, True]))
    )
    for schema in (SMALL, truths):
        clean = check_frame(schema, FRAME.assign(y=written))
        assert encode_cells(schema, clean).tolist() == CELLS


def test_it_is_shown_in_a_line_and_not_pickled(synth: Synthesizer) -> None:
    assert repr(synth).startswith("<Synthesizer of 'toy': fitted, epsilon ")
    for use in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(UserError, match=r"use save\(path\) and Synthesizer.load\(path\)"):
            use(synth)


def test_values_keep_their_kinds_through_fit_and_save(
    toy_config: Config, toy_frame: pd.DataFrame, tmp_path: Path
) -> None:
    """Levels as numpy has them used to fail in `save`, after the budget was spent."""
    schema = Schema(
        "toy",
        (
            Numeric("low", "kg", 0, 20, resolution=0.1),
            Numeric("high", "cm", 0, 90),
            Categorical("ward", toy_frame["ward"].unique()),
            Categorical("late", np.array([False, True])),
            Categorical("ill", np.sort(toy_frame["ill"].unique())),
        ),
        label="ill",
    )
    frame = toy_frame.assign(late=toy_frame["high"] > 40)
    rows = Synthesizer(schema, config=toy_config).fit(frame, seed=1).sample(300, seed=1)
    assert [kind.kind for kind in rows.dtypes][:2] == ["f", "i"]
    assert [rows["late"].dtype.kind, rows["ill"].dtype.kind] == ["b", "i"]
    assert set(rows["ward"]) <= set(frame["ward"]) and (rows["low"] % 1 > 0).mean() > 0.5
    assert (rows["low"].round(1) == rows["low"]).all()
    synth = Synthesizer(schema, config=toy_config).fit(frame, seed=1)
    synth.save(tmp_path)
    again = Synthesizer.load(tmp_path)
    assert again.schema == schema
    pd.testing.assert_frame_equal(again.sample(300, seed=1), rows)


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
    for schema in (bare, many):
        assert list(Synthesizer(schema).config.stages) == ["vae"]
    assert list(Synthesizer(toy_schema).config.stages) == ["vae", "gan", "labeler"]


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
