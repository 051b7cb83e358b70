"""`python -m rdpjax.account`: what its verbs print, and what they refuse."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from rdpjax.account import main
from rdpjax.accounting.verify import epsilon_laws
from rdpjax.privacy.accountants import pld_epsilon, rdp_epsilon
from rdpjax.privacy.ledger import Event, Ledger
from rdpjax.privacy.report import privacy_report

ROOT = Path(__file__).parents[1]
EVENTS = (
    Event("marginals", "gaussian", 1.0, 8.0, 2.0, 1),
    Event("vae", "poisson_gaussian", 2**-6, 1.3, 0.5, 300),
)


def write_run(folder: Path, *, delta: float = 1e-5, unit: str = "one row", **change: Any) -> Path:
    (folder / "internal").mkdir(parents=True)
    (folder / "release").mkdir()
    ledger = Ledger.create(folder / "internal" / "ledger.jsonl")
    for event in EVENTS:
        ledger.open(event)
    report = privacy_report(
        ledger.events, delta, unit=unit, secret_noise=True, declarations={}, versions={}
    )
    (folder / "release" / "privacy.json").write_text(json.dumps(report | change))
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


def shown(capsys: pytest.CaptureFixture[str], *args: object) -> dict[str, Any]:
    assert main(["show", *map(str, args), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *args: object, verb: str = "show") -> str:
    assert main([verb, *map(str, args)]) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith("rdpjax: error: ") and err.count("\n") == 1
    return err


def test_every_form_of_a_run_shows_the_same(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = rdp_epsilon(EVENTS, 1e-5)
    for path in (run, run / "release", run / "release/privacy.json", run / "internal/ledger.jsonl"):
        found = shown(capsys, path)
        assert (found["epsilon"], found["order"]) == expected
        assert found["epsilon_pld"] == pld_epsilon(EVENTS, 1e-5)
        assert [a["stage"] for a in found["accesses"]] == ["marginals", "vae"]
        assert found["accesses"][1]["epsilon"] == rdp_epsilon([EVENTS[1]], 1e-5)[0]


def test_the_table_says_everything(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(run)]) == 0
    text = capsys.readouterr().out
    for part in ("marginals", "poisson_gaussian", "0.015625", "1.3", "300", "one row",
                 "add-or-remove-one", "1e-05", "RDP, order", "PLD", "naive sum"):  # fmt: skip
        assert part in text
    assert f"{rdp_epsilon(EVENTS, 1e-5)[0]:.3f}" in text


def test_several_runs_are_composed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write_run(run.parent / "other", unit="one patient")
    found = shown(capsys, run, other)
    assert found["epsilon"] == rdp_epsilon([*EVENTS, *EVENTS], 1e-5)[0]
    own = sum(access["epsilon"] for access in found["accesses"])
    assert found["epsilon_naive_sum"] == pytest.approx(own)
    assert found["units"] == ["one row", "one patient"]
    assert main(["show", str(run), str(other)]) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[0].split()[0] == "run" and str(other) in text


def test_archived_ledgers_are_listed_and_composed(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two published releases of one folder used to be shown as one."""
    alone = shown(capsys, run)
    assert alone["earlier"] == [] and alone["epsilon_of_all"] == alone["epsilon"]
    archive = run / "internal" / "archive"
    archive.mkdir()
    shutil.copy(run / "internal/ledger.jsonl", archive / "000-ledger.jsonl")
    shutil.copy(run / "release/privacy.json", archive / "000-privacy.json")
    Ledger.create(archive / "001-ledger.jsonl").open(EVENTS[0])
    found = shown(capsys, run)
    assert found["epsilon"] == alone["epsilon"] and len(found["accesses"]) == 2
    first, one = (rdp_epsilon(events, 1e-5)[0] for events in (EVENTS, EVENTS[:1]))
    assert [past["epsilon"] for past in found["earlier"]] == [first, one]
    assert [Path(past["source"]).name[:3] for past in found["earlier"]] == ["000", "001"]
    assert found["epsilon_of_all"] == rdp_epsilon([*EVENTS, *EVENTS, EVENTS[0]], 1e-5)[0]
    assert main(["show", str(run)]) == 0
    text = capsys.readouterr().out
    assert f"earlier             {one:.3f}  ({archive / '001-ledger.jsonl'})" in text
    assert f"with the earlier    {found['epsilon_of_all']:.3f}  (RDP, all mechanism runs)" in text

    # A release that `Synthesizer.save` wrote has a report and no ledger.
    (archive / "000-ledger.jsonl").unlink()
    assert sorted(past["epsilon"] for past in shown(capsys, run)["earlier"]) == [one, first]
    (archive / "001-ledger.jsonl").write_text("x\n")
    assert "001-ledger.jsonl: line 1 is no ledger entry" in refused(capsys, run)


