"""How confident the network is in each class: a bank of running means, and draws that favour the weak classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffmatch.learning.losses import one_hot
from diffmatch.shared.ranks import over_ranks


class ClassConfidence(nn.Module):
    """b_k, the running mean of the probability of class k on labelled pixels of class k (Hu et al. 2021, AEL).

    b is a buffer (C,), in [0, 1], and travels in the checkpoint. It starts with uniform random numbers.

    Args:
        momentum: m of b <- m b + (1 - m) v, where v is the mean over one step.
    """

    values: Tensor

    def __init__(self, classes: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("values", torch.rand(classes))

    @torch.no_grad()
    def update(self, probabilities: Tensor, masks: Tensor) -> None:
        """Follow the predictions (N, C, H, W) on the truth (N, H, W) of all ranks.

        A class without a pixel in the step counts as 0.
        """
        members = one_hot(masks, probabilities.shape[1])
        sums = over_ranks(torch.stack([(probabilities * members).sum((0, 2, 3)), members.sum((0, 2, 3))]))
        self.values.lerp_(sums[0] / sums[1].clamp(min=1), 1 - self.momentum)

    @property
    def rates(self) -> Tensor:
        """(1 - b_k) / max (1 - b), (C,): the share of a class that is trained on, all of the weakest class."""
        weakness = 1 - self.values
        return weakness / weakness.max().clamp(min=1e-12)

    def chances(self, power: float = 1.0, among: Tensor | None = None) -> Tensor:
        """softmax((1 - b)^power), (C,): how probably each class is drawn.

        Args:
            among: (C,) bool, the classes that can be drawn, at least one; None: all.
        """
        weakness = (1 - self.values).clamp(min=0) ** power
        return (weakness if among is None else weakness.masked_fill(~among, -torch.inf)).softmax(0)
