"""The search: least noise, from above, within its tolerance, or a clear refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdpjax.errors import UserError
from rdpjax.privacy.search import smallest


@given(st.floats(0.3, 3), st.floats(0.01, 100), st.floats(0.1, 50), st.floats(0, 0.1))
def test_it_ends_just_above_the_root(
    power: float, root: float, start: float, tolerance: float
) -> None:
    target = root**-power
    found = smallest(
        lambda x: x**-power, target, start=start, least=1e-3, most=1e4,
        tolerance=tolerance * target, wanted="it",
    )  # fmt: skip
    assert found**-power <= target
    assert found <= root * (1 + 1e-6) or found**-power > target * (1 - tolerance) * (1 - 1e-12)


def test_jumps_and_flats_end_on_the_safe_side() -> None:
    found = smallest(
        lambda x: 5.0 if x < 2 else 1.0, 3, start=1, least=0.1, most=9, tolerance=1e-3, wanted="it"
    )
    assert 2 <= found < 2 * (1 + 1e-6)


@pytest.mark.parametrize(("value", "message"), [(2.0, "above 10000"), (0.5, "0.05 costs less")])
def test_out_of_reach_is_said(value: float, message: str) -> None:
    with pytest.raises(UserError, match=f"epsilon 1 cannot be reached: .*{message}"):
        smallest(lambda x: value, 1, start=1, least=0.05, most=1e4, tolerance=0, wanted="epsilon 1")