def test_a_folder_in_which_every_run_was_refused_shows_what_they_cost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tmp_path / "internal" / "archive"
    archive.mkdir(parents=True)
    Ledger.create(archive / "000-ledger.jsonl").open(EVENTS[0])
    found = shown(capsys, tmp_path)
    assert found["accesses"] == [] and found["epsilon"] == 0
    assert found["epsilon_of_all"] == rdp_epsilon(EVENTS[:1], 1e-5)[0]
    assert main(["show", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("no mechanism run listed\n")
    assert "lists no mechanism run" in refused(capsys, tmp_path, verb="compare")


def test_delta_comes_from_the_flag_the_file_or_the_default(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_run(run.parent / "other", delta=1e-6)
    assert shown(capsys, other)["delta"] == 1e-6
    assert shown(capsys, other / "internal/ledger.jsonl")["delta"] == 1e-5
    assert shown(capsys, run, other, "--delta", "1e-7")["delta"] == 1e-7
    assert "different deltas (1e-06, 1e-05); give --delta" in refused(capsys, run, other)
    assert "delta is 1" in refused(capsys, run, "--delta", "1")


def test_a_run_in_progress_is_refused_unless_its_ledger_is_named(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(run / "release")
    path = run / "internal" / "ledger.jsonl"
    torn = path.read_bytes() + b'{"version": 1, "sta'
    path.write_bytes(torn)
    for verb in ("show", "curve", "compare"):
        message = refused(capsys, run, verb=verb)
        assert "still in progress" in message and str(path) in message
    assert shown(capsys, path)["epsilon"] == rdp_epsilon(EVENTS, 1e-5)[0]
    assert path.read_bytes() == torn


@pytest.mark.slow
def test_the_original_plan_before_any_data(capsys: pytest.CaptureFixture[str]) -> None:
    config = ROOT / "configs" / "cardio-original.toml"
    assert main(["show", str(config), "--records", "70000"]) == 0
    text = capsys.readouterr().out
    for part in ("5.041  (RDP", "4.518  (PLD)", "9.000", "70000 (public)", "versions "):
        assert part in text
    assert "delta is 1e-05; it must be below 1 / records" in refused(
        capsys, config, "--records", 100_000
    )
    assert "records is 0" in refused(capsys, config, "--records", 0)


def test_a_public_count_sets_the_rate_of_a_batch_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.toml"
    # Without noise, so that nothing is calibrated.
    config.write_text("batch_size = 400\nrecords = 20000\nprivate = false\n")
    found = shown(capsys, config, "--records", "40000")
    rates = {a["stage"]: a["sampling_rate"] for a in found["accesses"]}
    assert rates["vae"] == pytest.approx(0.01, rel=1e-7) and rates["marginals"] == 1
    assert found["records"] == 40000


def test_records_are_checked_against_delta_of_a_run_too(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown(capsys, run, "--records", "5000")["records"] == 5000
    assert "below 1 / records" in refused(capsys, run, "--records", "200000")


def test_versions_and_pld_that_is_not_available(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ledger.jsonl"
    Ledger.create(path).open(Event("vae", "poisson_discrete_gaussian", 0.25, 2.0, 1.0, 3))
    found = shown(capsys, path)
    assert found["epsilon_pld"] is None and found["epsilon"] > 0
    assert set(found["versions"]) == {"rdpjax", "dp-accounting", "numpy", "scipy"}
    assert main(["show", str(path)]) == 0
    assert "not available  (PLD)" in capsys.readouterr().out


def test_contradictions_are_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cheap = write_run(run.parent / "cheap", epsilon=0.1)
    assert "claims epsilon 0.1, but its events cost" in refused(capsys, cheap)
    more = Ledger.load(run / "internal" / "ledger.jsonl")
    more.open(dataclasses.replace(EVENTS[1], start=300))
    assert "list different mechanism runs" in refused(capsys, run)


def test_no_noise_is_infinite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ledger.jsonl"
    Ledger.create(path).open(Event("vae", "poisson_gaussian", 0.5, 0.0, float("inf"), 3))
    assert shown(capsys, path)["epsilon"] is None
    assert main(["show", str(path)]) == 0
    assert "nothing is private" in capsys.readouterr().out


def test_bad_paths_are_named(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "name a run folder" in refused(capsys)
    assert "given twice" in refused(capsys, run, run / "release" / "..")
    assert "no such file" in refused(capsys, tmp_path / "missing")
    assert "no such file" in refused(capsys, tmp_path / "missing.json")
    assert "neither release/privacy.json nor" in refused(capsys, tmp_path)
    for name, text, message in (
        ("a.txt", "x", "unknown kind of file"),
        ("a.json", "x", "no JSON"),
        ("b.json", "[]", "no privacy report"),
        ("c.json", "{}", "version is None"),
        ("a.jsonl", "x\n", "line 1 is no ledger entry"),
    ):
        (tmp_path / name).write_text(text)
        assert message in refused(capsys, tmp_path / name)


def printed(capsys: pytest.CaptureFixture[str], *args: object) -> dict[str, Any]:
    assert main([*map(str, args), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


STAGES = ("--stage", "vae", 0.04, 1500, "--stage", "gan", 0.02, 3000)


def test_calibrate_meets_a_total_jointly(capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(capsys, "calibrate", "--epsilon", 3, "--delta", 1e-6, *STAGES)
    assert 3 - 1e-3 < found["epsilon"] <= 3 and found["delta"] == 1e-6
    assert found["epsilon_naive_sum"] > 3
    noise = found["noise_multipliers"]
    assert noise == {a["stage"]: a["noise_multiplier"] for a in found["accesses"]}
    more = printed(
        capsys, "calibrate", "--epsilon", 3, "--delta", 1e-6, *STAGES,
        "--shares", "vae", 0.8, "gan", 0.2,
    )  # fmt: skip
    assert more["noise_multipliers"]["vae"] < noise["vae"]
    assert more["noise_multipliers"]["gan"] > noise["gan"]


def test_calibrate_a_configuration(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = ROOT / "configs" / "cardio.toml"
    found = printed(capsys, "calibrate", config, "--epsilon", 2)
    assert 2 - 1e-3 < found["epsilon"] <= 2
    assert list(found["noise_multipliers"]) == ["marginals", "vae", "gan", "labeler"]
    original = ROOT / "configs" / "cardio-original.toml"
    assert "give --shares for a total" in refused(capsys, original, verb="calibrate")
    shares = ("--shares", "vae", 0.5, "gan", 0.3, "labeler", 0.2)
    assert "give --epsilon, the total" in refused(capsys, original, *shares, verb="calibrate")
    bare = tmp_path / "bare.toml"
    bare.write_text("private = false\n")
    assert "private = false" in refused(capsys, bare, verb="calibrate")


@pytest.mark.slow
def test_calibrate_the_original_plan_to_a_total(capsys: pytest.CaptureFixture[str]) -> None:
    shares = ("--shares", "vae", 0.5, "gan", 0.3, "labeler", 0.2)
    original = ROOT / "configs" / "cardio-original.toml"
    found = printed(capsys, "calibrate", original, "--epsilon", 5, *shares)
    assert 5 - 1e-3 < found["epsilon"] <= 5


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "give a configuration, or --stage"),
        (STAGES, "give --epsilon"),
        (("--epsilon", 0, *STAGES), "epsilon is 0; it must be a positive"),
        (("--epsilon", -2, *STAGES), "epsilon is -2"),
        (("--epsilon", 3, "--delta", 1, *STAGES), "delta is 1"),
        (("--epsilon", 3, "--stage", "vae", 1.5, 10), "--stage vae: sampling_rate is 1.5"),
        (("--epsilon", 3, "--stage", "vae", 0, 10), "--stage vae: sampling_rate is 0"),
        (("--epsilon", 3, "--stage", "vae", 0.1, 0), "--stage vae: steps is 0"),
        (("--epsilon", 3, "--stage", "vae", 0.1, -3), "--stage vae: steps is -3"),
        (
            ("--epsilon", 3, "--stage", "vae", 0.1, -3, "--shares", "vae", 1),
            "--stage vae: steps is -3",
        ),
        (("--epsilon", 3, *STAGES, "--shares", "vae", 0.5), "shares are given for vae, but"),
        (("--epsilon", 3, "--stage", "vae", 0.1, "many"), "--stage"),
    ],
)
def test_calibrate_refuses(
    capsys: pytest.CaptureFixture[str], args: tuple[object, ...], message: str
) -> None:
    assert message in refused(capsys, *args, verb="calibrate")


def test_curve_prints_writes_and_draws(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    args = ("--stage", "vae", 0.125, 40, 3, "--stage", "hist", 1, 1, 8, "--of", "vae")
    args += ("--against", "sigma", "--values", 3, 6, "--delta", 1e-4)
    files = ("--csv", tmp_path / "x.csv", "--picture", tmp_path / "x.png")
    found = printed(capsys, "curve", *args, *files)
    first, second = found["points"]
    plan = [
        Event("vae", "poisson_gaussian", 0.125, 3.0, 1.0, 40),
        Event("hist", "poisson_gaussian", 1.0, 8.0, 1.0, 1),
    ]
    assert first["epsilon"] == rdp_epsilon(plan, 1e-4)[0] > second["epsilon"]
    assert (tmp_path / "x.csv").read_text().splitlines()[0] == "sigma,epsilon,order,epsilon_pld"
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert main(["curve", *map(str, args)]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0].split() == ["sigma", "RDP", "PLD"] and len(out.splitlines()) == 3
    assert "sigma 6: epsilon" in err


def test_curve_and_compare_refuse(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = ("--stage", "vae", 0.1, 10, 1)
    for verb in ("curve", "compare"):
        assert "name a run, ledger or configuration" in refused(capsys, verb=verb)
        assert "name a run, ledger or configuration" in refused(capsys, run, *plan, verb=verb)
        assert "adds no noise" in refused(capsys, "--stage", "vae", 0.1, 10, 0, verb=verb)
        assert "delta is 0" in refused(capsys, *plan, "--delta", 0, verb=verb)
        assert "sampling_rate is 2" in refused(capsys, "--stage", "v", 2, 1, 1, verb=verb)
    assert "the plan has several stages (marginals, vae); name the one to vary" in refused(
        capsys, run, verb="curve"
    )
    assert "'--against'" in refused(capsys, *plan, "--against", "epsilon", verb="curve")
    assert "name a .png" in refused(capsys, *plan, "--picture", "x.bmp", verb="curve")


def test_numbers_out_of_all_range_are_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "--stage a: noise_multiplier is 1e+200" in refused(
        capsys, "--stage", "a", 0.01, 100, 1e200, verb="compare"
    )
    assert "--values: " in refused(
        capsys, "--stage", "a", 0.01, 100, 1, "--against", "sigma", "--values", 1e155, verb="curve"
    )
    for digits in (400, 5000):
        config = ROOT / "configs" / "cardio-original.toml"
        assert "records" in refused(capsys, config, "--records", "9" * digits)
    path = tmp_path / "ledger.jsonl"
    path.touch()
    assert main(["show", str(path)]) == 0
    assert capsys.readouterr().out.startswith("no mechanism run listed\n")


def test_curve_computes_nothing_for_a_file_that_cannot_be_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    plan = ("--stage", "vae", 0.1, 10, 1)
    files = ("--csv", tmp_path / "x.csv", "--picture", tmp_path / "missing" / "x.png")
    assert "no folder" in refused(capsys, *plan, *files, verb="curve")
    assert list(tmp_path.iterdir()) == []


def test_compare_marks_every_figure(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = printed(capsys, "compare", run)
    worth = {o["accountant"]: o["worth"] for o in found["accountants"]}
    assert worth["RDP (dp-accounting)"] == worth["PLD (dp-accounting)"] == "bound"
    assert worth["Gaussian limit"] == "not a bound"
    assert found["accountants"][0]["epsilon"] == rdp_epsilon(EVENTS, 1e-5)[0]
    assert main(["compare", str(run)]) == 0
    assert "not a bound" in capsys.readouterr().out


def test_verify_ends_with_1_for_a_wrong_accountant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "always_one.py").write_text("def epsilon(events, delta): return 1.0\n")
    monkeypatch.setattr(epsilon_laws, "DRAWS", 200)
    assert main(["verify", "--accountant", "always_one:epsilon"]) == 1
    out, err = capsys.readouterr()
    assert "FAIL" in out and "properties hold" in out and " 1/13  FAIL" in err
    assert main(["verify", "--accountant", "always_one:epsilon", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] is False and len(found["properties"]) == 13


@pytest.mark.parametrize("name", ["nowhere_at_all:f", "always_one", "math:tau", "math:sine"])
def test_an_unknown_accountant_is_refused(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert f"--accountant {name}: " in refused(capsys, "--accountant", name, verb="verify")
