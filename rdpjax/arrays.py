"""Arrays of NumPy or JAX: for functions that take either and hand it on to JAX."""

from __future__ import annotations

from typing import TypeAlias

import jax
import numpy as np

AnyArray: TypeAlias = jax.Array | np.ndarray
