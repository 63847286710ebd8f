"""Pseudo-labels: which are accepted, how CutMix moves them, what an accepted pixel is taught."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from diffmatch.domain import VOID
from diffmatch.learning.losses import consistency_loss
from diffmatch.settings import Section

SOFT_RAMP = 0.25
"""Share of the training over which the weight of soft targets rises, as Mean Teacher's does."""


class PseudoLabels(NamedTuple):
    """Labels (N, H, W) uint8, the mask of accepted pixels, and the probabilities (N, C, H, W) that they come from."""

    labels: Tensor
    accepted: Tensor
    probabilities: Tensor


class ThresholdOptions(Section):
    """Which pseudo-labels are accepted.

    `limits` stands in none of these methods' papers. Where it is unset, it is not in the run hash either.
    """

    threshold: float = Field(default=0.95, ge=0, le=1, description="of the largest probability; 0 accepts all")
    limits: Literal["class"] | None = Field(
        default=None, description="class: of each predicted class at least the share accepted of all"
    )


class TargetOptions(ThresholdOptions):
    """What an accepted pixel is taught.

    `targets` is the authors' in none of these methods. Where it is unset, it is not in the run hash either.
    """

    targets: Literal["soft"] | None = Field(
        default=None,
        description="soft: the probabilities instead of the label (squared error, its weight rising over a quarter)",
    )


def confident(probabilities: Tensor, threshold: float) -> PseudoLabels:
    """Hard labels of probabilities (N, C, H, W), accepted where the maximum reaches the threshold (FixMatch, Eq. 4)."""
    confidence, labels = probabilities.max(1)
    return PseudoLabels(labels.to(torch.uint8), confidence >= threshold, probabilities)


def accepted_by(probabilities: Tensor, options: ThresholdOptions, inside: Tensor | None = None) -> PseudoLabels:
    """Hard labels of probabilities (N, C, H, W), accepted by the threshold and the limits per class, if set.

    With limits, of each class that is predicted in the batch at least the share of pixels that reaches the threshold
    among all classes together is accepted, the most confident ones (class-balanced self-training, Zou et al. 2018, Eq.
    3, with that share as p). Nothing that the threshold accepts is left out.

    Args:
        inside: (N, H, W) bool, false in padding, which has no part in these shares; None: all is image.
    """
    pseudo = confident(probabilities, options.threshold)
    if options.limits is None:
        return pseudo
    confidence, labels = probabilities.amax(1), pseudo.labels.long()
    image = torch.ones_like(pseudo.accepted) if inside is None else inside
    counts = pixels_per_class(labels, image, probabilities.shape[1])
    total = counts.sum().clamp(min=1)
    wanted = ((pseudo.accepted & image).sum() * counts + total - 1) // total
    return pseudo._replace(
        accepted=pseudo.accepted | most_confident(torch.where(image, confidence, -1.0), labels, wanted)
    )


def most_confident(confidence: Tensor, labels: Tensor, wanted: Tensor) -> Tensor:
    """The `wanted` (C,) most confident pixels of each class, as a mask of `labels`' shape.

    Of equally confident pixels the first are taken. Nothing leaves the device.
    """
    order = confidence.flatten().argsort(descending=True, stable=True)
    order = order[labels.flatten()[order].argsort(stable=True)]
    ranked = labels.flatten()[order]
    counts = pixels_per_class(labels, torch.ones_like(labels, dtype=torch.bool), len(wanted))
    rank = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts)[ranked]
    return torch.zeros_like(order, dtype=torch.bool).scatter_(0, order, rank < wanted[ranked]).view_as(labels)


def pixels_per_class(labels: Tensor, where: Tensor, classes: int) -> Tensor:
    """Pixels of each class among `where`, (C,) int64, without leaving the device."""
    index = torch.where(where & (labels != VOID), labels.long(), classes)
    return torch.zeros(classes + 1, dtype=torch.int64, device=labels.device).scatter_add_(
        0, index.flatten(), torch.ones_like(index.flatten())
    )[:classes]


def cutmix(x: Tensor, boxes: Tensor, other: Tensor | None = None) -> Tensor:
    """Another image's content inside the boxes (Yun et al. 2019).

    Images, labels, confidence and padding go through the same call.

    Args:
        x: (U, H, W) or (U, dates, channels, H, W).
        boxes: (U, H, W) bool.
        other: the content that is pasted, of x's shape; None: that of the next image of the batch.
    """
    other = x.roll(-1, 0) if other is None else other
    return torch.where(boxes.view(len(x), *[1] * (x.ndim - 3), *boxes.shape[1:]), other, x)


Pasted = tuple[PseudoLabels, Tensor]
"""What is known of the images that CutMix pastes: their pseudo-labels, and where they are image, (U, H, W) bool."""


def mixed_targets(
    pseudo: PseudoLabels, inside: Tensor, boxes: Tensor, pasted: Pasted | None = None
) -> tuple[Tensor, Tensor]:
    """Pseudo-labels and acceptance as a CutMixed strong view sees them: void where there is only padding.

    Args:
        pasted: of the images that are pasted; None: the next ones of the batch.

    Returns:
        target (U, H, W) uint8 and accepted (U, H, W) bool.
    """
    others = (None, None) if pasted is None else unmixed_targets(*pasted)
    target, accepted = (
        cutmix(own, boxes, other) for own, other in zip(unmixed_targets(pseudo, inside), others, strict=True)
    )
    return target, accepted


def unmixed_targets(pseudo: PseudoLabels, inside: Tensor) -> tuple[Tensor, Tensor]:
    """`mixed_targets` of a view without CutMix."""
    return torch.where(inside, pseudo.labels, VOID), pseudo.accepted & inside


def soft_loss(
    scores: Tensor, pseudo: PseudoLabels, inside: Tensor, boxes: Tensor, pasted: Pasted | None = None
) -> Tensor:
    """The loss of a strong view's scores (U, C, H, W) where `targets` is soft: Mean Teacher's consistency.

    Its weight has to rise, over SOFT_RAMP of the training.
    """
    target, accepted = mixed_targets(pseudo, inside, boxes, pasted)
    probabilities = cutmix(pseudo.probabilities, boxes, pasted and pasted[0].probabilities)
    return consistency_loss(scores, probabilities, accepted, target != VOID)


def classmix(labels: Tensor, inside: Tensor, classes: int) -> Tensor:
    """Where the next image's content is pasted, (U, H, W) bool for `cutmix`.

    An image keeps the pixels of a random half of its classes, rounded down (Olsson et al. 2021, ClassMix).

    Args:
        labels: (U, H, W), pseudo-labels.
        inside: (U, H, W) bool, false in padding, which is pasted over.
    """
    index = torch.where(inside, labels.long(), classes).flatten(1)
    present = torch.zeros(len(labels), classes + 1, dtype=torch.bool, device=labels.device).scatter_(1, index, True)
    present[:, classes] = False
    lots = torch.where(present, torch.rand(present.shape, device=labels.device), -1.0)
    kept = lots.argsort(1, descending=True).argsort(1) < present.sum(1, keepdim=True) // 2
    return ~kept.gather(1, index).view_as(labels)
