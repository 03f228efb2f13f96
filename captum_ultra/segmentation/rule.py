"""What is done to maps besides cutting their tree."""

from __future__ import annotations

from dataclasses import dataclass

from captum_ultra.segmentation.enlarging import INTERPOLATION

__all__ = ["SegmentationRule"]


@dataclass(frozen=True)
class SegmentationRule:
    """How maps are compared and how clusters become pixels.

    Attributes:
        size: (H, W) of the labels in pixels; that of the maps when None.
        cluster_on: "image" compares the maps as they are when enlarged to ``size``, as the authors do,
            but without enlarging them, so that it costs no more than "grid", which compares them as given.
        interpolation: how the clusters' sums are enlarged: "bilinear", "bicubic" (undershoots beside
            sharp peaks) or "nearest".
        scale_maps: min-max scale every map before it is compared and summed, as the paper does and the
            authors' code does not.
        smooth: side in pixels of the window of a majority vote among the labels, an odd number; 0, the
            default, leaves the edges as they are.

    Raises:
        ValueError: for an unknown name or an impossible number.

    Example:
        >>> SegmentationRule(size=(64, 64), smooth=5)
        SegmentationRule(size=(64, 64), cluster_on='image', interpolation='bilinear', scale_maps=False, smooth=5)
    """

    size: tuple[int, int] | None = None
    cluster_on: str = "image"
    interpolation: str = "bilinear"
    scale_maps: bool = False
    smooth: int = 0

    def __post_init__(self) -> None:
        options = {
            "cluster_on": (self.cluster_on, ("grid", "image")),
            "interpolation": (self.interpolation, INTERPOLATION),
        }
        for name, (given, possible) in options.items():
            if given not in possible:
                raise ValueError(f"{name}={given!r} is unknown; possible: {', '.join(map(repr, possible))}")
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise ValueError(f"size={self.size} must be (rows, columns) in pixels, each at least 1")
        if self.smooth < 0 or (self.smooth > 0 and self.smooth % 2 == 0):
            raise ValueError(
                f"smooth={self.smooth} must be 0 or an odd number of pixels, so that windows have a middle"
            )
