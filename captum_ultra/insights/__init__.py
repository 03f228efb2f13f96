"""Pictures of explanations, pages to explore them, and Captum Insights."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captum_ultra.figures.text import contribution_figure
    from captum_ultra.insights.captum_insights import register, unregister
    from captum_ultra.insights.evaluation import curves_figure, panels_figure, points_figure
    from captum_ultra.insights.explorer import Explorer, explore
    from captum_ultra.insights.faithfulness import faithfulness_figure
    from captum_ultra.insights.features import Batch, ImageFeature, TextFeature
    from captum_ultra.insights.figures import explain_figure, save_figure, token_layers_figure
    from captum_ultra.insights.perturbation import perturbation_figure
    from captum_ultra.insights.segmentation import dendrogram_figure, segmentation_figure
    from captum_ultra.insights.sheets import masks_figure, overlay_figure, perturbation_examples_figure
    from captum_ultra.insights.visualizer import TokenVisualizer

__all__ = [
    "Batch",
    "Explorer",
    "ImageFeature",
    "TextFeature",
    "TokenVisualizer",
    "contribution_figure",
    "curves_figure",
    "dendrogram_figure",
    "explain_figure",
    "explore",
    "faithfulness_figure",
    "masks_figure",
    "overlay_figure",
    "panels_figure",
    "perturbation_examples_figure",
    "perturbation_figure",
    "points_figure",
    "register",
    "save_figure",
    "segmentation_figure",
    "token_layers_figure",
    "unregister",
]

_LAZY = {
    "Batch": "features",
    "Explorer": "explorer.explorer",
    "ImageFeature": "features",
    "TextFeature": "features",
    "TokenVisualizer": "visualizer",
    "contribution_figure": ".figures.text",
    "curves_figure": "evaluation",
    "dendrogram_figure": "segmentation",
    "explain_figure": "figures",
    "explore": "explorer.explore",
    "faithfulness_figure": "faithfulness",
    "masks_figure": "sheets",
    "overlay_figure": "sheets",
    "panels_figure": "evaluation",
    "perturbation_examples_figure": "sheets",
    "perturbation_figure": "perturbation",
    "points_figure": "evaluation",
    "register": "captum_insights",
    "save_figure": "figures",
    "segmentation_figure": "segmentation",
    "token_layers_figure": "figures",
    "unregister": "captum_insights",
}
"""Public name -> the module that holds it, from this folder."""


def __getattr__(name: str) -> Any:
    """Import what a name stands for when it is first needed."""
    if name in _LAZY:
        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
