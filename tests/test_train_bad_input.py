"""Every bad input that `python -m rdpjax.train` may meet: one clear line, exit 2, nothing left."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from rdpjax.privacy.ledger import read_ledger
from rdpjax.train import main

Rows = list[list[str]]


@pytest.fixture
def refused(
    tmp_path: Path, small_data: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Calls `main` with its flags, and returns the one line that it complains in."""

    def call(*flags: object, data: Path | None = small_data) -> str:
        before = sorted(tmp_path.rglob("*"))
        given = [] if data is None else ["--data", str(data)]
        where = [] if "--out" in flags else ["--out", str(tmp_path / "run")]
        assert main([*map(str, flags), *given, *where, "--quiet"]) == 2
        out, err = capsys.readouterr()
        assert not out and err.startswith("rdpjax: error: ") and err.count("\n") == 1, err
        assert sorted(tmp_path.rglob("*")) == before, "something was left behind"
        return err

    return call


@pytest.fixture
def written(tmp_path: Path, small_data: Path) -> Callable[..., Path]:
    """Writes the small table, changed by a function on its rows (header first), to a file."""

    def write(change: Callable[[Rows], object] = lambda rows: None, separator: str = ";") -> Path:
        rows = [line.split(";") for line in small_data.read_text().splitlines()[:1001]]
        change(rows)
        path = tmp_path / "table.csv"
        path.write_text("".join(separator.join(row) + "\n" for row in rows))
        return path

    return write


def cell(line: int, column: str, text: str) -> Callable[[Rows], None]:
    def change(rows: Rows) -> None:
        rows[line - 1][rows[0].index(column)] = text

    return change


def header(column: str, name: str) -> Callable[[Rows], None]:
    return cell(1, column, name)


def without(column: str) -> Callable[[Rows], None]:
    def change(rows: Rows) -> None:
        at = rows[0].index(column)
        for row in rows:
            del row[at]

    return change


def test_a_missing_file(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "none.csv: no such file; check --data" in refused(data=tmp_path / "none.csv")
    assert "holds no cardio_train.csv" in refused(data=tmp_path)


def test_a_missing_file_in_the_environment(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RDPJAX_DATA", "none.csv")
    assert "none.csv: no such file; check RDPJAX_DATA" in refused(data=None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "table.csv: the file is empty"),
        (b"\n \n", "table.csv: the file is empty"),
        (b"id;age;gender\n", "table.csv: only a header, no record"),
        (b"id:age:gender\n1:2:3\n", "separated by ':'; save the table with one of them between"),
        (b"\xff\xfei\x00d\x00", "UTF-16; save it as UTF-8"),
        (gzip.compress(b"id;age\n1;2\n" * 99, mtime=0)[:-9], "cut off or damaged"),
        (b"PK\x03\x04", "unpack it"),
    ],
)
def test_a_file_that_is_no_table(
    content: bytes, message: str, refused: Callable[..., str], tmp_path: Path
) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    assert message in refused(data=path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("ap_hi"), "the header has no column 'ap_hi'"),
        (header("weight", "wieght"), "no column 'weight'; did you mean 'wieght'?"),
        (header("weight", "height"), "names the column 'height' twice; remove one"),
        (header("weight", "sbp"), "columns 'sbp' and 'ap_hi' mean the same; remove one"),
        (cell(7, "height", "tall"), "line 7, column 'height': 'tall' is no finite number"),
        (cell(8, "age", "NaN"), "line 8, column 'age': 'NaN' stands for a missing value"),
        (cell(8, "age", ""), "line 8, column 'age': empty; fill it in"),
        (cell(9, "weight", "inf"), "line 9, column 'weight': 'inf' is no finite number"),
        (cell(9, "weight", "62,5"), "line 9, column 'weight': '62,5' is no number; write decimals"),
        (cell(5, "gluc", "4"), "line 5, column 'gluc': '4' is no level; levels are 1, 2, 3"),
        (cell(5, "cardio", "2"), "line 5, column 'cardio': '2' is no level; levels are 0, 1"),
        (lambda rows: rows[3].pop(), "line 4 has 12 fields where the header has 13"),
    ],
)
def test_a_table_that_does_not_fit_the_schema(
    change: Callable[[Rows], object],
    message: str,
    refused: Callable[..., str],
    written: Callable[..., Path],
) -> None:
    assert message in refused(data=written(change))


