"""What the engine needs to know about a model: its blocks, its tokens, how to call it. Nothing else."""

from captum_ultra.adapters.layout import TokenLayout
from captum_ultra.adapters.probe import Findings, check_stream
from captum_ultra.adapters.resolve import Blocks, check_model, resolve
from captum_ultra.adapters.view import TransformerView
from captum_ultra.adapters.views import ModelViews

__all__ = [
    "Blocks",
    "Findings",
    "ModelViews",
    "TokenLayout",
    "TransformerView",
    "check_model",
    "check_stream",
    "resolve",
]
