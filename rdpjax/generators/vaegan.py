"""Three-stage RDP-VAEGAN: autoencoder, GAN through its frozen decoder, labeler."""

from rdpjax.generators.recipe import Recipe
from rdpjax.stages.gan import GanStage
from rdpjax.stages.labeler import LabelerStage
from rdpjax.stages.vae import VaeStage

VAEGAN = Recipe(
    {"vae": VaeStage(), "gan": GanStage(), "labeler": LabelerStage()},
    label_source="labeler",
    shares={"marginals": 0.09, "vae": 0.66, "gan": 0.06, "labeler": 0.19},
)
