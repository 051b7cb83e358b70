import dataclasses
import json
import stat

import pytest

from rdpjax import evaluate
from rdpjax.codecs.table import TableEncoding
from rdpjax.config import Config
from rdpjax.data.cardio import CARDIO, KAGGLE_LAYOUT
from rdpjax.data.simulate import simulate_cardio
from rdpjax.data.tokenizer import Marginals
from rdpjax.datasets import cardio_evaluation
from rdpjax.fitting.generator import Generator
from rdpjax.fitting.raking import Tilt
from rdpjax.privacy.events import Event
from rdpjax.privacy.report import privacy_report
from rdpjax.runs.generator_file import write_generator


@pytest.fixture(scope="module")
def texts():
    lines = simulate_cardio(400, seed=1).splitlines(keepends=True)
    head, rows = lines[0], lines[1:]
    made = simulate_cardio(200, seed=2)
    return {"source": head + "".join(rows), "held": head + "".join(rows[::4]), "made": made}


@pytest.fixture
def run(tmp_path, texts):
    folder = tmp_path / "run"
    (folder / "release").mkdir(parents=True)
    (folder / "internal").mkdir(mode=0o700)
    (folder / "release" / "synthetic.csv").write_text(texts["made"])
    shares = Marginals.uniform(CARDIO, 1000.0)
    made = Generator(Config(), CARDIO, shares, {}, TableEncoding(CARDIO), tilt=Tilt.none(12, 32))
    write_generator(folder / "release", made)
    write_report(folder, source="simulated", format=KAGGLE_LAYOUT.to_dict())
    (folder / "internal" / "holdout.csv").write_text(texts["held"])
    return folder


def write_report(run, **declarations):
    """The `privacy.json` of a run with one measurement."""
    report = privacy_report(
        [Event("marginals", "gaussian", 1.0, 3.0, 1.0, 1)],
        1e-5,
        unit="one row",
        secret_noise=True,
        declarations=declarations,
        versions={},
    )
    (run / "release" / "privacy.json").write_text(json.dumps(report))


@pytest.fixture
def recorded(monkeypatch):
    """The frames that would be scored; scoring itself has its own tests."""
    calls = []

    def noted(synthetic, real_test, schema, *, real_train, progress):
        calls.append((synthetic, real_test, schema, real_train))
        progress("slow part")
        return {"note": "computed without privacy"}

    monkeypatch.setattr(cardio_evaluation, "score", noted)
    kind = cardio_evaluation.CARDIO_EVALUATION
    shown = dataclasses.replace(kind, show=lambda scores: f"TABLE {scores}")
    monkeypatch.setattr(cardio_evaluation, "CARDIO_EVALUATION", shown)
    return calls


def error(argv, capsys) -> str:
    assert evaluate.main([str(word) for word in argv]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("rdpjax: error: ") and said.err.count("\n") == 1
    return said.err


def test_a_run_is_scored_on_its_hold_out_into_its_internal_folder(run, recorded, capsys, tmp_path):
    assert evaluate.main([str(run), "--json", str(tmp_path / "out.json")]) == 0
    synthetic, real, schema, train = recorded[0]
    assert (len(synthetic), len(real), schema, train) == (200, 100, CARDIO, None)
    assert list(synthetic.columns)[:5] == ["age", "gender", "height", "weight", "ap_hi"]
    written = run / "internal" / "evaluation.json"
    expected = {"note": "computed without privacy", "source": "simulated"}
    assert json.loads(written.read_text()) == expected
    assert json.loads((tmp_path / "out.json").read_text()) == expected
    assert stat.S_IMODE(written.parent.stat().st_mode) == 0o700
    assert sorted(p.name for p in written.parent.iterdir()) == ["evaluation.json", "holdout.csv"]
    said = capsys.readouterr()
    assert said.out.startswith("TABLE") and said.err == "slow part\n"


def test_a_run_without_privacy_is_scored_too(run, recorded, capsys):
    synthetic = run / "release" / "synthetic.csv"
    synthetic.rename(synthetic.with_name("not-private-synthetic.csv"))
    (run / "release").rename(run / "unprotected")
    assert evaluate.main([str(run), "--quiet"]) == 0
    assert json.loads((run / "internal" / "evaluation.json").read_text())["source"] == "simulated"


def test_training_rows_are_the_source_without_the_hold_out(run, recorded, texts, tmp_path):
    (tmp_path / "source.csv").write_text(texts["source"])
    assert evaluate.main([str(run), "--train", str(tmp_path / "source.csv"), "--quiet"]) == 0
    assert len(recorded[0][3]) == 300


def test_two_files_are_scored_without_a_run(recorded, texts, tmp_path, capsys):
    for name in ("held", "made"):
        (tmp_path / name).write_text(texts[name])
    files = ["--real", str(tmp_path / "held"), "--synthetic", str(tmp_path / "made")]
    assert evaluate.main([*files, "--quiet"]) == 0
    assert len(recorded[0][0]) == 200 and capsys.readouterr().err == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["held", "made"]


def test_other_real_records_may_stand_in_for_the_hold_out(run, recorded, texts, tmp_path):
    (run / "internal" / "holdout.csv").unlink()
    (tmp_path / "real.csv").write_text(texts["source"])
    assert evaluate.main([str(run), "--real", str(tmp_path / "real.csv")]) == 0
    assert len(recorded[0][1]) == 400


@pytest.mark.parametrize("content", [None, "", "id;age\n"])
def test_no_hold_out(run, capsys, content):
    path = run / "internal" / "holdout.csv"
    path.unlink()
    if content is not None:
        path.write_text(content)
    assert "--holdout 0" in error([run], capsys)


def test_missing_and_contradicting_inputs(run, capsys, tmp_path):
    assert "give a run folder, or both" in error([], capsys)
    assert "give a run folder, or both" in error(["--real", "x"], capsys)
    assert "no-such: no such run folder" in error([tmp_path / "no-such"], capsys)
    assert "not both" in error([run, "--synthetic", "x"], capsys)
    assert "no-such.csv: no such file" in error([run, "--train", tmp_path / "no-such.csv"], capsys)
    (run / "release" / "synthetic.csv").unlink()
    assert "synthetic.csv: no such file" in error([run], capsys)


def test_a_run_of_an_unknown_data_set(run, capsys):
    path = run / "release" / "generator" / "config.toml"
    path.write_text(path.read_text().replace('dataset = "cardio"', 'dataset = "other"', 1))
    assert "dataset: unknown 'other'; known are cardio, sepsis" in error([run], capsys)


def test_one_class_is_refused(run, capsys):
    path = run / "internal" / "holdout.csv"
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([head, *(row[:-1] + "1" for row in rows)]) + "\n")
    assert "cardio" in error([run, "--quiet"], capsys)


def test_a_file_that_cannot_be_written(run, recorded, capsys, tmp_path):
    assert evaluate.main([str(run), "--quiet", "--json", str(tmp_path / "no" / "a.json")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_a_run_that_does_not_say_its_source(run, recorded, capsys):
    write_report(run, format=KAGGLE_LAYOUT.to_dict())
    assert "does not say `source`" in error([run, "--quiet"], capsys)


@pytest.mark.slow
def test_everything_together(run, capsys):
    assert evaluate.main([str(run)]) == 0
    out = capsys.readouterr().out
    assert "DO NOT PUBLISH" in out and "source: simulated" in out and "gradient boosting" in out


def test_a_changed_claim_is_refused(run, recorded, capsys):
    path = run / "release" / "privacy.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"epsilon": 0.1}))
    assert "claims epsilon 0.1, but its events cost" in error([run, "--quiet"], capsys)
    assert not recorded
