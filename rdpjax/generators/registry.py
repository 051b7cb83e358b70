"""Registry of the generators that commands know by name."""

from __future__ import annotations

from functools import cache

from rdpjax.generators.autoregressive import AUTOREGRESSIVE
from rdpjax.generators.recipe import Recipe
from rdpjax.generators.vae import VAE
from rdpjax.generators.vaegan import VAEGAN
from rdpjax.named import find, with_installed

GROUP = "rdpjax.generators"
"""Entry points of other packages: `name = "package.module:RECIPE"`."""


@cache
def generators() -> dict[str, Recipe]:
    """Return every recipe by name: built-in ones, and those of installed packages."""
    own = {"vaegan": VAEGAN, "vae": VAE, "autoregressive": AUTOREGRESSIVE}
    return with_installed(GROUP, own)


def find_generator(name: str) -> Recipe:
    """Return the recipe called `name`; UserError with the nearest name if there is none."""
    return find("generator", name, generators())


def stage_classes() -> dict[str, type]:
    """Return every stage class of a known generator, by name."""
    stages = [stage for recipe in generators().values() for stage in recipe.stages.items()]
    return {name: type(stage) for name, stage in stages}
