"""The autoencoder alone: the label is a modelled column, with any number of levels."""

from rdpjax.generators.recipe import Recipe
from rdpjax.stages.vae import VaeStage

VAE = Recipe({"vae": VaeStage()}, shares={"marginals": 0.12, "vae": 0.88})
