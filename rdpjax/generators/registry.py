"""Registry of the generators that commands know by name."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from rdpjax.errors import UserError, nearest
from rdpjax.generators.autoregressive import AUTOREGRESSIVE
from rdpjax.generators.recipe import Recipe
from rdpjax.generators.vae import VAE
from rdpjax.generators.vaegan import VAEGAN

GROUP = "rdpjax.generators"
"""Entry points of other packages: `name = "package.module:RECIPE"`."""


@cache
def generators() -> dict[str, Recipe]:
    """Return every recipe by name: built-in ones, and those of installed packages."""
    others = {point.name: point.load() for point in entry_points(group=GROUP)}
    return {"vaegan": VAEGAN, "vae": VAE, "autoregressive": AUTOREGRESSIVE} | others


def find_generator(name: str) -> Recipe:
    """Return the recipe called `name`; UserError with the nearest name if there is none."""
    known = generators()
    if name not in known:
        raise UserError(
            f"generator: unknown {name!r}{nearest(name, list(known))}; known are {', '.join(known)}"
        )
    return known[name]


def stage_classes() -> dict[str, type]:
    """Return every stage class of a known generator, by name."""
    stages = [stage for recipe in generators().values() for stage in recipe.stages.items()]
    return {name: type(stage) for name, stage in stages}
