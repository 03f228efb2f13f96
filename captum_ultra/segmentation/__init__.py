"""Unsupervised segmentation with the explanations of latent tokens."""

from captum_ultra.segmentation.cutting import gt_unique
from captum_ultra.segmentation.linkage import LinkageTree
from captum_ultra.segmentation.object_selection import object_mask
from captum_ultra.segmentation.record import Segmentation, segment_maps
from captum_ultra.segmentation.rule import SegmentationRule
from captum_ultra.segmentation.segmenter import LatentTokenSegmenter

__all__ = [
    "LatentTokenSegmenter",
    "LinkageTree",
    "Segmentation",
    "SegmentationRule",
    "gt_unique",
    "object_mask",
    "segment_maps",
]
