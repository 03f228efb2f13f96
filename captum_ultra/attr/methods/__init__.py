"""The methods, one a file, by the names that the command line and the studies use."""

from __future__ import annotations

from importlib import import_module

from captum_ultra.attr.attribution import TokenAttribution

__all__ = ["METHODS", "find_method", "find_methods", "method_class"]

METHODS: dict[str, str] = {
    "raw_attention": "RawAttention", "rollout": "AttentionRollout", "gae": "GenericAttention",
    "grad_cam": "AttentionGradCam", "attcat": "AttCAT", "legrad": "LeGrad", "token_tm": "TokenTM",
    "conservative_lrp": "ConservativeLRP", "residual_lrp": "ResidualLRP", "lrp": "LRP", "partial_lrp": "PartialLRP",
    "transformer_attribution": "TransformerAttribution",
}  # fmt: skip
"""Short name -> the name of the class in :mod:`captum_ultra`."""
ALIASES = {"ultra": "gae", "conservative": "conservative_lrp", "residual": "residual_lrp"}
"""What the methods are called where they explain latent tokens."""


def method_class(name: str) -> type[TokenAttribution]:
    """The class of a method.

    Raises:
        ValueError: for an unknown name; lists those known.

    Example:
        >>> method_class("gae").__name__
        'GenericAttention'
    """
    if name not in METHODS:
        raise ValueError(f"method {name!r} is unknown; known are {', '.join(METHODS)}")
    found: type[TokenAttribution] = getattr(import_module("captum_ultra"), METHODS[name])
    return found


def find_methods(names: str) -> tuple[str, ...]:
    """Names of methods out of a text: ``"all"``, or names with commas between them.

    Raises:
        ValueError: for an unknown or repeated name, or none at all.

    Example:
        >>> find_methods("gae,token_tm")
        ('gae', 'token_tm')
    """
    if names == "all":
        return tuple(METHODS)
    found = tuple(name.strip() for name in names.split(",") if name.strip())
    for name in found:
        method_class(name)
    if not found or len(set(found)) < len(found):
        raise ValueError(f"methods {names!r}: name each once, with commas between them, or 'all'")
    return found


def find_method(name: str) -> type[TokenAttribution]:
    """The class of a method for latent tokens: a name of :data:`METHODS`, or "ultra", "conservative", "residual".

    Raises:
        ValueError: for an unknown name; lists those known.

    Example:
        >>> find_method("ultra").__name__, find_method("residual").__name__
        ('GenericAttention', 'ResidualLRP')
    """
    if name not in METHODS and name not in ALIASES:
        raise ValueError(f"method {name!r} is unknown; known are {', '.join((*ALIASES, *METHODS))}")
    return method_class(ALIASES.get(name, name))
