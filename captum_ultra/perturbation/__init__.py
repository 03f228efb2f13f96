"""What happens to a model when the parts of its input that an explanation names are taken away."""

from captum_ultra.perturbation.latent_result import LatentPerturbationResult
from captum_ultra.perturbation.latent_test import SWEEP, LatentPerturbationTest
from captum_ultra.perturbation.patches import Perturbation, perturb_patches
from captum_ultra.perturbation.text import comprehensiveness, sufficiency
from captum_ultra.perturbation.text_control import RandomControl
from captum_ultra.perturbation.text_document import ExplainedText, TokenScores
from captum_ultra.perturbation.text_result import FaithfulnessCurve

__all__ = [
    "SWEEP",
    "ExplainedText",
    "FaithfulnessCurve",
    "LatentPerturbationResult",
    "LatentPerturbationTest",
    "Perturbation",
    "RandomControl",
    "TokenScores",
    "comprehensiveness",
    "perturb_patches",
    "sufficiency",
]
