"""What happens to a model when the parts of its input that an explanation names are taken away."""

from captum_ultra.perturbation.class_result import ClassPerturbationResult
from captum_ultra.perturbation.class_test import INSERTION_STEPS, REMOVAL_STEPS, ClassPerturbationTest
from captum_ultra.perturbation.latent_result import LatentPerturbationResult
from captum_ultra.perturbation.latent_test import SWEEP, LatentPerturbationTest
from captum_ultra.perturbation.patches import Perturbation, perturb_patches
from captum_ultra.perturbation.sensitivity import SensitivityResult, max_sensitivity
from captum_ultra.perturbation.text import comprehensiveness, sufficiency
from captum_ultra.perturbation.text_control import RandomControl
from captum_ultra.perturbation.text_document import ExplainedText, TokenScores
from captum_ultra.perturbation.text_result import FaithfulnessCurve

__all__ = [
    "INSERTION_STEPS",
    "REMOVAL_STEPS",
    "SWEEP",
    "ClassPerturbationResult",
    "ClassPerturbationTest",
    "ExplainedText",
    "FaithfulnessCurve",
    "LatentPerturbationResult",
    "LatentPerturbationTest",
    "Perturbation",
    "RandomControl",
    "SensitivityResult",
    "TokenScores",
    "comprehensiveness",
    "max_sensitivity",
    "perturb_patches",
    "sufficiency",
]
