"""What the release tells, and what it must not: the promises of the claim, on whole runs."""

from __future__ import annotations

import dataclasses
import json
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rdpjax import account, train
from rdpjax.codecs.table import TableCodec
from rdpjax.config import Config
from rdpjax.data.cardio import CARDIO, read_cardio
from rdpjax.data.tokenizer import encode_cells, histogram
from rdpjax.fitting.plans import plan_events
from rdpjax.privacy.ledger import read_ledger
from rdpjax.privacy.report import replay
from rdpjax.runs.run import run
from rdpjax.runs.start import Options


def secrets_of(path: Path, data: Path) -> tuple[set[float], set[str]]:
    """Exact counts, and hashes, keys and names, that only `internal/` may know."""
    internal = path / "internal"
    total = len(read_cardio(data).frame)
    held = len(read_cardio(internal / "holdout.csv").frame)
    positives = int(read_cardio(data).frame["cardio"].sum())
    numbers = {total, held, total - held, positives, total - positives}
    facts = json.loads((internal / "run.json").read_text())
    keys = json.loads((internal / "keys.json").read_text())
    noise_ids = {
        json.loads(line)["noise_id"]
        for line in (internal / "ledger.jsonl").read_text().splitlines()
    }
    words = {facts["fingerprint"], facts["run"], data.parent.name + "/" + data.name, *noise_ids}
    words |= {value for value in keys.values() if isinstance(value, str) and value}
    return {float(n) for n in numbers}, words


def test_the_release_tells_no_count_hash_shape_or_key(small_run: Any, findings: Any) -> None:
    numbers, words = secrets_of(small_run.path, small_run.data)
    assert len(numbers) >= 4 and len(words) >= 7, "three keys are left, the noise root is not"
    assert findings(small_run.path / "release", numbers, words) == []


@pytest.mark.parametrize(
    "where", ["privacy.json", "synthetic.csv", "array", "shape", "cube", "rows", "word"]
)
def test_the_search_would_find_them(
    where: str, small_run: Any, findings: Any, tmp_path: Path
) -> None:
    """Sabotage: each kind of leak, planted."""
    numbers, words = secrets_of(small_run.path, small_run.data)
    count = int(max(numbers))
    if where == "privacy.json":
        (tmp_path / where).write_text(json.dumps({"records": count}))
    elif where == "synthetic.csv":
        (tmp_path / where).write_text(f"a;b\n1;{count}\n")
    elif where == "array":
        np.savez(tmp_path / "a.npz", a=np.array([1.0, count]))
    elif where == "shape":
        np.savez(tmp_path / "a.npz", a=np.zeros((2, count)))
    elif where == "cube":
        np.save(tmp_path / "a.npy", np.zeros((2, count)))
    elif where == "rows":
        pq.write_table(pa.table({"a": np.zeros(count)}), tmp_path / "a.parquet")
    else:
        (tmp_path / "schema.toml").write_text(f'x = "{sorted(words)[0]}"')
    assert len(findings(tmp_path, numbers, words)) == 1


def test_no_noisy_share_is_an_exact_one(small_run: Any) -> None:
    """Every histogram entry carries noise, and so does the count."""
    everything = read_cardio(small_run.data).frame
    held = read_cardio(small_run.path / "internal" / "holdout.csv").frame
    kept = everything.merge(held, how="left", indicator=True).query("_merge == 'left_only'")
    exact = histogram(CARDIO, encode_cells(CARDIO, kept[list(CARDIO.names)]))
    arrays = dict(np.load(small_run.path / "release" / "generator" / "arrays.npz"))
    records, deviation = arrays["marginals/scalars"]
    assert deviation > 1 and 0 < abs(records - exact[-1]) < 6 * deviation
    start = 0
    for column in CARDIO.columns:
        counts = exact[start : start + column.cells]
        start += column.bins
        noisy = arrays[f"marginals/shares/{column.name}"]
        assert not np.isin(noisy[noisy > 0], counts / exact[-1]).any(), column.name


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_internal_is_closed_and_the_noise_root_is_gone(small_run: Any) -> None:
    internal = small_run.path / "internal"
    assert mode(internal) == 0o700
    for path in internal.rglob("*"):
        assert mode(path) == (0o700 if path.is_dir() else 0o600), path
    assert json.loads((internal / "keys.json").read_text())["noise"] == ""
    released = {p.relative_to(small_run.path / "release").as_posix()
                for p in (small_run.path / "release").rglob("*") if p.is_file()}  # fmt: skip
    assert released == {
        "synthetic.csv", "privacy.json", "schema.toml", "generator/config.toml",
        "generator/arrays.npz",
    }  # fmt: skip


def test_the_noise_root_stays_if_it_is_asked_for(
    toy_config: Config, small_data: Path, tmp_path: Path
) -> None:
    run(toy_config, Options(tmp_path / "run", small_data, seed=1, keep_noise_key=True), quiet=True)
    keys = json.loads((tmp_path / "run" / "internal" / "keys.json").read_text())
    assert len(bytes.fromhex(keys["noise"])) == 32


