"""Where a run computes."""

from __future__ import annotations

from typing import Literal

import jax

from rdpjax.errors import UserError

Device = Literal["auto", "cpu", "gpu", "tpu"]


def use_device(device: Device) -> str:
    """Compute on `device` from now on; returns its kind.

    Raises:
      UserError: there is no such device here.
    """
    if device == "auto":
        return str(jax.devices()[0].device_kind)
    try:
        found = jax.devices(device)[0]
    except RuntimeError:
        raise UserError(
            f"--device {device}: no such device here; use --device cpu, or install the "
            f"{'cuda' if device == 'gpu' else device} extra on a machine that has one"
        ) from None
    jax.config.update("jax_default_device", found)
    return str(found.device_kind)
