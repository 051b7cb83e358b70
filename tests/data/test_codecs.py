"""From records to the table: what is asked of them, in which order, and what one can change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from rdpjax.codecs import two_level
from rdpjax.codecs.table import TableCodec
from rdpjax.codecs.two_level import PROFILES, VALUES, TwoLevelCodec
from rdpjax.config import MARGINALS, Config
from rdpjax.config_file import load_config
from rdpjax.data.schema import Schema
from rdpjax.data.stays.filling import Filling
from rdpjax.data.stays.hour_profiles import BOUND
from rdpjax.data.stays.hour_values import values_sensitivity
from rdpjax.data.stays.patients import Patients
from rdpjax.data.tokenizer import Marginals, Tokenizer, histogram, sensitivity
from rdpjax.dpsgd import clipping
from rdpjax.dpsgd.ghost import clipped as ghost
from rdpjax.dpsgd.keys import Roots
from rdpjax.errors import UserError
from rdpjax.fitting import plans as planning
from rdpjax.fitting import session
from rdpjax.fitting.fit import fit
from rdpjax.fitting.generator import make_context
from rdpjax.fitting.plans import make_plans, target_of
from rdpjax.fitting.session import Session
from rdpjax.mechanisms import measurement
from rdpjax.mechanisms.measurement import Answer
from rdpjax.privacy.events import Event
from rdpjax.privacy.ledger import Ledger
from tests.exact import exact_encoding

Odd = Callable[[str, int, int], Patients]
Join = Callable[[Sequence[Patients]], Patients]

KINDS = ("constant", "alternating", "random", "sparse", "empty", "borders", "wild", "simulated")
NAMES = (VALUES, PROFILES, MARGINALS)


class Stop(Exception):
    """The run has come as far as the test wants."""


@cache
def config() -> Config:
    return load_config("sepsis.toml")


def run(patients: Patients, ledger: Ledger | None = None) -> None:
    settings = config()
    fit(
        settings,
        TwoLevelCodec(settings.data.max_hours, settings.data.label),
        patients,
        plans=make_plans(settings),
        session=Session(ledger or Ledger(target=target_of(settings)), Roots.make(1)),
    )


# -- what is asked, and in which order ------------------------------------------------------------


def test_a_table_is_its_records(toy_schema: Schema, toy_frame: pd.DataFrame) -> None:
    codec = TableCodec(toy_schema)
    assert codec.measurements == ()
    cells = codec.fit({}).cells(toy_frame)
    assert cells.shape == (len(toy_frame), len(toy_schema.columns))


def test_a_codec_is_refused_when_it_is_made() -> None:
    with pytest.raises(UserError, match="max_hours is 0"):
        TwoLevelCodec(0)


def test_what_is_declared_is_what_is_measured(crowd: Patients, hours: int) -> None:
    codec = TwoLevelCodec(hours)
    bounds = {each.name: each.sensitivity for each in codec.measurements}
    assert list(bounds.items()) == [("values", values_sensitivity()), ("profiles", BOUND)]
    encoding = exact_encoding(codec, crowd)
    assert isinstance(encoding.filling, Filling) and encoding.filling.knots is None
    assert (encoding.cells(crowd) < [c.cells for c in codec.schema.columns]).all()


def test_nothing_is_known_of_patients_but_the_noisy_vectors(crowd: Patients) -> None:
    """Whatever the patients are, the same noisy vectors give the same filling."""
    rng = np.random.default_rng(0)
    noise: dict[str, np.ndarray] = {}

    def filling(some: Patients) -> Filling:
        codec, answers = TwoLevelCodec(24), {}
        for each in codec.measurements:
            size = each.vector(some, answers).shape
            vector = noise.setdefault(each.name, rng.normal(0, 30, size))
            answers[each.name] = Answer(vector, 30.0)
        return codec.fit(answers).filling

    first, second = filling(crowd), filling(crowd.take(np.array([3, 1])))
    for a, b in zip(first.values.variables, second.values.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    for name in ("odds", "within", "lag", "correlation"):
        np.testing.assert_array_equal(getattr(first.profiles, name), getattr(second.profiles, name))


def test_every_entry_is_made_before_its_vector_is_summed(
    cohort: Patients, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, seen = Ledger(target=target_of(config())), []

    def watched(function: Callable[..., np.ndarray], stop: bool = False) -> Any:
        def called(*args: Any) -> np.ndarray:
            seen.append([event.stage for event in ledger.events])
            if stop:
                raise Stop
            return function(*args)

        return called

    monkeypatch.setattr(two_level, "values_vector", watched(two_level.values_vector))
    monkeypatch.setattr(two_level, "profiles_vector", watched(two_level.profiles_vector))
    monkeypatch.setattr(planning, "histogram", watched(histogram, stop=True))
    with pytest.raises(Stop):
        run(cohort, ledger)
    assert seen == [["values"], ["values", "profiles"], [*NAMES]]
    bounds = [event.clip_norm for event in ledger.events]
    assert bounds == [values_sensitivity(), BOUND, sensitivity(TwoLevelCodec(24).schema)]
    assert all(event.noise_multiplier > 0 for event in ledger.events)


def keys_of(patients: Patients, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The key of each measurement's noise, in order."""
    found: list[bytes] = []
    noisy = measurement.noisy

    def watched(sums: np.ndarray, event: Event, key: bytes) -> Any:
        found.append(key)
        if event.stage == MARGINALS:
            raise Stop
        return noisy(sums, event, key)

    monkeypatch.setattr(measurement, "noisy", watched)
    with pytest.raises(Stop):
        run(patients)
    return found


