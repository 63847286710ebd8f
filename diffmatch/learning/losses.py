"""Losses over masks with void and acceptance.

All take float32 scores at image size. None is NaN on an all-void crop.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from diffmatch.diffusion.objective import masked_mean, per_pixel_ce, per_pixel_squared
from diffmatch.domain import VOID

OHEM_PROBABILITY, OHEM_KEPT = 0.7, 100_000
"""A pixel whose true class has at least this probability is left out; so many of an image remain at least.

The values are UniMatch's on Cityscapes.

UniMatch keeps 200,000 of the two images of each GPU; counted by the image, as many are kept on one device as on eight.
"""


def one_hot(target: Tensor, classes: int) -> Tensor:
    """(N, C, H, W) float32, all zero at void."""
    index = torch.where(target == VOID, classes, target.long())
    return F.one_hot(index, classes + 1)[..., :classes].movedim(-1, 1).float()


def per_pixel(kind: str, scores: Tensor, target: Tensor) -> Tensor:
    """(N, H, W), 0 at void: `squared`, or cross-entropy, which all other kinds of `train.loss` are made of."""
    return per_pixel_squared(scores.softmax(1), target) if kind == "squared" else per_pixel_ce(scores, target)


def entropy(probabilities: Tensor) -> Tensor:
    """(N, H, W) in nats, of (N, C, H, W)."""
    return -(probabilities * probabilities.clamp(min=1e-10).log()).sum(1)


def dice_loss(scores: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """1 - soft Dice with squared denominators, as UniMatch has it on ACDC.

    The mean is over the classes, each pooled over the batch. Only pixels with weight count.
    """
    w = (weight * (target != VOID))[:, None]
    p = scores.softmax(1) * w
    y = one_hot(target, scores.shape[1]) * w
    overlap, size = (p * y).sum((0, 2, 3)), (p.square() + y).sum((0, 2, 3))
    return (1 - (2 * overlap + 1e-5) / (size + 1e-5)).mean()


def ohem(scores: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy over hard pixels only (online hard example mining); works without data-dependent shapes.

    Hard is a pixel whose true class has at most OHEM_PROBABILITY; at least OHEM_KEPT pixels an image are kept, so that
    with crops that have no more it is the plain cross-entropy.
    """
    valid = target != VOID
    loss = per_pixel_ce(scores, target)
    probability = torch.where(valid, (-loss.detach()).exp(), 2.0).flatten()
    kept = min(OHEM_KEPT * len(scores), probability.numel())
    threshold = probability.kthvalue(kept).values.clamp(min=OHEM_PROBABILITY)
    hard = (probability <= threshold.clamp(max=1)).view_as(valid) & valid
    return masked_mean(loss, hard.float(), hard)


def supervised_loss(kind: str, scores: Tensor, target: Tensor) -> Tensor:
    """The labelled loss of the discriminative methods.

    `ce`, `ce_dice` = (CE + Dice) / 2, `ohem`, or `squared`, DiffMatch's own.
    """
    if kind == "ohem":
        return ohem(scores, target)
    valid = target != VOID
    loss = masked_mean(per_pixel(kind, scores, target), valid.float(), valid)
    return (loss + dice_loss(scores, target, valid.float())) / 2 if kind == "ce_dice" else loss


def pseudo_loss(kind: str, scores: Tensor, target: Tensor, accepted: Tensor) -> Tensor:
    """The unlabelled loss of the discriminative methods.

    Dice for `ce_dice`, squared error for `squared`, else cross-entropy.

    Nothing accepted: exactly 0.

    Args:
        target: (N, H, W) pseudo-labels, void where there is no image.
        accepted: (N, H, W) bool, confident pixels.
    """
    if kind == "ce_dice":
        return dice_loss(scores, target, accepted.float()) * accepted.any()
    return masked_mean(per_pixel(kind, scores, target), accepted.float(), target != VOID)


def share_weighted_loss(kind: str, scores: Tensor, target: Tensor, sure: Tensor) -> Tensor:
    """ReCo's unlabelled loss: every pixel is taught, an image weighs as much as the share of its pixels that are sure.

    As in the authors' code the mean is over pixels whose loss is above 0. Dice is over the images with a share, times
    the mean of the weights.

    Args:
        target: (N, H, W) pseudo-labels, void where there is no image.
        sure: (N, H, W) bool, pixels of which the teacher is sure.
    """
    valid = target != VOID
    share = (sure & valid).sum((1, 2)) / valid.sum((1, 2)).clamp(min=1)
    weight = share[:, None, None] * valid
    if kind == "ce_dice":
        return dice_loss(scores, target, (weight > 0).float()) * weight.sum() / valid.sum().clamp(min=1)
    loss = per_pixel(kind, scores, target)
    return masked_mean(loss, weight, loss > 0)


def consistency_loss(scores: Tensor, probabilities: Tensor, accepted: Tensor, valid: Tensor) -> Tensor:
    """Squared error between class probabilities, summed over the classes.

    Mean Teacher's (Tarvainen & Valpola 2017), and Eq. 6 with f's own output as y_0.

    Args:
        probabilities: (N, C, H, W), the teacher's.
        accepted: (N, H, W) bool, pixels that carry loss; the mean is over the `valid` ones, (N, H, W) bool.
    """
    return masked_mean((scores.softmax(1) - probabilities).square().sum(1), accepted.float(), valid)
