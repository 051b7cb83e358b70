"""Stage 0: noisy one-way histograms and the record count, by one Gaussian mechanism."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from rdpjax.data.codec import histogram, sensitivity
from rdpjax.data.schema import Schema
from rdpjax.dpsgd.noise import add_gaussian
from rdpjax.privacy.events import Event

NAME = "marginals"


def marginals_event(schema: Schema, noise_multiplier: float) -> Event:
    """The ledger's entry: every record is read once, at the histogram's sensitivity."""
    bound = sensitivity(schema) if noise_multiplier > 0 else float("inf")
    return Event(NAME, "gaussian", 1.0, noise_multiplier, bound, 1)


def measure(
    schema: Schema,
    cells: np.ndarray,
    event: Event,
    key: np.ndarray,
    open_entry: Callable[[Event], object],
) -> tuple[np.ndarray, float]:
    """The noisy histogram vector, and the standard deviation of its noise.

    Args:
      schema: public columns.
      cells: private cells, (rows, columns).
      event: as `marginals_event` made it.
      key: raw key of this noise, used nowhere else.
      open_entry: enters the event in the ledger; called before a record is counted.

    Guarantees:
      One Gaussian mechanism: the noise is `noise_multiplier` times the largest L2 norm of what any
      record can add, sqrt(columns + 1), on every entry. Without records it is noise on zeros.
    """
    open_entry(event)
    deviation = event.noise_multiplier * event.clip_norm if event.noise_multiplier else 0.0
    counts = jnp.asarray(histogram(schema, cells), jnp.float32)
    return np.asarray(add_gaussian(jnp.asarray(key), counts, deviation), np.float64), deviation
