"""What a person sees of a run in progress."""

from __future__ import annotations

import numpy as np
import pytest

from rdpjax.fitting import progress
from rdpjax.fitting.progress import ConsoleProgress, NoProgress, fit_progress


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setenv("COLUMNS", "200")
    return clock


def chunk(steps: int) -> dict[str, np.ndarray]:
    return {"loss": np.arange(steps), "clipped": np.zeros(steps)}


def test_rate_epsilon_and_time_left(clock, capsys) -> None:
    kept = []
    lines = ConsoleProgress({"marginals": 1, "vae": 200}, lambda *told: kept.append(told))
    lines.stage("marginals", 1)
    lines.advance("marginals", 1, 0.5, {})
    lines.stage("vae", 200)
    clock.now += 90  # the compiler's
    lines.advance("vae", 50, 1.25, chunk(50))
    clock.now += 10
    lines.advance("vae", 150, 1.5, chunk(100))
    clock.now += 10
    lines.advance("vae", 200, 2.0, chunk(50))
    out, err = capsys.readouterr()
    assert not out
    assert [" ".join(line.split()) for line in err.splitlines()] == [
        "marginals 1/1 steps epsilon so far 0.5000",
        "vae 50/200 steps epsilon so far 1.2500",
        "vae 150/200 steps epsilon so far 1.5000 10.0 steps/s, 5 s left",
        "vae 200/200 steps epsilon so far 2.0000 7.5 steps/s",
    ]
    assert [(name, start, len(metrics["loss"])) for name, start, metrics in kept] == [
        ("vae", 0, 50), ("vae", 50, 100), ("vae", 150, 50),
    ]  # fmt: skip


def test_a_resumed_stage_counts_its_own_steps_only(clock, capsys) -> None:
    lines = ConsoleProgress({"vae": 200}, lambda *told: None)
    lines.stage("vae", 200)
    clock.now += 10
    lines.advance("vae", 100, 1.0, chunk(50))
    clock.now += 10
    lines.advance("vae", 150, 1.0, chunk(50))
    assert "5.0 steps/s, 10 s left" in capsys.readouterr().err


def test_quiet_says_nothing_and_keeps_everything(clock, capsys) -> None:
    kept = []
    lines = ConsoleProgress({"vae": 50}, lambda *told: kept.append(told), quiet=True)
    lines.say("[red]hello")
    lines.stage("vae", 50)
    lines.advance("vae", 50, 1.0, chunk(50))
    assert capsys.readouterr() == ("", "")
    assert len(kept) == 1


def test_words_in_brackets_are_no_markup(clock, capsys) -> None:
    ConsoleProgress({}, lambda *told: None).say("column [red] is ignored")
    assert capsys.readouterr().err == "column [red] is ignored\n"


def test_a_fit_from_python_speaks_on_a_terminal_only(monkeypatch) -> None:
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    assert isinstance(fit_progress({"vae": 2}), ConsoleProgress)
    assert isinstance(fit_progress({"vae": 2}, quiet=True), NoProgress)
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: False, raising=False)
    assert isinstance(fit_progress({"vae": 2}), NoProgress)
