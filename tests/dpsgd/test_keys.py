from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rdpjax.dpsgd.keys import (
    ROOT_BYTES,
    Roots,
    StepKeys,
    as_key,
    derive,
    step_keys,
    stream_key,
)

ROOTS = Roots.make(5)
NAMES = [field.name for field in dataclasses.fields(Roots) if field.name != "secret"]


def words(raw: np.ndarray | jax.Array) -> list[tuple[int, ...]]:
    return [tuple(row) for row in np.asarray(raw).reshape(-1, 2).tolist()]


def test_roots_from_the_system_are_long_separate_and_secret():
    first, second = Roots.make(), Roots.make()
    roots = [getattr(made, name) for made in (first, second) for name in NAMES]
    assert len(set(roots)) == 2 * len(NAMES)
    assert {len(root) for root in roots} == {ROOT_BYTES} == {32}
    assert first.secret and second.secret


def test_roots_from_a_seed_are_reproducible_separate_and_say_so():
    assert Roots.make(1) == Roots.make(1) != Roots.make(2)
    made = Roots.make(1)
    assert len({getattr(made, name) for name in NAMES}) == len(NAMES)
    assert not made.secret


names = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=6)


@given(st.lists(st.tuples(names, names, st.integers(0, 10**6)), unique=True, max_size=20))
def test_distinct_triples_give_distinct_keys(triples: list[tuple[str, str, int]]):
    assert len({words(derive(ROOTS.noise, *triple))[0] for triple in triples}) == len(triples)


def test_names_do_not_run_into_each_other():
    assert words(derive(ROOTS.noise, "ab", "c")) != words(derive(ROOTS.noise, "a", "bc"))
    assert words(derive(ROOTS.noise, "a", "b1", 2)) != words(derive(ROOTS.noise, "a", "b", 12))
    for stage, purpose in (("a\x00b", "c"), ("a", "b\x00c")):
        with pytest.raises(ValueError, match="NUL"):
            derive(ROOTS.noise, stage, purpose)


def test_a_key_depends_on_its_root_and_is_replayed():
    assert words(derive(ROOTS.noise, "vae", "noise", 3)) == words(
        derive(ROOTS.noise, "vae", "noise", 3)
    )
    assert words(derive(ROOTS.noise, "vae", "noise", 3)) != words(
        derive(ROOTS.sampling, "vae", "noise", 3)
    )
    made = derive(ROOTS.noise, "vae", "noise", 3)
    assert (made.dtype, made.shape) == (np.uint32, (2,))


def test_chunks_do_not_change_the_keys_of_a_step():
    whole = step_keys(ROOTS, "vae", 0, 10)
    later = step_keys(ROOTS, "vae", 3, 4)
    for name in StepKeys._fields:
        assert getattr(whole, name).shape == (10, 2)
        np.testing.assert_array_equal(getattr(whole, name)[3:7], getattr(later, name))


def test_purposes_and_stages_have_keys_of_their_own():
    columns = [column for stage in ("vae", "gan") for column in step_keys(ROOTS, stage, 0, 30)]
    found = list(itertools.chain.from_iterable(words(column) for column in columns))
    assert len(found) == 2 * 4 * 30 == len(set(found))


def test_each_purpose_hangs_on_its_own_root():
    mixed = dataclasses.replace(ROOTS, noise=Roots.make(6).noise)
    changed = [
        (np.asarray(a) != np.asarray(b)).any()
        for a, b in zip(step_keys(ROOTS, "s", 0, 3), step_keys(mixed, "s", 0, 3), strict=True)
    ]
    assert dict(zip(StepKeys._fields, changed, strict=True)) == {
        "sampling": False,
        "noise": True,
        "loss": False,
        "update": False,
    }


def test_keys_are_threefry_keys():
    key = as_key(derive(ROOTS.noise, "vae", "noise"))
    assert "fry" in str(key.dtype)
    assert as_key(step_keys(ROOTS, "vae", 0, 4).noise).shape == (4,)


def test_the_noise_root_has_a_name_that_is_no_key():
    assert ROOTS.noise_id == Roots.make(5).noise_id != Roots.make(6).noise_id
    other = dataclasses.replace(ROOTS, sampling=Roots.make(6).sampling)
    assert other.noise_id == ROOTS.noise_id
    assert ROOTS.noise_id not in ROOTS.noise.hex()


@pytest.mark.parametrize("make", [derive, stream_key])
def test_a_root_that_was_deleted_gives_no_key(make: Callable[..., object]) -> None:
    """An empty key makes BLAKE2b a hash that anybody can compute: noise from it hides nothing."""
    with pytest.raises(ValueError, match="this root is gone"):
        make(b"", "vae", "noise", 3)
    with pytest.raises(ValueError, match="this root is gone"):
        _ = dataclasses.replace(Roots.make(1), noise=b"").noise_id
