"""What a model reads, in the words of Captum Insights: features and batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["Batch", "ImageFeature", "TextFeature", "as_features"]

Transforms = Callable[[Any], Any] | Sequence[Callable[[Any], Any]] | None

_KINDS = ("image", "text")


class BaseFeature:
    """One input of a model: how it is prepared and how it is shown; arguments as in Captum Insights.

    Args:
        name: the label on the page.
        baseline_transforms: taken so that code written for Captum runs; no method here needs a baseline.
        input_transforms: a function or several, from one sample without batch axis to what the model takes.
        visualization_transform: from the sample as it is in the dataset, batch axis included, to what is shown.
    """

    kind = ""

    def __init__(
        self, name: str, baseline_transforms: Transforms = None, input_transforms: Transforms = None,
        visualization_transform: Callable[[Any], Any] | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.baseline_transforms = _listed(baseline_transforms)
        self.input_transforms = _listed(input_transforms)
        self.visualization_transform = visualization_transform

    def visualization_type(self) -> str:
        """ "image" or "text"."""
        return self.kind


class ImageFeature(BaseFeature):
    """Images [B, C, H, W] in 0..1, or what ``visualization_transform`` brings there; arguments as in Captum Insights.

    Args:
        name: the label on the page.
        baseline_transforms: taken so that code written for Captum runs; no method here needs a baseline.
        input_transforms: a function or several, from one image [C, H, W] to what the model takes, e.g. normalisation.
        visualization_transform: from the image [1, C, H, W] of the dataset to values in 0..1.

    Example:
        >>> ImageFeature("Photo", input_transforms=lambda image: 2 * image - 1).visualization_type()
        'image'
    """

    kind = "image"


class TextFeature(BaseFeature):
    """Token ids [B, N]; arguments as in Captum Insights.

    Args:
        name: the label on the page.
        baseline_transforms: taken so that code written for Captum runs; no method here needs a baseline.
        input_transforms: a function or several, from the ids [N] of one text to what the model takes.
        visualization_transform: from the ids [1, N] to N strings; the ids are shown when None.

    Example:
        >>> TextFeature("Review", None, None, lambda ids: [str(each) for each in ids[0].tolist()]).name
        'Review'
    """

    kind = "text"


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples of a dataset; what Captum's class of this name holds.

    Attributes:
        inputs: a tensor with a batch axis, or a tuple with one for each feature.
        labels: true classes [B]; None if they are not known.
        additional_args: further arguments of the model, a tensor [B, ...] or any value, or a tuple of these.
    """

    inputs: Tensor | tuple[Tensor, ...]
    labels: Tensor | None = None
    additional_args: Any = None


def as_features(given: Any) -> list[BaseFeature]:
    """Features of this module out of one feature or several, also Captum's.

    Raises:
        TypeError: for something that is no feature.
        ValueError: for none, or a kind that cannot be shown.
    """
    listed = list(given) if isinstance(given, list | tuple) else [given]
    if not listed:
        raise ValueError("features is empty; give an ImageFeature or a TextFeature")
    return [_as_feature(each) for each in listed]


def _as_feature(given: Any) -> BaseFeature:
    if isinstance(given, BaseFeature) and given.kind:
        return given
    try:
        kind, name, transforms = given.visualization_type(), given.name, given.input_transforms
        shown = given.visualization_transform
    except (AttributeError, NotImplementedError):
        raise TypeError(f"features must be ImageFeature or TextFeature, got {type(given).__name__}") from None
    if kind not in _KINDS:
        raise ValueError(f"the feature {name!r} is of the kind {kind!r}; possible: {', '.join(_KINDS)}")
    return (ImageFeature if kind == "image" else TextFeature)(name, None, transforms, shown)


def _listed(transforms: Transforms) -> list[Callable[[Any], Any]]:
    if transforms is None:
        return []
    return [transforms] if callable(transforms) else list(transforms)
