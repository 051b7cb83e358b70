"""Examples as pytrees of float, token and mask arrays, trained by the same engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdpjax.config import Config
from rdpjax.dpsgd.keys import Roots
from rdpjax.dpsgd.plan import Plan
from rdpjax.fitting.progress import NoProgress
from rdpjax.fitting.session import Session
from rdpjax.fitting.stage_run import Examples, StageRun
from rdpjax.privacy.ledger import Ledger
from rdpjax.privacy.sealed import Sealed
from rdpjax.stages.optimiser import AveragedAdam
from rdpjax.stages.stage import Training

RECORDS, HOURS, LEVELS = 60, 5, 3
ROOTS = Roots.make(4)


@dataclass(frozen=True)
class Series:
    """A stage whose example is a series: measured values, a token an hour, and a mask."""

    sampling_rate: float = 0.5
    steps: int = 4
    clip_norm: float = 1.0

    def training(self, context: Any) -> Training:
        adam = AveragedAdam(0.05, self.steps, 0.9)

        def init(key: jax.Array) -> Any:
            return adam.start({"means": jnp.zeros(LEVELS), "slope": 0.1 * jax.random.normal(key)})

        def loss(params: Any, series: Any, key: jax.Array) -> jax.Array:
            hours = jnp.arange(HOURS, dtype=jnp.float32)
            expected = params["means"][series["tokens"]] + params["slope"] * hours
            errors = jnp.square(series["values"] - expected)
            return jnp.where(series["mask"], errors, 0).sum()

        def update(state: Any, gradient: Any, key: jax.Array) -> Any:
            return adam.advance(state, gradient), {}

        return Training(init, lambda state: (state.params, loss), update, lambda state: state.mean)


def series(random: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        "values": random.normal(size=(RECORDS, HOURS)).astype(np.float32),
        "tokens": random.integers(0, LEVELS, (RECORDS, HOURS)).astype(np.uint8),
        "mask": random.random((RECORDS, HOURS)) < 0.7,
    }


def trained(tree: Any, noise: float, *, on_device: bool = True) -> tuple[np.ndarray, Ledger]:
    stage = Series()
    plan = Plan.at_rate(
        stage.sampling_rate, noise_multiplier=noise, clip_norm=stage.clip_norm, steps=stage.steps
    )
    ledger = Ledger()
    run = StageRun("series", stage, plan, Config(), Session(ledger, ROOTS))
    placed = jax.tree.map(jnp.asarray, tree) if on_device else tree
    examples = Examples(Sealed(placed), on_device=on_device)
    context: Any = None
    released = run.train(context, examples, RECORDS, NoProgress())
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(released)]), ledger


def test_trees_of_floats_tokens_and_masks_train_alike_from_device_and_host() -> None:
    tree = series(np.random.default_rng(0))
    device, ledger = trained(tree, 1.0)
    host, _ = trained(tree, 1.0, on_device=False)
    np.testing.assert_allclose(device, host, rtol=1e-5, atol=1e-6)
    assert [event.steps for event in ledger.events] == [Series.steps]


@pytest.mark.parametrize("part", ["values", "tokens", "mask"])
def test_every_array_of_the_tree_is_trained_on(part: str) -> None:
    tree = series(np.random.default_rng(0))
    other = tree | {part: series(np.random.default_rng(1))[part]}
    assert not np.allclose(trained(tree, 0.01)[0], trained(other, 0.01)[0])


def test_what_the_mask_hides_is_not_read() -> None:
    tree = series(np.random.default_rng(0))
    hidden = tree | {"values": np.where(tree["mask"], tree["values"], 7).astype(np.float32)}
    np.testing.assert_array_equal(trained(tree, 1.0)[0], trained(hidden, 1.0)[0])


def test_the_shape_of_one_example_says_nothing_of_their_number() -> None:
    one = Examples(Sealed(series(np.random.default_rng(0))), on_device=False).one
    assert {name: leaf.shape for name, leaf in one.items()} == dict.fromkeys(
        ("values", "tokens", "mask"), (HOURS,)
    )
