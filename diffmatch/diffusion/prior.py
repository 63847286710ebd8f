"""The class prior p(y) of labelled and of unlabelled pixels (section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from diffmatch.shared.ranks import over_ranks

PRIOR_FLOOR = 1e-4


def smoothed(pixels: Tensor) -> Tensor:
    """Class probabilities of pixel counts, both (C,).

    One pixel is added to each class and the shares are floored at 1e-4, so that a class never seen has a probability.
    """
    p = (pixels.double() + 1) / (pixels.double().sum() + len(pixels))
    p = p.clamp(min=PRIOR_FLOOR)
    return (p / p.sum()).float()


class ClassPrior(nn.Module):
    """p(y^l) of the labelled ground truth, and p(y^u) of the pseudo-labels.

    p(y^u) starts at p(y^l) and follows hard pseudo-labels by EMA, within [p_l / 2, 2 p_l].

    Both are buffers: they travel in the checkpoint.

    Args:
        pixels: labelled pixels per class.
        momentum: of the EMA.
    """

    labelled: Tensor
    ema: Tensor

    def __init__(self, pixels: Sequence[int], momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        p = smoothed(torch.tensor(pixels))
        self.register_buffer("labelled", p)
        self.register_buffer("ema", p.clone())

    @property
    def unlabelled(self) -> Tensor:
        """p(y^u), (C,), clipped."""
        return torch.minimum(torch.maximum(self.ema, self.labelled / 2), self.labelled * 2)

    @torch.no_grad()
    def update(self, counts: Tensor) -> None:
        """Follow hard pseudo-label counts (C,) of all ranks; an empty batch changes nothing."""
        counts = over_ranks(counts.double())
        total = counts.sum()
        share = torch.where(total > 0, counts / total.clamp(min=1), self.ema.double()).float()
        self.ema.lerp_(share, 1 - self.momentum)
