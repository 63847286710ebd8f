"""How confident the predictions of each class are: a histogram from which thresholds per class are read."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffmatch.shared.ranks import over_ranks

LEVELS = 2048
"""Confidences are rounded to multiples of 1 / LEVELS, as float16 rounds them between 1/2 and 1."""


class ConfidenceHistogram(nn.Module):
    """Pixels by predicted class and rounded confidence since the last `reset`, over all ranks.

    The counts are a buffer: they travel in the checkpoint.
    """

    counts: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(classes, LEVELS + 1, dtype=torch.int64))

    @property
    def seen(self) -> Tensor:
        """The number of pixels that were counted, a scalar."""
        return self.counts.sum()

    def reset(self) -> None:
        """Forget all pixels."""
        self.counts.zero_()

    @torch.no_grad()
    def add(self, probabilities: Tensor, inside: Tensor) -> None:
        """Count the predictions (N, C, H, W) where inside (N, H, W), on all ranks."""
        confidence, labels = probabilities.max(1)
        bins = torch.where(inside, labels * (LEVELS + 1) + level(confidence), self.counts.numel()).flatten()
        found = torch.zeros(self.counts.numel() + 1, dtype=torch.int64, device=bins.device)
        found.scatter_add_(0, bins, torch.ones_like(bins))
        self.counts.add_(over_ranks(found[:-1].view_as(self.counts)))

    def limits(self, budget: Tensor) -> tuple[Tensor, Tensor]:
        """Thresholds and keep rates that leave at most a number of pixels of each class.

        The threshold of a class is its `budget`-th largest confidence, or its smallest one if it has fewer pixels. As
        many pixels may be equally confident, more than the budget can reach it: the rate is the share of those that
        reach it which the budget allows. A class without a pixel, or without a budget, has the rate 0.

        Args:
            budget: (C,) int64, pixels.

        Returns:
            levels (C,) int64, to be compared with `level`, and rates (C,) float32 in [0, 1].
        """
        reaching = self.counts.flip(1).cumsum(1).flip(1)
        levels = (reaching >= torch.minimum(budget[:, None], reaching[:, :1])).sum(1) - 1
        above = reaching.gather(1, levels[:, None])[:, 0]
        rates = (budget / above.clamp(min=1)).clamp(max=1) * (above > 0)
        return levels, rates.float()


def level(confidence: Tensor) -> Tensor:
    """Confidences in [0, 1], rounded to whole multiples of 1 / LEVELS, as int64."""
    return (confidence * LEVELS).round().long()
