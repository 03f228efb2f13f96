"""Unsupervised segmentation of images by the explanations of their latent tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from captum_ultra.adapters import Blocks, TokenLayout
from captum_ultra.attr.latent_token import LatentTokenAttribution
from captum_ultra.attr.scores import Score
from captum_ultra.segmentation.cutting import DEFAULT_THRESHOLD, Clusters, Cut
from captum_ultra.segmentation.landmarks import regular_landmarks
from captum_ultra.segmentation.linkage import check_scipy
from captum_ultra.segmentation.record import Segmentation
from captum_ultra.segmentation.rule import SegmentationRule

__all__ = ["LatentTokenSegmenter"]

_OWN = ("token", "layer", "score", "output", "target", "interpolation")


class LatentTokenSegmenter:
    """Segments images by the maps of a layer's patch tokens; no training, no labels.

    Tokens whose explanations look alike belong together: the maps of all patch tokens are clustered,
    and a pixel goes to the cluster whose maps are highest there (ULTra, arXiv 2411.12589,
    segmentation). The model is left exactly as it was found.

    Args:
        model: any vision model that :class:`~captum_ultra.LatentTokenAttribution` explains.
        layer: number of blocks passed, 1 to L, negative from the end, or a block, or its name. Layer 0
            has nothing to cluster: there every token holds itself alone.
        score: the scalar of a latent that is explained: "sum" (ULTra_S), "energy" (ULTra_E), weights
            (ULTra_W) or a callable.
        n_clusters: k, one for all images or one an image; takes the place of ``threshold``.
        threshold: the distance zeta up to which maps are joined.
        rule: how maps are compared and drawn; ``size`` is the images' own when it is None.
        landmarks: explain at most so many tokens, spread evenly over the grid, instead of all: the cost
            falls with their share of the tokens (see :func:`regular_landmarks`).
        blocks: the name of the container of the residual blocks; found automatically when None.
        attribution: further arguments of ``LatentTokenAttribution.attribute``, such as ``normalize``,
            ``self_token``, ``internal_batch_size`` or ``additional_forward_args``.

    Raises:
        TypeError, ValueError: for arguments; before the model runs.
        ModuleNotFoundError: if scipy is missing.

    Example:
        >>> import torch
        >>> from captum_ultra.models.vit import ViTConfig, VisionTransformer
        >>> model = VisionTransformer(ViTConfig(image_size=32, dim=16, depth=2, heads=2)).eval()
        >>> segmenter = LatentTokenSegmenter(model, layer=-1, score="energy")
        >>> found = segmenter.segment(torch.randn(2, 3, 32, 32), n_clusters=4)
        >>> found.labels.shape, found.token_labels.shape
        (torch.Size([2, 32, 32]), torch.Size([2, 64]))
        >>> found.cut(threshold=0.2).labels.shape
        torch.Size([2, 32, 32])
    """

    def __init__(
        self,
        model: nn.Module,
        layer: int | str | nn.Module = -1,
        score: Score = "sum",
        n_clusters: Clusters | None = None,
        threshold: float = DEFAULT_THRESHOLD,
        *,
        rule: SegmentationRule | None = None,
        landmarks: int | None = None,
        blocks: Blocks | None = None,
        attribution: Mapping[str, Any] | None = None,
    ) -> None:
        check_scipy()
        if landmarks is not None and landmarks < 2:
            raise ValueError(f"landmarks={landmarks}: at least 2 tokens are needed to tell regions apart")
        attribution = dict(attribution or {})
        for name in _OWN:
            if name in attribution:
                raise ValueError(f"attribution: {name!r} is decided by the segmenter, not by its attribution")
        Cut.parse(None, threshold)
        Cut.parse(n_clusters, None)
        self.layer, self.score, self.landmarks = layer, score, landmarks
        self.rule = rule or SegmentationRule()
        self._n_clusters, self._threshold = n_clusters, threshold
        self._attribution = attribution
        self._explain = LatentTokenAttribution(model, blocks=blocks)

    def segment(
        self,
        images: Tensor,
        n_clusters: Clusters | None = None,
        threshold: float | None = None,
        *,
        show_progress: bool = False,
    ) -> Segmentation:
        """Segment images.

        Args:
            images: [B, C, H, W], floating point, normalised as the model expects.
            n_clusters: in place of the segmenter's own cut, for this call.
            threshold: in place of the segmenter's own cut, for this call.
            show_progress: show a progress bar over the explained tokens.

        Returns:
            Labels [B, H, W], scores, cluster maps, and the trees, to be cut elsewhere at no cost. The maps
            in it are those of the explained tokens, on the patch grid.

        Raises:
            TypeError, ValueError: for arguments; before the long computation.
            UnsupportedModelError: for models that cannot be explained faithfully.
        """
        if n_clusters is None and threshold is None:
            n_clusters = self._n_clusters
            threshold = self._threshold if n_clusters is None else None
        cut = Cut.parse(n_clusters, threshold)
        layout = self._explain.token_layout(images, self._attribution.get("additional_forward_args"))
        tokens = self._tokens(layout, images)
        cut.check(len(images), len(tokens))
        maps = self._maps(images, tokens, layout, show_progress)
        rule = self.rule
        if rule.size is None:
            rule = replace(rule, size=(images.shape[2], images.shape[3]))
        return Segmentation.of(maps, n_clusters, threshold, rule=rule)

    def _tokens(self, layout: TokenLayout, images: Tensor) -> list[int]:
        """The tokens to explain, as the model counts them."""
        if images.dim() != 4:
            raise ValueError(f"images must have the shape [B, C, H, W], got {list(images.shape)}")
        if layout.grid is None:
            raise ValueError(
                f"the patch grid of {layout.tokens} tokens is not known, so their maps have no place in the image"
            )
        patches = range(layout.tokens)[layout.patches]
        if self.landmarks is None:
            return list(patches)
        return [patches[index] for index in regular_landmarks(layout.grid, self.landmarks)]

    def _maps(self, images: Tensor, tokens: list[int], layout: TokenLayout, show_progress: bool) -> Tensor:
        """Maps [B, T, rows, columns] of tokens on the patch grid."""
        rows = self._explain.attribute(
            images, token=tokens, layer=self.layer, score=self.score, output="patches",
            show_progress=show_progress, **self._attribution,
        )  # fmt: skip
        if not rows.any():
            raise ValueError(
                f"layer={self.layer!r}: every map is zero, so there is nothing to cluster. At layer 0 each token holds "
                "itself alone: take a layer after a block"
            )
        return rows.unflatten(-1, layout.grid)
