"""What methods are called above their maps."""

from __future__ import annotations

from captum_ultra.attr.methods import ALIASES, find_method
from captum_ultra.attr.scores import Score, name_of_score

__all__ = ["TITLES", "method_title"]

TITLES = {
    "raw_attention": "raw attention", "rollout": "rollout", "gae": "GAE", "grad_cam": "Grad-CAM",
    "attcat": "AttCAT", "legrad": "LeGrad", "token_tm": "TokenTM", "conservative_lrp": "conservative LRP",
    "residual_lrp": "residual LRP", "lrp": "LRP", "partial_lrp": "partial LRP",
    "transformer_attribution": "Transformer Attr.",
}  # fmt: skip
"""Of the methods in :data:`captum_ultra.attr.methods.METHODS`."""


def method_title(method: str, score: Score) -> str:
    """A method of latent tokens, and the score that it explains if there is one.

    Args:
        method: a name that :func:`captum_ultra.attr.methods.find_method` knows.
        score: of the latent.

    Raises:
        ValueError: for an unknown name; lists those known.

    Example:
        >>> method_title("ultra", "energy"), method_title("rollout", "energy")
        ('ULTra, energy score', 'rollout')
    """
    of_score = find_method(method).needs_class
    title = "ULTra" if method == "ultra" else TITLES[ALIASES.get(method, method)]
    return f"{title}, {name_of_score(score)} score" if of_score else title
