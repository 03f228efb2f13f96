"""Unsupervised segmentation of images by the explanations of their latent tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from captum_ultra.adapters import Blocks, TokenLayout
from captum_ultra.attr.attribution import TokenAttribution
from captum_ultra.attr.latent_token import LatentTokenAttribution
from captum_ultra.attr.latents import LatentReader
from captum_ultra.attr.methods import find_method
from captum_ultra.attr.scores import Score
from captum_ultra.segmentation.cutting import DEFAULT_THRESHOLD, Clusters, Cut
from captum_ultra.segmentation.landmarks import latent_landmarks
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

    Maps of signed methods keep their negative values: tokens are alike where the same places count for them and
    against them.

    Args:
        model: any vision model that :class:`~captum_ultra.LatentTokenAttribution` explains.
        layer: number of blocks passed, 1 to L, negative from the end, or a block, or its name. Layer 0
            has nothing to cluster: there every token holds itself alone.
        score: the scalar of a latent that is explained: "sum" (ULTra_S), "energy" (ULTra_E), weights
            (ULTra_W) or a callable.
        n_clusters: k, one for all images or one an image; takes the place of ``threshold``.
        threshold: the distance zeta up to which maps are joined.
        rule: how maps are compared and drawn; ``size`` is the images' own when it is None.
        landmarks: explain only so many tokens of every image, and let each other token have the map of
            one whose latent is like its own: the cost falls with their share of the tokens. All if None.
        method: by which maps are made: "ultra", "residual", or another name that
            :func:`captum_ultra.attr.methods.find_method` knows, or a class of method.
        blocks: the name of the container of the residual blocks; found automatically when None.
        attribution: further arguments of the method's ``attribute``, such as ``normalize``, ``self_token``,
            ``internal_batch_size`` or ``additional_forward_args``, and the method's own choices.

    Raises:
        TypeError, ValueError: for arguments; before the model runs.
        MissingExtraError: if scipy is missing.

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
        method: str | type[TokenAttribution] = "ultra",
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
        self._explain = (find_method(method) if isinstance(method, str) else method)(model, blocks)
        self._layout_of = LatentTokenAttribution(model, blocks).token_layout
        self._read = LatentReader(model, layer, blocks)

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
        layout = self._layout_of(images, self._attribution.get("additional_forward_args"))
        patches = _patches(layout, images)
        landmarks = None if self.landmarks is None or self.landmarks >= len(patches) else self.landmarks
        cut.check(len(images), landmarks or len(patches))
        if landmarks is None:
            maps, assigned = self._maps(images, patches, show_progress), None
        else:
            maps, assigned = self._landmark_maps(images, patches, landmarks, show_progress)
        rule = self.rule
        if rule.size is None:
            rule = replace(rule, size=(images.shape[2], images.shape[3]))
        grid_maps = maps.unflatten(-1, layout.grid)
        return Segmentation.of(grid_maps, n_clusters, threshold, rule=rule, assigned=assigned)

    def _maps(self, images: Tensor, tokens: list[int], show_progress: bool) -> Tensor:
        """Maps [B, T, patches] of tokens."""
        maps = self._explain.attribute(
            images, token=tokens, layer=self.layer, score=self.score, output="patches",
            show_progress=show_progress, **self._attribution,
        )  # fmt: skip
        assert isinstance(maps, Tensor)  # as the images are
        if not maps.any():
            number = self._read.number(images, self._attribution.get("additional_forward_args"))
            reason = (
                "the explained scalar depends on no other token: take another layer, score or method"
                if number
                else "each token holds itself alone: take a layer after a block"
            )
            raise ValueError(f"layer={number}: every map is zero, so there is nothing to cluster; {reason}")
        return maps

    def _landmark_maps(
        self, images: Tensor, patches: list[int], number: int, show_progress: bool
    ) -> tuple[Tensor, Tensor]:
        """Maps [B, number, patches] of each image's own landmarks, and the map of every patch [B, patches]."""
        maps, assigned = [], []
        for image in images.split(1):
            latents = self._read(image, self._attribution.get("additional_forward_args"))[0, patches]
            landmarks, belongs = latent_landmarks(latents, number)
            tokens = [patches[place] for place in landmarks.tolist()]
            maps.append(self._maps(image, tokens, show_progress))
            assigned.append(belongs)
        return torch.cat(maps), torch.stack(assigned)


def _patches(layout: TokenLayout, images: Tensor) -> list[int]:
    """The patches' tokens, as the model counts them, row by row of the picture."""
    if images.dim() != 4:
        raise ValueError(f"images must have the shape [B, C, H, W], got {list(images.shape)}")
    if layout.grid is None:
        raise ValueError(
            f"the patch grid of {layout.tokens} tokens is not known, so their maps have no place in the image"
        )
    return torch.arange(layout.tokens)[layout.patches].tolist()
