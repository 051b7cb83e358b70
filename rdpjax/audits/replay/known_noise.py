"""Compare the noise of two fits with that of their root keys, number by number.

An audit makes the root keys, so all noise is known to it. Two fits in the same states that differ
in the noise root alone have the same clipped sums: the difference of their outputs is that of two
known vectors. Step keys are derived here a second time, by hashlib, and Gaussian numbers by
`jax.random`, so that a fault in `rdpjax.dpsgd.keys`, `threefry` or `noise` cannot hide itself.
For discrete noise the same holds for keys and scales; the sampler is the mechanism's own.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from rdpjax.audits.replay.comparisons import Comparison
from rdpjax.audits.replay.recording import Recording
from rdpjax.data.grid import GRID
from rdpjax.dpsgd.discrete import Bits, discrete_gaussian
from rdpjax.dpsgd.keys import Roots
from rdpjax.dpsgd.lattice import UNITS
from rdpjax.fitting import session
from rdpjax.fitting.plans import Plans
from rdpjax.privacy.events import LATTICE_STEPS, Event

SLACK = 4.0
"""Floating-point spacings by which rounding may move a difference of two outputs."""

TOLERANCE = 1e-4
"""Allowed compiler error of `erf_inv`, in noise deviations; missing noise exceeds it."""

BAND = 6.0
"""Standard errors allowed for the standard deviation of a sample."""

FEW = 8
"""Leading numbers of discrete noise that identify its key."""


def step_noise(event: Event, root: bytes, step: int, numbers: int) -> np.ndarray:
    """Compute the noise on one step's clipped sum, in the gradient's units, float64 `[numbers]`.

    Args:
      event: the claimed stage, mechanism, noise multiplier and clip norm.
      root: the noise root key.
      step: counted from the start of the stage.
      numbers: length of the flat gradient.

    Examples:
      >>> event = Event("vae", "poisson_gaussian", 0.5, 2.0, 3.0, 10)
      >>> a, b = (step_noise(event, bytes(32), step, 4) for step in (0, 1))
      >>> a.shape, bool((a != b).all())
      ((4,), True)
    """
    path = f"{event.stage}\x00noise\x00{step}"
    deviation = event.noise_multiplier * event.clip_norm
    if event.mechanism == "poisson_discrete_gaussian":
        scale = math.ceil(event.noise_multiplier * UNITS)
        whole = discrete_gaussian(_bits(root, path), numbers, scale)
        return whole.astype(np.int32) * (event.clip_norm / UNITS)
    raw = np.frombuffer(hashlib.blake2b(path.encode(), key=root, digest_size=8).digest(), "<u4")
    drawn = _normal(jnp.asarray(raw.astype(np.uint32)), numbers)
    return deviation * np.asarray(drawn, np.float64)


@partial(jax.jit, static_argnums=1)
def _normal(raw: jax.Array, numbers: int) -> jax.Array:
    drawn: jax.Array = jax.random.normal(
        jax.random.wrap_key_data(raw, impl="threefry2x32"), (numbers,)
    )
    return drawn


def measurement_noise(event: Event, root: bytes, numbers: int) -> np.ndarray:
    """Compute the noise of one measurement, float64 `[numbers]`; arguments as of `step_noise`."""
    deviation = event.noise_multiplier * event.clip_norm
    step = min(GRID, 2.0 ** math.floor(math.log2(deviation / LATTICE_STEPS)))
    bits = _bits(root, f"{event.stage}\x00noise\x000")
    return discrete_gaussian(bits, numbers, math.ceil(deviation / step)) * step


def _bits(root: bytes, path: str) -> Bits:
    key = hashlib.blake2b(f"{path}\x00stream".encode(), key=root, digest_size=32)
    return Bits(key.digest())


def noise(
    pairs: Sequence[tuple[Recording, Recording]],
    roots: tuple[Roots, Roots],
    events: dict[str, Event],
    divisors: dict[str, float],
) -> list[Comparison]:
    """Compare the noise of every measurement and every step with that of its key.

    Args:
      pairs: recordings of the same records in the same states, under the first and the second root.
      roots: root keys of the first and of the second fit of each pair.
      events: the claimed events, by measurement and stage.
      divisors: divisor of each stage's noisy sum.

    Guarantees:
      Every number of every step is compared, to `TOLERANCE` of its deviation beside the rounding of
      the two outputs. A number without noise, with other noise than claimed, with that of another
      step, stage or number, or with noise that depends on the records, is found.
    """
    found = []
    for name in pairs[0][0].answers:
        outputs = [tuple(fit.answers[name].ravel()[None] for fit in pair) for pair in pairs]

        def measured(root: bytes, step: int, numbers: int, name: str = name) -> np.ndarray:
            return measurement_noise(events[name], root, numbers)

        found += _compared(events[name], outputs, roots, measured, 1.0)
    for name, divisor in divisors.items():
        outputs = [tuple(fit.gradients[name] for fit in pair) for pair in pairs]
        found += _compared(events[name], outputs, roots, partial(step_noise, events[name]), divisor)
    return found


@np.errstate(invalid="ignore", over="ignore")  # NaN and infinity break every bound
def _compared(
    event: Event,
    pairs: Iterable[tuple[np.ndarray, ...]],
    roots: tuple[Roots, Roots],
    noise_of: Callable[[bytes, int, int], np.ndarray],
    divisor: float,
) -> list[Comparison]:
    """Compare outputs `[steps, numbers]` of one mechanism with `noise_of` its keys."""
    deviation = event.noise_multiplier * event.clip_norm
    most, square, count = 0.0, 0.0, 0
    for first, second in pairs:
        spacing = SLACK * float(np.finfo(first.dtype).eps)
        for step, (a, b) in enumerate(zip(first, second, strict=True)):
            known = [noise_of(root.noise, step, a.size) for root in roots]
            a, b = (x.astype(np.float64) * divisor for x in (a, b))
            excess = np.abs((a - b) - (known[0] - known[1])) - spacing * (np.abs(a) + np.abs(b))
            worst = float(excess.max(initial=0.0)) / deviation
            most = max(most, math.inf if math.isnan(worst) else worst)
            square += float(np.square(known[0] - known[1]).sum()) / 2
            count += a.size
    found = [Comparison("noise, off that of its key", event.stage, TOLERANCE, most, count)]
    if "discrete" in event.mechanism:  # that sampler is shared, so check its spread
        off, band = abs(math.sqrt(square / count) / deviation - 1), BAND / math.sqrt(2 * count)
        found.append(Comparison("noise, off the claimed deviation", event.stage, band, off, count))
    return found


def repeated_keys(plans: Plans, roots: Roots, chunk_steps: int) -> Comparison:
    """Count keys of draws and of noise that occur twice in whole plans.

    Keys are taken chunk by chunk through `rdpjax.fitting.session.chunk_keys`, as training takes
    them. The first numbers of discrete noise identify its key.

    Args:
      plans: uncut plans, with every step of every stage.
      roots: any root keys.
      chunk_steps: steps of a chunk.
    """
    numbers = jax.ShapeDtypeStruct((FEW,), jnp.float32)
    taken = []
    for name, plan in plans.stages.items():
        for start in range(0, plan.steps, chunk_steps):
            steps = min(chunk_steps, plan.steps - start)
            keys = session.chunk_keys(plan, roots, name, start, steps, numbers)
            taken += [row.tobytes() for column in keys[:2] for row in np.asarray(column)]
    twice = len(taken) - len(set(taken))
    return Comparison("keys that occur twice", "every stage", 0, twice, len(taken))
