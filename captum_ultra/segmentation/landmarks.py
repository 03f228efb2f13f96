"""Tokens that stand for all tokens of a large grid."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ultra.segmentation.linkage import LinkageTree, check_scipy

__all__ = ["latent_landmarks"]


def latent_landmarks(latents: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """So many tokens, each the middle of a group of tokens with similar latents.

    Groups are made by hierarchical clustering of the directions of the latents (Ward, 1963), which makes
    them of similar size and needs no random start; the landmark of a group is the token nearest to its mean.

    Args:
        latents: [T, d], of one image at the explained layer.
        number: of landmarks, at most T.

    Returns:
        The landmarks, int64 [number], in ascending order, and for each token the place of its landmark
        among them, int64 [T].

    Raises:
        ValueError: for a number out of range.

    Example:
        >>> latents = torch.tensor([[1.0, 0.0], [0.9, 0.1], [1.0, 0.2], [0.0, 1.0]])
        >>> latent_landmarks(latents, 2)
        (tensor([1, 3]), tensor([0, 0, 0, 1]))
    """
    check_scipy()
    from scipy.cluster.hierarchy import linkage

    if not 1 <= number <= len(latents):
        raise ValueError(f"number={number}: {len(latents)} tokens have 1 to {len(latents)} landmarks")
    units = F.normalize(latents.detach().cpu().double(), dim=-1)
    merges = linkage(units.numpy(), method="ward") if len(units) > 1 else np.zeros((0, 4))
    groups = F.one_hot(LinkageTree(merges).cut(n_clusters=number)).double()
    means = (groups.T @ units) / groups.sum(0)[:, None]
    distances = torch.cdist(means, units).masked_fill(groups.T == 0, torch.inf)
    chosen, order = distances.argmin(1).sort()
    return chosen, order.argsort()[groups.argmax(1)]