def test_a_wrong_separator(refused: Callable[..., str], written: Callable[..., Path]) -> None:
    assert "separated by blanks; save the table with one" in refused(data=written(separator=" "))


def one_class(rows: Rows) -> None:
    at = rows[0].index("cardio")
    for row in rows[1:]:
        row[at] = "1"


def too_few(rows: Rows) -> None:
    del rows[101:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (one_class, "label 'cardio': hardly any record has level 0, so there is one class"),
        (too_few, "too few records for the plan: fewer than 500 (noisy count)"),
    ],
)
def test_records_that_cannot_be_learnt_from(
    change: Callable[[Rows], object],
    message: str,
    written: Callable[..., Path],
    small_flags: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Judged by noisy counts, in the first stage: hence a budget with little noise."""
    shares = {"marginals": 0.4, "vae": 0.3, "gan": 0.1, "labeler": 0.2}
    budget = ["--epsilon=30", *(f"--shares.{name}={share}" for name, share in shares.items())]
    where = ["--data", str(written(change)), "--out", str(tmp_path / "run"), "--quiet"]
    assert main([*budget, *small_flags, *where]) == 2
    out, err = capsys.readouterr()
    assert not out and message in err and err.count("\n") == 1
    # What was measured has been read: all else is gone.
    kept = tmp_path / "run/internal/archive/000-ledger.jsonl"
    assert "this run cost epsilon " in err and err.endswith(f"its ledger is kept in {kept}\n")
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"DO_NOT_PUBLISH", kept.name}
    assert [event.stage for event in read_ledger(kept)] == ["marginals"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--epsilon 0", "epsilon is 0; it must be a positive, finite number"),
        ("--epsilon -1", "epsilon is -1; it must be"),
        ("--epsilon inf", "epsilon is inf; it must be"),
        ("--epsilon nan", "epsilon is nan; it must be"),
        ("--epsilon 0.002", "cannot be reached: it needs a noise multiplier above 10000"),
        ("--epsilon 0.05 --vae.steps 100000000", "cannot be reached: it needs a noise multiplier"),
        ("--epsilon 1e6", "cannot be reached: even a noise multiplier of 0.05 costs less"),
        ("--delta 0", "delta is 0"),
        ("--delta 1", "delta is 1"),
        ("--delta 1e-3 --records 3000", "delta is 0.001; it must be below 1 / records = 0.000333"),
        ("--shares.vae 0.99", ", vae 0.99, "),
        ("--shares.vae 0.99", "; they must sum to 1"),
        ("--shares.gan 0", "shares: gan is 0.0; it must be a positive number"),
        ("--epsilons vae 3 gan 4", "epsilons: none for stage 'labeler'"),
        ("--epsilons vae 3 gann 4", "epsilons: no stage 'gann'; did you mean 'gan'?"),
        (
            "--epsilon 1 --epsilons marginals 4 vae 4 gan 4 labeler 4",
            "epsilons: the total follows from those of the stages; leave out the total",
        ),
        (  # epsilons by themselves take the place of the shipped configuration's total
            "--epsilons marginals 1 vae 2 gan 3 labeler 4 --records 600",
            "too few records for the plan",
        ),
        ("--delta 1e-4 --records 11000", "delta is 0.0001; it must be below 1 / records"),
        ("--records 600", "too few records for the plan: fewer than 500 (public count)"),
        ("--batch-size 200", "batch_size needs the public number of records"),
        ("--batch-size 3001 --records 3000", "batch_size is 3001; it must lie between 1 and"),
        ("--dataset cardo", "dataset: unknown 'cardo'; did you mean 'cardio'?"),
        ("--derived bmi x", "derived: unknown 'x'; there are bmi, pp"),
        ("--holdout 1", "holdout is 1; it must lie in [0, 1)"),
        ("--rows 0", "rows is 0; ask for 1 or more"),
        ("--vae.steps 0", "vae.steps is 0; it must be 1 or more"),
        ("--vae.latent 0", "vae.latent is 0; it must be 1 or more"),
        ("--vae.learning-rate nan", "vae.learning_rate is nan; it must be finite"),
        ("--gan.noise 8", "gan.noise is 8; it must be vae.latent = 32 or more"),
        ("--vae.sampling-rate 0", "sampling_rate is 0; it must lie in (0, 1]"),
        ("--vae.clip-norm 0", "clip norm must lie in [1e-6, 1e6], got 0"),
        ("--resume", "no run to resume there; drop --resume"),
        ("--resume --overwrite", "give --resume or --overwrite, not both"),
        ("--device gpu", "--device gpu: no such device here; use --device cpu"),
    ],
)
def test_a_plan_that_cannot_be(flags: str, message: str, refused: Callable[..., str]) -> None:
    assert message in refused(*flags.split())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--epsilon x", "--epsilon: cannot take 'x'"),
        ("--rows 1.5", "--rows: cannot take '1.5'"),
        ("--seed x", "--seed: cannot take 'x'"),
        ("--epsilonn 1", "unrecognized options: --epsilonn, 1; did you mean --epsilon?"),
        ("--device gpuu", "invalid choice 'gpuu' for argument '--device'"),
        ("--version 1", "unrecognized options: --version, 1"),
        ("--epsilons vae", "--epsilons"),
        ("stray", "unrecognized options: stray"),
    ],
)
def test_flags_that_are_none(flags: str, message: str, refused: Callable[..., str]) -> None:
    assert message in refused(*flags.split())


def test_a_flag_without_its_value(capsys: pytest.CaptureFixture[str]) -> None:
    for flag, named in (("--config",) * 2, ("--epsilon",) * 2, ("--data", "--root/--data")):
        assert main([flag]) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"rdpjax: error: missing value for argument '{named}'"), err
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epsilonn = 1", "run.toml: unknown key 'epsilonn'; did you mean 'epsilon'?"),
        ("[vae]\nstep = 1", "run.toml [vae]: unknown key 'step'; did you mean 'steps'?"),
        ('stages = ["vea"]', "run.toml: unknown stage 'vea'; did you mean 'vae'?"),
        ("version = 3\nnovelty = 1", "run.toml: version 3 is newer than this rdpjax's 2; upgrade"),
        ("epsilon = ", "run.toml: not TOML"),
        ('epsilon = "5"', "run.toml: epsilon must be a number, got '5'"),
        ("epsilon = -1", "run.toml: epsilon is -1; it must be a positive, finite number"),
        ("\xff", "run.toml: cannot be read as UTF-8 text"),
    ],
)
def test_a_configuration_that_is_none(
    text: str, message: str, refused: Callable[..., str], tmp_path: Path
) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(text.encode("latin-1"))
    assert message in refused("--config", path)
    assert message in refused(f"--config={path}")


def test_a_missing_configuration(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "none.toml: no such configuration file" in refused("--config", tmp_path / "none.toml")


def test_a_place_that_cannot_be_written(
    refused: Callable[..., str], tmp_path: Path, small_run: tuple[Path, ...]
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for out in (file, file / "run", file / "runs" / "run"):
        said = refused("--out", out)
        assert f"{out}: cannot write there (" in said and "; choose another --out" in said
    assert "holds a run; give --resume, --overwrite or" in refused("--out", small_run[0])


def scaled(column: str, factor: float) -> Callable[[Rows], None]:
    def change(rows: Rows) -> None:
        at = rows[0].index(column)
        for row in rows[1:]:
            row[at] = f"{float(row[at]) * factor:.2f}"

    return change


def swapped(rows: Rows) -> None:
    high, low = rows[0].index("ap_hi"), rows[0].index("ap_lo")
    rows[0][high], rows[0][low] = "ap_lo", "ap_hi"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            scaled("height", 1 / 30.48),
            "column 'height': 100% of 1,000 values lie outside 120 to 21",
        ),
        (scaled("height", 1 / 2.54), "are clipped; in inches?; mend the table or the schema"),
        (scaled("age", -1), "column 'age': 100% of 1,000 values lie outside"),
        (
            scaled("age", -1),
            "with a wrong sign?; mend the table or the schema, or go on with --acc",
        ),
        (scaled("age", 12 / 365.25), "in months?"),
        (swapped, "of 1,000 rows break it; are the two columns swapped?"),
    ],
)
def test_a_column_in_another_unit(
    change: Callable[[Rows], None],
    message: str,
    refused: Callable[..., str],
    written: Callable[..., Path],
) -> None:
    """Read without a word, it used to cost a whole run around a constant."""
    assert message in refused(data=written(change))
