"""Metrics of segmentations and of explanations, as torchmetrics."""

from captum_ultra.metrics.initial_token_iou import InitialTokenIoU, initial_token_iou
from captum_ultra.metrics.matched_segmentation import MatchedSegmentation

__all__ = ["InitialTokenIoU", "MatchedSegmentation", "initial_token_iou"]
