"""Metrics of segmentations and of explanations, as torchmetrics."""

from captum_ultra.metrics.initial_token_iou import InitialTokenIoU, initial_token_iou
from captum_ultra.metrics.localization import LocalizationScore
from captum_ultra.metrics.matched_segmentation import MatchedSegmentation
from captum_ultra.metrics.perturbation_curve import AOPC, DeletionAUC, InsertionAUC, LogOdds, PerturbationAUC

__all__ = [
    "AOPC",
    "DeletionAUC",
    "InitialTokenIoU",
    "InsertionAUC",
    "LocalizationScore",
    "LogOdds",
    "MatchedSegmentation",
    "PerturbationAUC",
    "initial_token_iou",
]
