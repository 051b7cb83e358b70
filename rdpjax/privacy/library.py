"""The dp-accounting library: imported here alone, late, and kept quiet."""

from __future__ import annotations

import functools
import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any


@functools.cache
def library() -> Any:
    """Import dp-accounting, which has no types; late, because it takes two seconds."""
    import dp_accounting  # pyright: ignore[reportMissingTypeStubs]

    return dp_accounting


@contextmanager
def silenced(name: str) -> Generator[None]:
    """Silence a logger inside the block."""
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
