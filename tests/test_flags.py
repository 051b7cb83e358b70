"""Flags: their help, and one line for what tyro refuses."""

from __future__ import annotations

import dataclasses
import importlib
import re
from typing import Any

import pytest
import tyro

from rdpjax.config import Config
from rdpjax.errors import UserError
from rdpjax.flags import one_line, parsed
from rdpjax.train import Flags, main

BOX = """\
╭─ Value error ────────────────────────────╮
│ Error parsing --seed: no type matching   │
│ {None}|INT could be instantiated from    │
│ ['x'].                                   │
│                                          │
│ Got errors:                              │
│ - <class 'int'>: invalid literal         │
│ ──────────────────────────────────────── │
│ For full helptext, see --help            │
╰──────────────────────────────────────────╯
"""


@pytest.mark.parametrize("box", [BOX, re.sub("[╭╮╰╯│]", " ", BOX).replace("─", "-")])
def test_a_box_in_one_line(box: str) -> None:
    if "╭" not in box:  # as where the terminal has no boxes: the title has a line to itself
        box = "\n Value error \n ---------- \n" + box.split("\n", 1)[1]
    assert one_line(box) == "--seed: cannot take 'x'; --help lists the flags"


def test_no_box_at_all() -> None:
    assert one_line("") == "flags not understood; --help lists the flags"


def test_help_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("usage: python -m rdpjax.train")


def test_a_users_mistake_passes() -> None:
    def parse() -> Any:
        return tyro.cli(Flags, args=["--epsilon=0"], default=Flags(settings=Config()))

    with pytest.raises(UserError, match="epsilon is 0"):
        parsed(parse)


@pytest.mark.parametrize("name", ["train", "sample", "evaluate", "account", "audit", "schema"])
def test_no_help_tells_a_default_that_is_none(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    command = importlib.import_module(f"rdpjax.{name}").main
    verbs = {"account": ["show", "calibrate", "curve", "compare", "verify"]}
    verbs["audit"] = ["release", "gradient", "one-run", "replay"]
    for verb in verbs.get(name, [""]):
        with pytest.raises(SystemExit):
            command([*([verb] if verb else []), "--help"])
        said = capsys.readouterr().out
        assert "--" in said and "(default: False)" not in said and "(default: None)" not in said


def test_every_flag_of_train_says_what_it_is_and_what_it_is_by_default(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main(["--help"])
    text = re.sub(r"[^\S\n]+", " ", re.sub("[╭╮╰╯│|─]", " ", capsys.readouterr().out))
    flags = re.split(r"\n (?=--\w)", text)[1:]
    # A flag may have two names: --root PATH, --data PATH.
    names = {name for flag in flags for name in re.findall(r"--[\w.-]+", flag.split("\n")[0])}
    config = Config()
    settings = {f"--{name}.{key}" for name, stage in config.stages.items() for key in vars(stage)}
    wanted = {f"--{field.name}" for field in dataclasses.fields(Config)}
    wanted |= settings | {"--config", "--out", "--data", "--seed", "--resume", "--no-private"}
    wanted -= {"--version", "--stages", "--shares", "--private"}
    assert names >= {name.replace("_", "-") for name in wanted}
    assert "--version" not in names
    for flag in flags:
        flag = " ".join(flag.split())
        switch = re.match(r"--[\w-]+ [^A-Z\[{]", flag)
        assert switch or re.search(r"\(default: [^)]+\)", flag), flag
        if not flag.startswith("--shares."):  # these are explained together
            said = re.sub(r"^\S+( [A-Z\[{][^ ]*)*|\(default: .*", "", flag)
            assert len(said.split()) >= 2, flag
