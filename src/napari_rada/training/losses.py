"""Losses: pure functions in which a voxel of weight 0 adds exactly nothing to value or gradient.

Shape legend: B batch, C classes, D H W voxels along (z, y, x).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor

SMOOTH = 1e-5


def weighted_cross_entropy(logits_BCDHW: Tensor, target_BDHW: Tensor, weight_BDHW: Tensor) -> Tensor:
    """Mean cross entropy over the voxels, weighted; 0 if all weights are 0.

    Parameters
    ----------
    target_BDHW
        int64 class index; where the weight is 0 any valid index.
    weight_BDHW
        float, not negative.
    """
    loss_BDHW = F.cross_entropy(logits_BCDHW, target_BDHW, reduction="none")
    return (weight_BDHW * loss_BDHW).sum() / weight_BDHW.sum().clamp_min(SMOOTH)


def weighted_soft_dice(logits_BCDHW: Tensor, target_BDHW: Tensor, weight_BDHW: Tensor) -> Tensor:
    """One minus the weighted soft Dice (squared denominator, V-Net), averaged over the classes; 0 without weights."""
    weight = weight_BDHW[:, None]
    probability = torch.softmax(logits_BCDHW, dim=1)
    one_hot = F.one_hot(target_BDHW, logits_BCDHW.shape[1]).movedim(-1, 1).to(probability.dtype)
    voxels = (0, 2, 3, 4)
    overlap = (weight * probability * one_hot).sum(voxels)
    total = (weight * (probability.square() + one_hot)).sum(voxels)
    present = (weight.sum() > 0).to(probability.dtype)
    return present * (1.0 - (2.0 * overlap + SMOOTH) / (total + SMOOTH)).mean()


def supervised_loss(logits_BCDHW: Tensor, target_BDHW: Tensor, weight_BDHW: Tensor) -> Tensor:
    """Half cross entropy, half soft Dice (METHOD section 3)."""
    return 0.5 * (
        weighted_cross_entropy(logits_BCDHW, target_BDHW, weight_BDHW)
        + weighted_soft_dice(logits_BCDHW, target_BDHW, weight_BDHW)
    )


def entropy(probability_BCDHW: Tensor) -> Tensor:
    """Entropy in nat of a class distribution, (B, D, H, W)."""
    return -(probability_BCDHW * probability_BCDHW.clamp_min(1e-6).log()).sum(dim=1)


def cross_loss(student_BCDHW: Tensor, teacher_BCDHW: Tensor, counted_BDHW: Tensor) -> Tensor:
    """Cross entropy of the student with the arg-max of the teacher, over the counted voxels only.

    No gradient reaches the teacher.
    """
    target_BDHW = teacher_BCDHW.detach().argmax(dim=1)
    return weighted_cross_entropy(student_BCDHW, target_BDHW, counted_BDHW.to(student_BCDHW.dtype))
