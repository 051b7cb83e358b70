"""Proof that each of the properties that the claim rests on would be missed.

A property holds for the engine as it is, and must fail for the engine with a part broken on
purpose: a check that no sabotage can fail checks nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from rdpjax.dpsgd import keys, loop, sampling
from rdpjax.dpsgd.execution import Execution
from rdpjax.dpsgd.ghost import clipped as ghost
from rdpjax.dpsgd.ghost import gradients
from rdpjax.dpsgd.plan import Plan
from tests.dpsgd import engine_properties as engine
from tests.dpsgd.engine_properties import CLIP, PARAMS

Patch = pytest.MonkeyPatch

# The sabotage. Each breaks one part; the name says which.


def noise_off(patch: Patch) -> None:
    patch.setattr(loop, "add_gaussian", lambda key, tree, *rest: tree)


def noise_halved(patch: Patch) -> None:
    true = loop.add_gaussian
    patch.setattr(loop, "add_gaussian", lambda key, tree, sd, *at: true(key, tree, sd / 2, *at))


def noise_without_clip_norm(patch: Patch) -> None:
    true = loop.add_gaussian
    patch.setattr(loop, "add_gaussian", lambda key, tree, sd, *at: true(key, tree, sd / CLIP, *at))


def same_noise_every_step(patch: Patch) -> None:
    true = loop.add_gaussian
    patch.setattr(
        loop, "add_gaussian", lambda key, tree, sd, *at: true(jnp.zeros_like(key), tree, sd, *at)
    )


def same_noise_in_every_leaf(patch: Patch) -> None:
    true = loop.add_gaussian
    leaves = ravel_pytree(PARAMS)[1]

    def add(key: jax.Array, flat: jax.Array, sd: float, *at: Any) -> jax.Array:
        return ravel_pytree(jax.tree.map(lambda leaf: true(key, leaf, sd), leaves(flat)))[0]

    patch.setattr(loop, "add_gaussian", add)


def coarse_noise(patch: Patch) -> None:
    def add(key: jax.Array, tree: Any, deviation: float, *at: Any) -> Any:
        flat, unravel = ravel_pytree(tree)
        drawn = jax.random.normal(keys.as_key(key), flat.shape, jnp.bfloat16)
        return unravel(flat + deviation * drawn.astype(jnp.float32))

    patch.setattr(loop, "add_gaussian", add)


def noise_only_if_something_is_drawn(patch: Patch) -> None:
    true = loop.add_gaussian

    def add(key: jax.Array, tree: Any, deviation: float, *at: Any) -> Any:
        any_drawn = jnp.array([(leaf != 0).any() for leaf in jax.tree.leaves(tree)]).any()
        return true(key, tree, jnp.where(any_drawn, deviation, 0.0), *at)

    patch.setattr(loop, "add_gaussian", add)


def clip_at(patch: Patch, factor: float) -> None:
    true = Execution.clipped_sum
    patch.setattr(Execution, "clipped_sum", lambda *args: true(*args[:-1], args[-1] * factor))


def clip_off(patch: Patch) -> None:
    clip_at(patch, 1e30)


def clip_doubled(patch: Patch) -> None:
    clip_at(patch, 2.0)


def measure_only(patch: Patch, which: Callable[[list[int]], int]) -> None:
    """Norms of one leaf, by the sizes of all, as if the others were not trained."""
    true = ghost._parts

    class Unmeasured(gradients.Formed):
        def squares(self) -> jax.Array:
            return jnp.zeros(len(self.gradient))

    def parts(*args: Any) -> list[ghost.Use]:
        found = true(*args)
        kept = which([math.prod(part.place.shape) for part in found])
        return [
            part if i == kept else part._replace(gradient=Unmeasured(*part.gradient.formed()))
            for i, part in enumerate(found)
        ]

    patch.setattr(ghost, "_parts", parts)


def norm_of_one_leaf(patch: Patch) -> None:
    measure_only(patch, lambda sizes: 0)


def clip_after_the_sum(patch: Patch) -> None:
    true = Execution.clipped_sum

    def sum_then_clip(*args: Any) -> Any:
        part, clip = true(*args[:-1], 1e30), args[-1]
        flat, unravel = ravel_pytree(part.gradient)
        shrunk = flat * jnp.minimum(1, clip / jnp.maximum(jnp.linalg.norm(flat), 1e-9))
        return part._replace(gradient=unravel(shrunk))

    patch.setattr(Execution, "clipped_sum", sum_then_clip)


def mask_off(patch: Patch) -> None:
    true = Execution.clipped_sum
    patch.setattr(
        Execution,
        "clipped_sum",
        lambda self, loss, params, rows, valid, *rest: true(
            self, loss, params, rows, jnp.ones_like(valid), *rest
        ),
    )


def mask_by_multiplication(patch: Patch) -> None:
    patch.setattr(gradients, "_blank", lambda factors, values: values)  # times a factor of zero


def non_finite_let_through(patch: Patch) -> None:
    def factors(norms: jax.Array, valid: jax.Array, clip: float) -> tuple[jax.Array, jax.Array]:
        return jnp.where(valid, jnp.where(norms > clip, clip / norms, 1), 0), valid

    patch.setattr(ghost, "clip_factors", factors)


def scale_by_the_draw(patch: Patch, factor: Callable[[Any, jax.Array], jax.Array]) -> None:
    """Every noisy gradient times `factor(divisor, size of the draw)`."""
    true_sum, true_gradient = loop.drawn_sum, loop.private_gradient
    counts: list[jax.Array] = []

    def summed(*args: Any) -> Any:
        part, count = true_sum(*args)
        counts.append(count.astype(jnp.float32))
        return part, count

    def scaled(each: Plan, here: Any, part: Any, step_keys: Any, divisor: Any) -> Any:
        clean = true_gradient(each, here, part, step_keys, divisor)
        return jax.tree.map(lambda leaf: leaf * factor(divisor, counts[-1]), clean)

    patch.setattr(loop, "drawn_sum", summed)
    patch.setattr(loop, "private_gradient", scaled)


def realised_batch_as_divisor(patch: Patch) -> None:
    scale_by_the_draw(patch, lambda divisor, count: divisor / count)


def draw_truncated(patch: Patch) -> None:
    true = sampling.draw

    def first_four(*args: Any) -> sampling.Draw:
        drawn = true(*args)
        return drawn._replace(drawn=jnp.minimum(drawn.drawn, 4))

    patch.setattr(loop, "draw", first_four)


def later_rounds_forgotten(patch: Patch) -> None:
    true = sampling.draw

    def once(key: jax.Array, count: int, *rest: Any) -> sampling.Draw:
        return true(key, count, *rest)._replace(following=jnp.uint32(count))

    patch.setattr(loop, "draw", once)


def same_gaps_in_every_round(patch: Patch) -> None:
    true = sampling.draw

    def again(key: jax.Array, count: int, threshold: int, first: Any, turn: Any) -> sampling.Draw:
        return true(key, count, threshold, first, 0)

    patch.setattr(loop, "draw", again)


def rate_times(patch: Patch, factor: float) -> None:
    true = sampling.draw

    def more(key: jax.Array, count: int, threshold: int, *rest: Any) -> sampling.Draw:
        return true(key, count, min(int(factor * threshold), 2**32), *rest)

    patch.setattr(loop, "draw", more)


def rate_doubled(patch: Patch) -> None:
    rate_times(patch, 2.0)


def fixed_size_batch(patch: Patch) -> None:
    def shuffled(key: jax.Array, count: int, threshold: int, *_: Any) -> sampling.Draw:
        size = round(count * threshold / 2**32)
        order = jax.random.permutation(keys.as_key(key), count)[:size]
        return sampling.Draw(jnp.sort(order), jnp.int32(size), jnp.uint32(count))

    patch.setattr(loop, "draw", shuffled)


def records_in_pairs(patch: Patch) -> None:
    true = sampling.draw

    def pairs(key: jax.Array, count: int, threshold: int, *_: Any) -> sampling.Draw:
        drawn = true(key, count // 2, threshold)
        both = jnp.stack([2 * drawn.indices, 2 * drawn.indices + 1], axis=1).ravel()
        both = jnp.minimum(both, count)
        return sampling.Draw(both, 2 * drawn.drawn, jnp.uint32(count))

    patch.setattr(loop, "draw", pairs)


def forget(patch: Patch, **fields: Any) -> None:
    true = keys.derive

    def derive(root: bytes, stage: str, purpose: str, step: int = 0) -> np.ndarray:
        return true(**{"root": root, "stage": stage, "purpose": purpose, "step": step, **fields})

    patch.setattr(keys, "derive", derive)


def one_key_for_every_step(patch: Patch) -> None:
    forget(patch, step=0)


def one_key_for_two_stages(patch: Patch) -> None:
    forget(patch, stage="all")


def one_key_for_two_purposes(patch: Patch) -> None:
    forget(patch, purpose="all")


# The first of each property is tried in the quick suite.
PROPERTIES: dict[Callable[[], None], list[Callable[[Patch], None]]] = {
    engine.noise_has_the_planned_deviation: [noise_off, noise_halved, noise_without_clip_norm],
    engine.noise_is_fresh_in_every_step_and_leaf: [
        same_noise_every_step,
        same_noise_in_every_leaf,
        one_key_for_every_step,
    ],
    engine.noise_has_the_resolution_of_float32: [coarse_noise],
    engine.an_empty_draw_is_a_step_of_pure_noise: [noise_only_if_something_is_drawn, noise_off],
    engine.one_record_moves_the_sum_by_at_most_the_clip_norm: [
        clip_off,
        clip_doubled,
        norm_of_one_leaf,
    ],
    engine.the_sum_is_over_all_that_are_drawn_and_no_others: [
        mask_off,
        draw_truncated,
        later_rounds_forgotten,
        same_gaps_in_every_round,
        clip_after_the_sum,
        rate_doubled,
    ],
    engine.a_record_without_a_finite_gradient_counts_nothing: [
        mask_by_multiplication,
        non_finite_let_through,
    ],
    engine.padding_changes_nothing_bit_for_bit: [mask_off],
    engine.the_divisor_is_the_given_number_whatever_is_drawn: [realised_batch_as_divisor],
    engine.inclusion_is_bernoulli_and_independent: [
        rate_doubled,
        fixed_size_batch,
        records_in_pairs,
        one_key_for_every_step,
    ],
    engine.no_two_draws_share_a_key: [
        one_key_for_every_step,
        one_key_for_two_stages,
        one_key_for_two_purposes,
    ],
}


@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda f: f.__name__)
def test_the_engine_holds(holds: Callable[[], None]) -> None:
    holds()


@pytest.mark.parametrize(
    ("holds", "sabotage"),
    [
        pytest.param(holds, sabotage, marks=[pytest.mark.slow] if i else [])
        for holds, several in PROPERTIES.items()
        for i, sabotage in enumerate(several)
    ],
    ids=lambda f: f.__name__,
)
def test_sabotage_is_noticed(
    holds: Callable[[], None], sabotage: Callable[[Patch], None], monkeypatch: Patch
) -> None:
    sabotage(monkeypatch)
    with pytest.raises(AssertionError):
        holds()
