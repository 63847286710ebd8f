"""What labelled pixels say of confidence: where right and wrong predictions part, and what a class is used to (DAW)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffmatch.domain import VOID
from diffmatch.learning.losses import one_hot
from diffmatch.shared.ranks import over_ranks

LEAST = 10
"""Pixels that a side needs in a step; with fewer its mean and variance stay as they are."""


class CrossingThreshold(nn.Module):
    """The confidence at which the Gaussians of right and of wrong predictions cross.

    Means and variances are running ones over steps; they start as 1/C and 1/2 on both sides. The threshold keeps its
    value, at first `first`, where no crossing exists.

    Attributes:
        means, variances: (2,), of right and of wrong predictions.
        value: scalar, the threshold, from 1/C to 1.
    """

    means: Tensor
    variances: Tensor
    value: Tensor

    def __init__(self, classes: int, momentum: float, first: float = 0.95) -> None:
        super().__init__()
        self.classes, self.momentum = classes, momentum
        self.register_buffer("means", torch.full((2,), 1 / classes))
        self.register_buffer("variances", torch.full((2,), 0.5))
        self.register_buffer("value", torch.tensor(first))

    @torch.no_grad()
    def update(self, probabilities: Tensor, masks: Tensor) -> None:
        """Follow predictions (N, C, H, W) of all ranks on labelled images with masks (N, H, W), void left out."""
        confidence, labels = probabilities.max(1)
        right = labels == masks
        sides = torch.stack([right, ~right & (masks != VOID)]).float()
        counts, sums = over_ranks(torch.stack([sides.sum((1, 2, 3)), (sides * confidence).sum((1, 2, 3))]))
        means = sums / counts.clamp(min=1)
        squares = over_ranks((sides * (confidence - means.view(2, 1, 1, 1)).square()).sum((1, 2, 3)))
        enough, step = counts >= LEAST, 1 - self.momentum
        self.means.lerp_(torch.where(enough, means, self.means), step)
        self.variances.lerp_(torch.where(enough, squares / (counts - 1).clamp(min=1), self.variances), step)
        self.value.copy_(crossing(self.means, self.variances, self.value, 1 / self.classes))


def crossing(means: Tensor, variances: Tensor, last: Tensor, least: float) -> Tensor:
    """The root of a tau^2 + b tau + c = 0 that lies between the means where they are apart, from `least` to 1.

    a = v+ - v-, b = 2 (m+ v- - m- v+), c = m-^2 v+ - m+^2 v- + 2 v+ v- ln(s- / s+ + 1e-8), with s the roots of the
    variances v; tau = (-b + sqrt(b^2 - 4 a c)) / (2 a + 1e-10). Where b^2 <= 4 a c it is `last`.

    Args:
        means, variances: (2,), of right (+) and of wrong (-) predictions.
    """
    (m_right, m_wrong), (v_right, v_wrong) = means.double(), variances.double()
    a = v_right - v_wrong
    b = 2 * (m_right * v_wrong - m_wrong * v_right)
    c = m_wrong.square() * v_right - m_right.square() * v_wrong
    c = c + 2 * v_right * v_wrong * ((v_wrong / v_right).sqrt() + 1e-8).log()
    discriminant = b.square() - 4 * a * c
    root = (-b + discriminant.clamp(min=0).sqrt()) / (2 * a + 1e-10)
    return torch.where(discriminant > 0, root.clamp(least, 1), last).to(means.dtype)


class ConfidenceAlignment(nn.Module):
    """Probabilities of a class are scaled by how sure the network is of it on labelled images, relative to unlabelled.

    The two confidences of a class are running means of max p over the pixels that are predicted as the class. A class
    that is predicted rarely is therefore not raised for being rare.

    Attributes:
        confidence: (2, C), on labelled and on unlabelled images; starts as 1/C.
    """

    confidence: Tensor

    def __init__(self, classes: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("confidence", torch.full((2, classes), 1 / classes))

    def forward(self, probabilities: Tensor) -> Tensor:
        """Probabilities (N, C, H, W), scaled and summing to 1 again."""
        labelled, unlabelled = self.confidence
        scaled: Tensor = probabilities * (labelled / unlabelled)[:, None, None]
        return scaled / scaled.sum(1, keepdim=True)

    @torch.no_grad()
    def update(self, labelled: Tensor, valid: Tensor, unlabelled: Tensor, inside: Tensor) -> None:
        """Follow predictions of all ranks; a class that is not predicted keeps its confidence.

        Args:
            labelled, unlabelled: probabilities (N, C, H, W).
            valid, inside: (N, H, W) bool, the pixels that count.
        """
        kinds = [sums_of_confidence(labelled, valid), sums_of_confidence(unlabelled, inside)]
        sums, counts = over_ranks(torch.stack(kinds, 1))
        means = torch.where(counts > 0, sums / counts.clamp(min=1), self.confidence)
        self.confidence.lerp_(means, 1 - self.momentum)


def sums_of_confidence(probabilities: Tensor, where: Tensor) -> Tensor:
    """Sum of max p over the pixels predicted as each class, and their number: (2, C)."""
    confidence, labels = probabilities.max(1)
    members = one_hot(torch.where(where, labels, VOID), probabilities.shape[1])
    return torch.stack([(members * confidence[:, None]).sum((0, 2, 3)), members.sum((0, 2, 3))])