def test_held_out_records_stand_as_they_stood_and_are_not_trained_on(
    toy_config: Config, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rdpjax.runs import run as module

    given: list[pd.DataFrame] = []
    original = module.fit

    def fit(config: Any, form: Any, frame: pd.DataFrame, **options: Any) -> Any:
        given.append(frame)
        return original(config, form, frame, **options)

    monkeypatch.setattr(module, "fit", fit)
    run(toy_config, Options(tmp_path / "run", small_data, seed=1), quiet=True)
    header, *records = small_data.read_text().splitlines()
    kept_header, *held = (tmp_path / "run/internal/holdout.csv").read_text().splitlines()
    assert kept_header == header and set(held) < set(records)
    assert len(held) == pytest.approx(0.2 * len(records), abs=100)
    rest = tmp_path / "rest.csv"
    rest.write_text("\n".join([header, *(r for r in records if r not in set(held)), ""]))
    pd.testing.assert_frame_equal(given[0], read_cardio(rest).frame)


def files(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (out / "release").rglob("*") if p.is_file()}


def changed(line: str) -> str:
    """The same id with another body and another label."""
    fields = line.split(";")
    return ";".join(
        [*fields[:3], "199", "190.5", "200", "70", *fields[7:-1], str(1 - int(fields[-1]))]
    )


def test_held_out_records_influence_nothing_that_is_released(
    toy_config: Config, small_data: Path, tmp_path: Path
) -> None:
    options = Options(tmp_path / "a", small_data, seed=1)
    run(toy_config, options, quiet=True)
    held = set((tmp_path / "a/internal/holdout.csv").read_text().splitlines()[1:])
    lines = small_data.read_text().splitlines()
    altered, gone, trained = (tmp_path / f"{n}.csv" for n in ("altered", "gone", "trained"))
    altered.write_text("\n".join(changed(line) if line in held else line for line in lines) + "\n")
    gone.write_text("\n".join(line for line in lines if line not in held) + "\n")
    one = next(i for i, line in enumerate(lines[1:], 1) if line not in held)
    trained.write_text("\n".join([*lines[:one], changed(lines[one]), *lines[one + 1 :]]) + "\n")
    for data in (altered, gone, trained):
        out = tmp_path / data.stem
        run(toy_config, dataclasses.replace(options, out=out, data=data), quiet=True)
    assert files(tmp_path / "altered") == files(tmp_path / "a") == files(tmp_path / "gone")
    assert files(tmp_path / "trained") != files(tmp_path / "a"), "a trained record does"


@pytest.mark.slow
def test_rows_released_are_asked_for_never_counted(
    toy_config: Config, small_data: Path, tmp_path: Path
) -> None:
    lines = small_data.read_text().splitlines(keepends=True)
    for records, rows in ((3001, 100), (1500, 1800)):
        data = tmp_path / "data.csv"
        data.write_text("".join(lines[:records]))
        out = tmp_path / f"{records} {rows}"
        run(dataclasses.replace(toy_config, rows=rows), Options(out, data, seed=1), quiet=True)
        assert (out / "release/synthetic.csv").read_bytes().count(b"\n") == rows + 1


def test_rows_by_default() -> None:
    assert Config().rows == 50_000


def test_every_statement_of_epsilon_agrees(
    small_run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = small_run.path
    assert train.main(["--resume", "--out", str(path), "--data", str(small_run.data),
                       "--config", str(path / "internal/config.toml"), "--quiet"]) == 0  # fmt: skip
    printed = float(re.findall(r"epsilon ([\d.]+) \(RDP", capsys.readouterr().out)[0])
    report = json.loads((path / "release/privacy.json").read_text())
    assert account.main(["show", str(path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    ledger = read_ledger(path / "internal" / "ledger.jsonl")
    assert report["epsilon"] == pytest.approx(printed, abs=1e-6)
    assert report["epsilon"] == pytest.approx(shown["epsilon"], abs=1e-6)
    assert report["epsilon"] == pytest.approx(replay(report), abs=1e-6)
    assert report["epsilon_pld"] == pytest.approx(shown["epsilon_pld"], abs=1e-6)
    config = small_run.config
    assert config.epsilon - 0.001 < report["epsilon"] <= config.epsilon
    assert list(ledger) == plan_events(config, TableCodec(CARDIO))
    assert report["events"] == [event.to_dict() for event in ledger]


def test_the_report_says_what_it_covers(small_run: Any) -> None:
    report = json.loads((small_run.path / "release/privacy.json").read_text())
    assert report["unit"] == "one row = one person"
    assert report["relation"] == "add-or-remove-one"
    assert report["covers"].startswith("one run with settings fixed in advance")
    assert report["secret_noise"] is True and report["private"] is True
    declared = report["declarations"]
    assert declared["source"] == "file" and declared["holdout"] == 0.2
    assert "records" not in declared, "the number of records was not declared public"
    assert set(declared["format"]) == {"separator", "header", "renamed", "identifier"}


def test_a_public_count_is_declared(toy_config: Config, small_data: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(toy_config, records=2400)
    run(config, Options(tmp_path / "run", small_data, seed=1), quiet=True)
    report = json.loads((tmp_path / "run/release/privacy.json").read_text())
    assert report["declarations"]["records"] == 2400


def test_the_release_is_not_chosen_by_looking_at_records(
    toy_config: Config, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the plots and warnings after it find, the release is there by then, unchanged."""
    from rdpjax.runs import run as module

    seen: list[dict[str, bytes]] = []
    original: Callable[..., Any] = module._finish

    def finish(*args: Any) -> Any:
        seen.append(files(tmp_path / "run"))
        return original(*args)

    monkeypatch.setattr(module, "_finish", finish)
    monkeypatch.setattr(module, "collapse_warnings", lambda *args: ["everything: collapsed"])
    summary = run(toy_config, Options(tmp_path / "run", small_data, seed=1), quiet=True)
    assert summary["warnings"] == ["everything: collapsed"]
    assert seen == [files(tmp_path / "run")]
