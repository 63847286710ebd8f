"""How confident the predictions of each class are: a histogram from which thresholds per class are read."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffmatch.shared.ranks import over_ranks


class ConfidenceHistogram(nn.Module):
    """Pixels by predicted class and bin of confidence since the last `reset`, over all ranks.

    The counts are a buffer: they travel in the checkpoint.

    Attributes:
        counts: (C, bins) int64.
    """

    counts: Tensor

    def __init__(self, classes: int, bins: int) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(classes, bins, dtype=torch.int64))

    def reset(self) -> None:
        """Forget all pixels."""
        self.counts.zero_()

    @torch.no_grad()
    def add(self, labels: Tensor, bins: Tensor, inside: Tensor) -> None:
        """Count the predictions of all ranks where inside, all (N, H, W); bins rise with confidence."""
        index = torch.where(inside, labels * self.counts.shape[1] + bins, self.counts.numel()).flatten()
        found = torch.zeros(self.counts.numel() + 1, dtype=torch.int64, device=index.device)
        found.scatter_add_(0, index, torch.ones_like(index))
        self.counts.add_(over_ranks(found[:-1].view_as(self.counts)))

    def limits(self, budget: Tensor) -> tuple[Tensor, Tensor]:
        """Thresholds and keep rates that leave at most a number of pixels of each class.

        The threshold of a class is the bin of its `budget`-th most confident pixel, or of its last one if it has fewer.
        As pixels share bins, more than the budget can reach it: the rate is the share of those that reach it which the
        budget allows. A class without a pixel, or without a budget, has the rate 0.

        Args:
            budget: (C,) int64, pixels.

        Returns:
            bins (C,) int64 and rates (C,) float32 in [0, 1].
        """
        reaching = self.counts.flip(1).cumsum(1).flip(1)
        least = (reaching >= torch.minimum(budget[:, None], reaching[:, :1])).sum(1) - 1
        above = reaching.gather(1, least[:, None])[:, 0]
        rates = (budget / above.clamp(min=1)).clamp(max=1) * (above > 0)
        return least, rates.float()
