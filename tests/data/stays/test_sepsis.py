"""What is public about the challenge's variables, and how readings are judged by it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rdpjax.data.stays.sepsis import BOUNDS, COLUMNS, STATICS, VARIABLES, Variable, readable

each_variable = pytest.mark.parametrize("variable", VARIABLES, ids=lambda v: v.name)
NUMBERS = st.floats(width=32, allow_nan=True, allow_infinity=True)


def test_columns_are_the_challenges_in_order() -> None:
    assert len(COLUMNS) == 41 and len(set(COLUMNS)) == 41
    assert COLUMNS[:8] == ("HR", "O2Sat", "Temp", "SBP", "MAP", "DBP", "Resp", "EtCO2")
    assert COLUMNS[34:] == (*STATICS, "ICULOS", "SepsisLabel")
    assert [v.kind for v in VARIABLES] == ["vital"] * 8 + ["laboratory"] * 26


@each_variable
def test_bounds_are_in_order_and_have_a_source(variable: Variable) -> None:
    assert variable.low < variable.usual < variable.high and variable.source
    assert variable.daily >= 1 and variable.step > 0


@each_variable
def test_cells_cover_the_bounds_and_hold_whole_steps(variable: Variable) -> None:
    edges, step = variable.edges, variable.step
    assert len(edges) == variable.cells + 1 and variable.cells >= 10
    assert edges[0] == pytest.approx(variable.low - step / 2)
    assert edges[-1] == pytest.approx(variable.high + step / 2)
    widths = np.diff(edges) / step
    assert (widths > 0.5).all()
    np.testing.assert_allclose(widths, np.rint(widths), atol=1e-6)


@each_variable
def test_a_step_lies_inside_a_cell_however_it_was_rounded(variable: Variable) -> None:
    """Half a step from any border: float32 and the decimals of a file cannot move it across."""
    steps = np.arange(round(variable.low / variable.step), round(variable.high / variable.step) + 1)
    exact = np.searchsorted(variable.edges, steps * variable.step, "right")
    for written in (
        (steps * variable.step).astype(np.float32),
        np.round(steps * variable.step, variable.decimals),
    ):
        np.testing.assert_array_equal(np.searchsorted(variable.edges, written, "right"), exact)
    assert exact.min() == 1 and exact.max() == variable.cells
    decimals = np.round(steps * variable.step, variable.decimals)
    np.testing.assert_allclose(decimals, steps * variable.step, atol=1e-9)


@given(arrays(np.float32, (3, 34), elements=NUMBERS))
def test_readings_lie_within_bounds_or_count_as_none(values: np.ndarray) -> None:
    found = readable(values)
    low, high = BOUNDS.T
    seen = ~np.isnan(found)
    assert ((found >= low) & (found <= high))[seen].all()
    assert not (seen & ~np.isfinite(values)).any()
    inside = (values >= low) & (values <= high)
    np.testing.assert_array_equal(found[inside], values[inside])
    np.testing.assert_array_equal(readable(found), found, "judging twice changes nothing")


@given(arrays(np.float32, (4, 34), elements=NUMBERS), st.integers(0, 3))
def test_every_reading_is_judged_by_itself(values: np.ndarray, row: int) -> None:
    np.testing.assert_array_equal(readable(values)[row], readable(values[row : row + 1])[0])


@each_variable
def test_what_is_a_slip_and_what_is_clipped(variable: Variable) -> None:
    j, span = VARIABLES.index(variable), variable.high - variable.low
    row = np.full((4, 34), np.nan)
    row[:, j] = (
        variable.low - 0.99 * span, variable.high + 0.99 * span,
        variable.low - 1.01 * span, variable.high + 1.01 * span,
    )  # fmt: skip
    found = readable(row)[:, j]
    assert found[:2].tolist() == [variable.low, variable.high] and np.isnan(found[2:]).all()
