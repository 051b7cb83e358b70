"""One masked autoregressive network: each column given those before it; rules kept by masks."""

from rdpjax.generators.recipe import Recipe
from rdpjax.stages.autoregressive import AutoregressiveStage

AUTOREGRESSIVE = Recipe(
    {"autoregressive": AutoregressiveStage()},
    shares={"marginals": 0.25, "autoregressive": 0.75},
)
