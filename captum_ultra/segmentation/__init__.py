"""Unsupervised segmentation with the explanations of latent tokens."""

from captum_ultra.segmentation.cutting import gt_unique
from captum_ultra.segmentation.linkage import LinkageTree
from captum_ultra.segmentation.object_selection import object_mask
from captum_ultra.segmentation.record import Segmentation, segment_maps
from captum_ultra.segmentation.rule import SegmentationRule
from captum_ultra.segmentation.segmenter import LatentTokenSegmenter
from captum_ultra.segmentation.ultra_w import UltraW
from captum_ultra.segmentation.ultra_w_settings import UltraWSettings
from captum_ultra.segmentation.ultra_w_training import train_ultra_w

__all__ = [
    "LatentTokenSegmenter",
    "LinkageTree",
    "Segmentation",
    "SegmentationRule",
    "UltraW",
    "UltraWSettings",
    "gt_unique",
    "object_mask",
    "segment_maps",
    "train_ultra_w",
]
