"""Direct measurements: a vector summed over the records, by one Gaussian mechanism each."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from rdpjax.dpsgd.noise import add_gaussian
from rdpjax.privacy.events import Event


def measurement_event(name: str, noise_multiplier: float, sensitivity: float) -> Event:
    """The ledger's entry: every record is read once, at the vector's sensitivity.

    Args:
      name: of the measurement.
      noise_multiplier: noise over sensitivity; 0 where nothing is private.
      sensitivity: the most that one record can add to the vector, in L2 norm.
    """
    bound = sensitivity if noise_multiplier > 0 else float("inf")
    return Event(name, "gaussian", 1.0, noise_multiplier, bound, 1)


def measure(
    vector: Callable[[], np.ndarray],
    event: Event,
    key: np.ndarray,
    open_entry: Callable[[Event], object],
) -> tuple[np.ndarray, float]:
    """The noisy vector, and the standard deviation of its noise.

    Args:
      vector: sums a bounded vector over the private records.
      event: as `measurement_event` made it.
      key: raw key of this noise, used nowhere else.
      open_entry: enters the event in the ledger; called before a record is looked at.

    Guarantees:
      One Gaussian mechanism: the noise on every entry is `noise_multiplier` times the event's
      bound, which must be the largest L2 norm of what any record can add. Without records it is
      noise on zeros.
    """
    open_entry(event)
    deviation = event.noise_multiplier * event.clip_norm if event.noise_multiplier else 0.0
    sums = np.asarray(vector(), np.float64)
    # The sum is never rounded to float32: neighbours would then lie further apart than the bound.
    noise = add_gaussian(jnp.asarray(key), jnp.zeros(sums.shape, jnp.float32), deviation)
    # Nor are digits shown that the noise, float32, does not reach: they would be the sum's own.
    grid = 2.0 ** (np.ceil(np.log2(deviation)) - 16) if deviation else 2.0**-40
    return np.rint((sums + np.asarray(noise, np.float64)) / grid) * grid, deviation