def test_every_measurement_has_a_key_of_its_own(
    cohort: Patients, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(set(keys_of(cohort, monkeypatch))) == len(NAMES)


def test_one_key_for_all_is_seen(cohort: Patients, monkeypatch: pytest.MonkeyPatch) -> None:
    one = session.stream_key(bytes(32), "one", "noise")
    monkeypatch.setattr(session, "stream_key", lambda *path: one)
    assert len(set(keys_of(cohort, monkeypatch))) == 1


# -- one patient, through all of it ---------------------------------------------------------------


@cache
def network() -> tuple[Any, Any, float]:
    """Loss and parameters of the autoregressive stage, away from its start, and its C."""
    settings, schema = config(), TwoLevelCodec(24).schema
    context = make_context(settings, schema, Marginals.uniform(schema, 1000.0), {})
    stage = settings.stages["autoregressive"]
    training = stage.training(context)
    params, loss = training.objective(jax.jit(training.init)(jax.random.key(0)))
    leaves, form = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [
        leaf + jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)
    ]
    return loss, jax.tree.unflatten(form, moved), stage.clip_norm


@cache
def summed(clip: Any, rows: int) -> Any:
    loss, _, bound = network()
    keys = jax.random.split(jax.random.key(2), rows)
    return jax.jit(
        lambda params, codes, valid: clip(loss, params, codes, valid, keys, bound).gradient
    )


ROWS = 8


def clipped_sum(codes: np.ndarray, clip: Any = clipping.clipped_sum) -> np.ndarray:
    """The sum of clipped gradients over patients, flat, float64; padded to one shape."""
    valid = np.arange(ROWS) < len(codes)
    padded = np.zeros((ROWS, codes.shape[1]), np.uint8)
    padded[: len(codes)] = codes
    gradient = summed(clip, ROWS)(network()[1], jnp.asarray(padded), jnp.asarray(valid))
    return np.concatenate([np.ravel(leaf).astype(np.float64) for leaf in jax.tree.leaves(gradient)])


@pytest.mark.parametrize("clip", [clipping.clipped_sum, ghost.clipped_sum], ids=["vmap", "ghost"])
def test_a_patient_moves_every_sum_by_no_more_than_declared_however_long_the_stay(
    odd: Odd, join: Join, cohort: Patients, clip: Any
) -> None:
    """One file more, or the same patient's with a stay ten times as long: noise hides either."""
    codec, others = TwoLevelCodec(24), cohort.take(np.arange(ROWS - 1))
    encoding = exact_encoding(codec, cohort)
    bound, norms = network()[2], []
    before = clipped_sum(encoding.cells(others), clip)
    counted = histogram(codec.schema, encoding.cells(others))
    patients = [odd(kind, 33, i) for i, kind in enumerate(KINDS)]
    patients += [odd(kind, 330, i) for i, kind in enumerate(KINDS)]
    for one in patients:
        codes = encoding.cells(join([others, one]))
        np.testing.assert_array_equal(codes[:-1], encoding.cells(others))
        moved = histogram(codec.schema, codes) - counted
        assert np.linalg.norm(moved) <= sensitivity(codec.schema)
        norms.append(float(np.linalg.norm(clipped_sum(codes, clip) - before)))
    assert max(norms) <= bound, "rounding of the two sums included"
    assert max(norms) > 0.9 * bound, "clipping is what holds them: the test is no idle one"


def test_without_clipping_the_check_fails(odd: Odd, cohort: Patients, join: Join) -> None:
    loss, params, bound = network()
    (codes,) = exact_encoding(TwoLevelCodec(24), cohort).cells(odd("alternating", 330, 0))
    gradient = jax.jit(jax.grad(loss))(params, jnp.asarray(codes), jax.random.key(0))
    norm = np.sqrt(sum(float(jnp.square(leaf).sum()) for leaf in jax.tree.leaves(gradient)))
    assert norm > bound


def test_held_to_the_codec_the_table_is_what_networks_read(cohort: Patients) -> None:
    codec = TwoLevelCodec(24)
    cells = exact_encoding(codec, cohort).cells(cohort)
    tokenizer = Tokenizer.make(codec.schema, Marginals.uniform(codec.schema, 1000.0))
    np.testing.assert_array_equal(tokenizer.encode(cells), cells)
