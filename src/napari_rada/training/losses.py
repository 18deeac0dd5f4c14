"""Losses: pure functions in which a voxel of weight 0 adds exactly nothing to value or gradient.

A loss is a ratio of sums over the voxels. Sums and ratio are functions of their own: the sums of the parts of a batch,
wherever they are computed, add up to those of the whole, while ratios do not.

Shape legend: B batch, C classes, S sums, D H W voxels along (z, y, x).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor

SMOOTH = 1e-5


def cross_entropy_sums(logits_BCDHW: Tensor, target_BDHW: Tensor, weight_BDHW: Tensor) -> Tensor:
    """Weighted sum of the cross entropy over the voxels, and sum of the weights, (2,).

    Parameters
    ----------
    target_BDHW
        int64 class index; where the weight is 0 any valid index.
    weight_BDHW
        float, not negative.
    """
    loss_BDHW = F.cross_entropy(logits_BCDHW, target_BDHW, reduction="none")
    return torch.stack([(weight_BDHW * loss_BDHW).sum(), weight_BDHW.sum()])


def weighted_mean(sums_2: Tensor) -> Tensor:
    """Turn the sums of `cross_entropy_sums` into a mean; 0 if all weights are 0."""
    return sums_2[0] / sums_2[1].clamp_min(SMOOTH)


def soft_dice_sums(logits_BCDHW: Tensor, target_BDHW: Tensor, weight_BDHW: Tensor) -> Tensor:
    """Weighted overlap and weighted total of prediction and target, per class, (2, C)."""
    weight = weight_BDHW[:, None]
    probability = torch.softmax(logits_BCDHW, dim=1)
    one_hot = F.one_hot(target_BDHW, logits_BCDHW.shape[1]).movedim(-1, 1).to(probability.dtype)
    voxels = (0, 2, 3, 4)
    overlap = (weight * probability * one_hot).sum(voxels)
    return torch.stack([overlap, (weight * (probability.square() + one_hot)).sum(voxels)])


def soft_dice(sums_2C: Tensor, weight: Tensor) -> Tensor:
    """One minus the weighted soft Dice (squared denominator, V-Net), averaged over the classes; 0 without weights.

    Parameters
    ----------
    sums_2C
        Those of `soft_dice_sums`.
    weight
        Sum of all weights.
    """
    overlap, total = sums_2C
    present = (weight > 0).to(sums_2C.dtype)
    dice: Tensor = (2.0 * overlap + SMOOTH) / (total + SMOOTH)
    return present * (1.0 - dice).mean()


def supervised_sums(logits_BCDHW: Tensor, target_BDHW: Tensor, weight_BDHW: Tensor) -> Tensor:
    """Return the sums of cross entropy and soft Dice, one after the other, (2 + 2C,)."""
    both = (cross_entropy_sums, soft_dice_sums)
    return torch.cat([sums(logits_BCDHW, target_BDHW, weight_BDHW).flatten() for sums in both])


def supervised(sums_S: Tensor) -> Tensor:
    """Half cross entropy, half soft Dice (METHOD section 3), from the sums of `supervised_sums`."""
    return 0.5 * (weighted_mean(sums_S[:2]) + soft_dice(sums_S[2:].view(2, -1), sums_S[1]))


def supervised_loss(logits_BCDHW: Tensor, target_BDHW: Tensor, weight_BDHW: Tensor) -> Tensor:
    """Half cross entropy, half soft Dice of a whole batch; parameters as for `cross_entropy_sums`."""
    return supervised(supervised_sums(logits_BCDHW, target_BDHW, weight_BDHW))


def entropy(probability_BCDHW: Tensor) -> Tensor:
    """Entropy in nat of a class distribution, (B, D, H, W)."""
    return -(probability_BCDHW * probability_BCDHW.clamp_min(1e-6).log()).sum(dim=1)


def cross_sums(student_BCDHW: Tensor, teacher_BCDHW: Tensor, counted_BDHW: Tensor) -> Tensor:
    """Return the sums (2,) of the cross entropy of a student with its teacher's arg-max, over the counted voxels only.

    No gradient reaches the teacher.
    """
    target_BDHW = teacher_BCDHW.detach().argmax(dim=1)
    return cross_entropy_sums(student_BCDHW, target_BDHW, counted_BDHW.to(student_BCDHW.dtype))


def cross_loss(student_BCDHW: Tensor, teacher_BCDHW: Tensor, counted_BDHW: Tensor) -> Tensor:
    """Mean of what `cross_sums` adds up; 0 if nothing counts."""
    return weighted_mean(cross_sums(student_BCDHW, teacher_BCDHW, counted_BDHW))
