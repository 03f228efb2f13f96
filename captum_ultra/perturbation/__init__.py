"""What happens to a model's output when the tokens that an explanation names are taken away."""

from captum_ultra.perturbation.text import comprehensiveness, sufficiency
from captum_ultra.perturbation.text_control import RandomControl
from captum_ultra.perturbation.text_document import ExplainedText, TokenScores
from captum_ultra.perturbation.text_result import FaithfulnessCurve

__all__ = [
    "ExplainedText",
    "FaithfulnessCurve",
    "RandomControl",
    "TokenScores",
    "comprehensiveness",
    "sufficiency",
]
