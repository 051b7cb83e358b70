"""Verification: sound accountants pass, planted errors and faulty answers fail."""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rdpjax.accounting.compare import gaussian_limit
from rdpjax.accounting.exact.loss_sampling import Step
from rdpjax.accounting.verify import curve_laws, epsilon_laws, own_laws
from rdpjax.accounting.verify.candidate import Candidate, Fault, load, our_pld, our_rdp
from rdpjax.accounting.verify.curve_laws import (
    FRACTIONS,
    GRID,
    INTEGERS,
    curve_checks,
    least,
    quadrature,
)
from rdpjax.accounting.verify.epsilon_laws import epsilon_checks
from rdpjax.accounting.verify.own_laws import own_checks
from rdpjax.accounting.verify.properties import Check, judge
from rdpjax.accounting.verify.verify import as_text, verify
from rdpjax.errors import UserError
from rdpjax.privacy.accountants import orders
from rdpjax.privacy.events import Event, round_up_rate
from tests.privacy.wrong_accountants import (
    ERRORS,
    MISREAD,
    MISTAKEN,
    WHEN,
    classic,
    failures,
    found_out,
    improved,
    planted,
    wrong,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _quick(request: Any, caplog: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No warnings of orders left out; fewer simulated runs, which only widens the band."""
    if "slow" not in request.keywords:
        monkeypatch.setattr(epsilon_laws, "DRAWS", 2000)
        monkeypatch.setattr(curve_laws, "POINTS", 40)
    with caplog.at_level("ERROR"):
        yield


@pytest.mark.parametrize("error", [*MISREAD, *MISTAKEN])
def test_errors_far_from_the_common_plans_are_found(error: str) -> None:
    assert found_out(wrong(improved(), error))


@pytest.mark.slow
@pytest.mark.parametrize("error", [*MISREAD, *MISTAKEN])
def test_errors_far_from_the_common_plans_are_found_in_ours(error: str) -> None:
    assert found_out(wrong(our_rdp(), error))


@pytest.mark.parametrize(("low", "high"), [(1e-4, 1e-3), (0.0011, 0.0099), (0.51, 0.99)])
def test_errors_between_the_points_of_the_grid_are_found(low: float, high: float) -> None:
    def halved(steps: Sequence[Step]) -> list[Step]:
        return [(round_up_rate(q / 2) if low < q < high else q, s, n) for q, s, n in steps]

    true = our_rdp()
    rdp = true.rdp_function
    assert rdp is not None
    curve = Candidate("it", true.epsilon_function, lambda steps, at: rdp(halved(steps), at))
    names = [check for check in curve_checks(curve) if "random plans" in check.name]
    assert failures(names) == [check.name for check in names] and len(names) == 2
    assert failures([c for c in curve_checks(true) if "random plans" in c.name]) == []


def test_a_random_plans_floor_is_below_the_quadrature() -> None:
    for rate, sigma in ((0.01, 1.0), (0.5, 2.0), (1.0, 4.0)):
        exact = [max(quadrature(rate, sigma)[order]) for order in FRACTIONS]
        floor = least(rate, sigma)
        assert (floor <= np.array(exact) * (1 + 1e-12)).all()
        assert (floor[2:] >= np.array(exact[2:]) * 0.5).all()  # it may be 0 below order 2


@pytest.mark.slow
def test_sound_accountants_keep_the_laws_of_epsilon() -> None:
    assert failures(epsilon_checks(our_rdp())) == []
    assert failures(epsilon_checks(improved())) == []
    assert failures(epsilon_checks(classic())) == []


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("error", ERRORS)
def test_planted_errors_are_found_from_epsilon_alone(error: str, when: str) -> None:
    for merge in (False, True):
        assert found_out(planted(improved(), error, when, merge=merge))


@pytest.mark.slow
@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("error", ERRORS)
def test_planted_errors_are_found_in_ours_and_in_loose_accountants(error: str, when: str) -> None:
    for base, merge in product((our_rdp(), classic()), (False, True)):
        assert found_out(planted(base, error, when, merge=merge))


@pytest.mark.slow
@pytest.mark.parametrize("error", ["one step too few", "C for 2C", "half of q"])
def test_planted_errors_are_found_in_tight_accountants(error: str) -> None:
    wrong_pld = dataclasses.replace(
        planted(our_pld(), error, "at two steps", merge=True), slow=True
    )
    laws = {check.name: check for check in epsilon_checks(wrong_pld)}
    assert not judge(laws["epsilon of two steps is at least exact"], "it").passed


def test_planted_errors_are_found_in_the_curve() -> None:
    """By the laws that take no quadrature; the whole grid is tried in a slow test."""
    laws = {c.name: c for c in curve_checks(planted(our_rdp(), "C for 2C", "always", merge=True))}
    assert not judge(laws["RDP at q = 1 is a / (2 sigma^2)"], "it").passed
    linear = "RDP of n steps is n times that of one; stages add"
    for error in ("one step too few", "one step too many"):
        for when in ("at one step", "at two steps"):
            wrong = planted(our_rdp(), error, when, merge=False)
            laws = {check.name: check for check in curve_checks(wrong)}
            assert not judge(laws[linear], "it").passed


def test_the_gaussian_limit_is_no_bound() -> None:
    def limit(steps: Sequence[Step], delta: float) -> float:
        events = [Event("x", "poisson_gaussian", q, s, 1.0, count) for q, s, count in steps]
        return gaussian_limit(events, delta)

    found = failures(epsilon_checks(Candidate("limit", limit)))
    assert "epsilon of one step is at least exact" in found
    assert any("sampled" in name for name in found)


def test_who_claims_that_all_is_free_fails_every_floor() -> None:
    found = failures(epsilon_checks(Candidate("free", lambda steps, delta: 0.0)))
    assert sum("at least exact" in name for name in found) == 3
    assert "epsilon rises with every stage, and as delta falls" in found


def raises(steps: Any, delta: float) -> float:
    raise RuntimeError("no\nway")


def leaves(steps: Any, delta: float) -> float:
    sys.exit(0)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda steps, delta: math.nan, "returned nan for [(1.0, 1.0, 1)], delta 0.001"),
        (lambda steps, delta: -0.5, "returned -0.5 for"),
        (lambda steps, delta: math.inf, "returned inf for"),
        (lambda steps, delta: None, "raised TypeError (float() argument"),
        (raises, "raised RuntimeError (no way) for [(1.0, 1.0, 1)], delta 0.001"),
        (leaves, "raised SystemExit (0) for [(1.0, 1.0, 1)], delta 0.001"),
    ],
)
def test_faulty_answers_fail_with_the_plan_that_was_asked(function: Any, message: str) -> None:
    found = judge(epsilon_checks(Candidate("it", function))[0], "it")
    assert not found.passed and found.deviation is None
    assert message in found.worst and "\n" not in found.worst


@pytest.mark.parametrize(
    ("curve", "message"),
    [
        (lambda steps, at: [math.nan] * len(at), "returned nan for rdp of"),
        (lambda steps, at: [-1.0] * len(at), "returned -1 for rdp of"),
        (lambda steps, at: [1.0], r"returned shape \(1,\) for rdp of .* at 2 orders"),
        (lambda steps, at: "x", "raised ValueError"),
    ],
)
def test_faulty_curves_fail(curve: Any, message: str) -> None:
    with pytest.raises(Fault, match=message):
        Candidate("it", lambda steps, delta: 1.0, curve).rdp([(1.0, 1.0, 1)], [2.0, 3.0])


def test_plans_that_need_no_answer_may_be_refused_but_not_lied_about() -> None:
    def name(check: Check) -> bool:
        return check.name.startswith(("q = 0", "sigma = 0"))

    for function, passed in ((raises, True), (leaves, True), (lambda steps, delta: 1.0, False)):
        checks = list(filter(name, epsilon_checks(Candidate("it", function))))
        assert len(checks) == 2
        assert all(judge(check, "it").passed == passed for check in checks)


def test_what_an_accountant_prints_stays_off_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    def talks(steps: Any, delta: float) -> float:
        print("working")
        return 1.0

    candidate = Candidate("it", talks)
    assert candidate.epsilon([(1.0, 1.0, 1)], 1e-5) == candidate.unless_refused([], 1e-5) == 1.0
    out, err = capsys.readouterr()
    assert not out and err == "working\nworking\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory whose modules can be named."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("account", "give it as module:function"),
        (":epsilon", "give it as module:function"),
        ("nowhere_at_all:f", "cannot be imported: ModuleNotFoundError"),
        ("broken:f", "broken cannot be imported: ZeroDivisionError"),
        ("leaving:f", "leaving cannot be imported: SystemExit .0."),
        ("fine:epsilom", "has no 'epsilom'; did you mean 'epsilon'"),
        ("fine:number", "number is no function"),
        ("fine:odd", "its rdp is no function"),
    ],
)
def test_an_accountant_that_cannot_be_had_is_named(folder: Path, name: str, message: str) -> None:
    (folder / "broken.py").write_text("1 / 0\n")
    (folder / "leaving.py").write_text("import sys\nsys.exit(0)\n")
    (folder / "fine.py").write_text(
        "number = 3\ndef epsilon(e, d): return 1.0\ndef odd(e, d): return 1.0\nodd.rdp = 7\n"
    )
    with pytest.raises(UserError, match=message) as refusal:
        load(name)
    assert str(refusal.value).startswith(f"--accountant {name}: ")
    assert "\n" not in str(refusal.value)


def example() -> str:
    """The accountant that docs/ACCOUNTING.md shows."""
    text = (ROOT / "docs" / "ACCOUNTING.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return code


TERM = "steps * one_step(q, sigma, a)"
DOCUMENTED = (
    "(steps - 1) * one_step(q, sigma, a)",
    "steps * one_step(q, sigma * 2, a)",
    "steps * one_step(q / 2, sigma, a)",
)


def test_the_documented_example_keeps_the_laws_of_epsilon(folder: Path) -> None:
    (folder / "mine.py").write_text(example())
    assert failures(epsilon_checks(load("mine:epsilon"))) == []
    for number, error in enumerate(DOCUMENTED):
        assert example().count(TERM) == 1
        (folder / f"wrong{number}.py").write_text(example().replace(TERM, error))
        assert failures(epsilon_checks(load(f"wrong{number}:epsilon")))


@pytest.mark.slow
def test_the_documented_example_passes_and_its_errors_do_not(folder: Path) -> None:
    (folder / "mine.py").write_text(example())
    found = verify(load("mine:epsilon"))
    assert len(found) == 25 and all(p.passed for p in found)
    for number, error in enumerate(DOCUMENTED):
        (folder / f"wrong{number}.py").write_text(example().replace(TERM, error))
        assert not all(p.passed for p in verify(load(f"wrong{number}:epsilon")))


@pytest.mark.slow
def test_ours_hold_every_property() -> None:
    heard: list[str] = []
    found = verify(say=heard.append)
    assert [p.name for p in found if not p.passed] == []
    assert len(heard) == len(found) == 49
    assert f"{len(found)} of {len(found)} properties hold" in as_text(found)


def quick_own_checks() -> list[Check]:
    """All but those that take the grid of quadratures, PLD or calibration."""
    slow = ("removing", "RDP is never", "calibration")
    return [check for check in own_checks() if not check.name.startswith(slow)]


def test_our_own_laws_hold() -> None:
    assert len(quick_own_checks()) == len(own_checks()) - 3
    assert failures(quick_own_checks()) == []


def test_a_mechanism_that_does_not_add_up_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """An accountant that ignores how often an event is repeated: a bug of a well-known library."""
    true = own_laws.compose

    def once(events: Any, at: Any = None) -> Any:
        return true([Event(**{**vars(e), "steps": 1}) for e in events], at)

    monkeypatch.setattr(own_laws, "compose", once)
    found = failures(quick_own_checks())
    for mechanism in ("gaussian", "poisson_gaussian", "discrete_gaussian"):
        assert f"{mechanism}: n-fold is n times one-fold" in found


def test_fractional_orders_on_the_lattice_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    true = own_laws.compose

    def leaky(events: Any, at: Any = None) -> Any:
        plain = [
            Event(**{**vars(e), "mechanism": e.mechanism.replace("poisson_discrete", "poisson")})
            for e in events
        ]
        return true(plain, at)

    monkeypatch.setattr(own_laws, "compose", leaky)
    assert failures(quick_own_checks()) == ["poisson_discrete_gaussian has integer orders only"]


def test_the_grid_is_what_is_promised() -> None:
    assert len(GRID) == 25 and set(INTEGERS) <= set(orders())


def test_the_largest_deviation_is_told_and_nan_is_the_largest() -> None:
    cases = [("a", -1.0), ("b", 0.5), ("c", 0.25)]
    found = judge(Check("x", 0.5, lambda: cases), "it")
    assert (found.passed, found.deviation, found.worst, found.cases) == (True, 0.5, "b", 3)
    assert not judge(Check("x", 0.4, lambda: cases), "it").passed
    found = judge(Check("x", 1.0, lambda: [*cases, ("d", math.nan)]), "it")
    assert (found.passed, found.worst) == (False, "d") and found.to_dict()["deviation"] is None
    assert not judge(Check("x", 1.0, lambda: []), "it").passed
    assert np.isnan(judge(Check("x", math.inf, lambda: [("d", math.nan)]), "it").deviation)
