"""One run's settings: TOML in, TOML out, and the configurations that are shipped."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from rdpjax.account import main as account
from rdpjax.config import VERSION, Config
from rdpjax.config_file import load_config, parse_config
from rdpjax.datasets.cardio import CardioSettings
from rdpjax.errors import UserError
from rdpjax.generators.registry import stage_classes

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = sorted((ROOT / "configs").glob("*.toml"))

CHANGED = Config(
    microbatch=64,
    chunk_steps=9,
    block_rows=512,
    pool_rows=1_000,
    epsilon=1.5,
    delta=1e-6,
    records=70_000,
    batch_size=2_000,
    holdout=0.0,
    rows=7,
    data=CardioSettings(derived=("bmi", "pp")),
    label_source="generator",
    max_codes=40,
    private=False,
    shares={"marginals": 0.25, "vae": 0.75},
    stages={"vae": stage_classes()["vae"](steps=3, learning_rate=0.5)},
)


@pytest.mark.parametrize(
    "config",
    [
        Config(),
        CHANGED,
        Config(shares={}, epsilons={"marginals": 1.0, "vae": 2.0, "gan": 3.0, "labeler": 4.0}),
    ],
)
def test_toml_round_trip(config: Config) -> None:
    again = parse_config(config.to_toml())
    assert again == config
    assert list(again.stages) == list(config.stages)
    assert again.to_toml() == config.to_toml()


OWN = {"marginals": 1.0, "vae": 2.0, "gan": 3.0, "labeler": 4.0}


def with_total(text: str, epsilon: float) -> str:
    """A configuration file with a total put in."""
    return text.replace("[privacy]\n", f"[privacy]\nepsilon = {epsilon}\n")


@pytest.mark.parametrize("epsilon", [1.0, 5.0])
def test_a_total_beside_the_epsilons_of_stages_is_refused(epsilon: float) -> None:
    """Two meanings of epsilon: the stages' own used to win, without a word."""
    message = rf"epsilons: the total follows .*leave out the total \(epsilon = {epsilon}"
    with pytest.raises(UserError, match=message):
        Config(epsilon=epsilon, epsilons=OWN)
    with pytest.raises(UserError, match=f"config: {message}"):
        parse_config(with_total(Config(epsilons=OWN).to_toml(), epsilon))
    with pytest.raises(UserError, match=message):
        dataclasses.replace(Config(epsilon=epsilon), epsilons=OWN)
    assert dataclasses.replace(Config(), epsilon=None, epsilons=OWN).epsilon is None
    assert Config().epsilon == 5.0


def test_what_a_run_wrote_is_read_whatever_total_it_states() -> None:
    """Older runs wrote the default beside the epsilons, or what they cost together."""
    config = Config(shares={}, epsilons=OWN)
    assert "\nepsilon = " not in config.to_toml()
    for total in (5.0, 8.161):
        assert parse_config(with_total(config.to_toml(), total), written=True) == config
    assert parse_config("epsilon = 3.0", written=True).epsilon == 3.0
    assert Config().to_toml(spent=4.999) == Config().to_toml()


def test_a_released_configuration_is_one_to_train_with_again() -> None:
    """The composed total stood as a setting in it, so that `--config` refused the file."""
    config = Config(shares={}, epsilons=OWN)
    text = config.to_toml(spent=8.161)
    assert text.startswith("# The stages' epsilons cost together, by RDP: epsilon = 8.161 at delta")
    assert parse_config(text) == parse_config(text, written=True) == config
    assert text.splitlines()[1:] == config.to_toml().splitlines()


def test_every_field_is_written() -> None:
    text = CHANGED.to_toml()
    for field in dataclasses.fields(Config):
        if field.name != "epsilons":  # one of shares and epsilons is
            assert field.name in text
    for field in dataclasses.fields(CHANGED.stages["vae"]):
        assert f"\n{field.name} = " in text


def test_what_is_not_given_keeps_its_default() -> None:
    assert parse_config("") == Config()
    changed = parse_config("[gan]\nsteps = 7")
    assert changed.stages["gan"] == dataclasses.replace(Config().stages["gan"], steps=7)
    assert changed.stages["vae"] == Config().stages["vae"]


def test_a_whole_number_will_do_for_a_number() -> None:
    config = parse_config("epsilon = 3\n[vae]\nclip_norm = 2")
    assert (config.epsilon, config.stages["vae"].clip_norm) == (3.0, 2.0)
    assert isinstance(config.epsilon, float) and isinstance(config.stages["vae"].clip_norm, float)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epsilonn = 1", "config: unknown key 'epsilonn'; did you mean 'epsilon'?"),
        ("zzz = 1", "config: unknown key 'zzz'"),
        ("[gan]\nfake = 1", "config [gan]: unknown key 'fake'; did you mean 'fakes'?"),
        ("[diffusion]\nsteps = 1", "config: unknown key 'diffusion'"),
        ("stages = ['vae', 'labler']", "config: unknown stage 'labler'; did you mean 'labeler'?"),
        ("vae = 1", "config [vae]: must be a table"),
        ("rows = 1.5", "config: rows must be a whole number, got 1.5"),
        ("rows = true", "config: rows must be a whole number, got True"),
        ("records = '5'", "config: records must be a whole number, got '5'"),
        ("epsilon = true", "config: epsilon must be a number, got True"),
        ("private = 1", "config: private must be true or false, got 1"),
        ("dataset = 1", "config: dataset must be text, got 1"),
        ("derived = [1]", "config [data]: derived must be text, got 1"),
        (
            "label_source = 'x'",
            "config: label_source must be one of 'labeler', 'generator', got 'x'",
        ),
        ("shares = 1", "config: shares must be a table, got 1"),
        ("[shares]\nvae = 'x'", "config: shares.vae must be a number, got 'x'"),
        ("[vae]\nsteps = 0", "config: vae.steps is 0; it must be 1 or more"),
        ("delta = 2", "config: delta is 2"),
        ("max_codes = 1", "config: max_codes is 1; it must lie between 2 and 255"),
        ("records = 0", "config: records is 0; it must be 1 or more"),
        (f"records = {10**400}", "config: records is too large a number; it must be at most 2**53"),
        ("stages = ['gan', 'labeler']", "config: stages: gan needs the decoder of vae; keep vae"),
        ("stages = ['labeler']", "config: stages: none of them generates records; keep vae"),
        ("stages = ['vae']", "config: stages: no labeler; keep it or use label_source"),
        (f"version = {VERSION + 1}", f"config: version {VERSION + 1} is newer than this rdpjax's"),
        ("version = 'x'", "config: version must be a whole number, got 'x'"),
        (
            "epsilon = 5\n[epsilons]\nvae = 1",
            "config: epsilons: the total follows from those",
        ),
        ("[epsilons]\nvae = 1\ngan = 1\nlabeler = 1", "without marginals the number of records"),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_config(text)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_configurations_load(path: Path) -> None:
    config = load_config(path)
    assert load_config(path.name) == config, "by its name alone, from anywhere"
    assert parse_config(config.to_toml()) == config


def test_the_original_plan_costs_what_it_states(capsys: pytest.CaptureFixture[str]) -> None:
    path = str(ROOT / "configs" / "cardio-original.toml")
    assert account(["show", path]) == 0
    text = capsys.readouterr().out
    for part in ("5.041", "4.518", "9.0"):
        assert part in text
    assert account(["show", path, "--json"]) == 0
    statement = json.loads(capsys.readouterr().out)
    sigmas = [access["noise_multiplier"] for access in statement["accesses"]]
    assert sigmas == pytest.approx([0.7795, 0.7276, 0.8162], abs=5e-5)
    assert [access["steps"] for access in statement["accesses"]] == [5480, 6850, 2192]


def test_sections() -> None:
    """Each key has its section; the file of version 1 had none."""
    text = (
        'version = 2\n[data]\ndataset = "sepsis"\nmax_hours = 12\n[model]\n'
        'generator = "autoregressive"\n[model.autoregressive]\nsteps = 7\n[privacy]\n'
        "epsilon = 2.0\n[compute]\nmicrobatch = 32\n[release]\nrows = 9\n"
    )
    config = parse_config(text)
    assert (config.dataset, config.data.max_hours, config.epsilon) == ("sepsis", 12, 2.0)
    assert (config.stages["autoregressive"].steps, config.microbatch, config.rows) == (7, 32, 9)
    assert parse_config(config.to_toml()) == config
    old = parse_config('dataset = "cardio"\nage_unit = "days"\nderived = ["bmi"]\n')
    assert old.data == CardioSettings(age_unit="days", derived=("bmi",))
    assert old.version == VERSION and parse_config(old.to_toml()) == old


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[data]\nepsilon = 1", "config [data]: unknown key 'epsilon'"),
        ("[privacy]\nrows = 1", "config [privacy]: unknown key 'rows'; it belongs in [release]"),
        ("[privacy]\nepsilonn = 1", "unknown key 'epsilonn'; did you mean 'epsilon'?"),
        ("[model]\nrowz = 1", "config [model]: unknown key 'rowz'; did you mean 'rows'?"),
        ("[datum]\n[data]\n", "config: unknown section [datum]; did you mean 'data'?"),
        ("version = 2\nepsilon = 1", "unknown section [epsilon]; it belongs in [privacy]"),
        ("privacy = 1", "config [privacy]: must be a table"),
        ('[data]\ndataset = "sepsis"\nage_unit = "days"', "config [data]: unknown key 'age_unit'"),
        ('dataset = "sepsis"\nderived = ["bmi"]', "unknown key 'derived'"),
        ("[data]\nmax_hours = 3", "config [data]: unknown key 'max_hours'"),
        ("[data]\nage_unit = 3", "config [data]: age_unit must be one of"),
    ],
)
def test_what_stands_in_the_wrong_section_is_named(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_config(text)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_settings_of_another_data_set_are_refused() -> None:
    with pytest.raises(UserError, match="CardioSettings are no settings of the data set 'sepsis'"):
        Config(dataset="sepsis", data=CardioSettings())
