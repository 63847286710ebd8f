"""The class prior and the debiased adjustment (section 3.3, Eq. 7-11), in all its readings.

The paper's Eq. 9 adds tau t ||f - f / (C p)||^2. Taken literally, with gradient through both sides, it weighs class k by
(1 - 1 / (C p_k))^2 and drives every rare class to zero; `docs/departures.md` has the measurement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.distributed
from torch import Tensor, nn

from diffmatch.diffusion.sampler import Adjust
from diffmatch.domain import VOID
from diffmatch.losses import masked_mean, per_pixel_ce, per_pixel_squared

PRIOR_FLOOR = 1e-4


def smoothed(pixels: Tensor) -> Tensor:
    """Class probabilities of pixel counts (C,): one pixel added to each, floored at 1e-4, summing to 1. Finite for a class never seen."""
    p = (pixels.double() + 1) / (pixels.double().sum() + len(pixels))
    p = p.clamp(min=PRIOR_FLOOR)
    return (p / p.sum()).float()


def over_ranks(values: Tensor) -> Tensor:
    """The sum over all processes; with one process, the values themselves."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        values = values.clone()
        torch.distributed.all_reduce(values)
    return values


class ClassPrior(nn.Module):
    """p(y^l) from the labelled ground truth, and p(y^u): starts there and follows hard pseudo-labels by EMA, within [p_l / 2, 2 p_l].

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


def posthoc(prior: Tensor, tau: float) -> Adjust:
    """Eq. 7: division by (C p)^tau at each sampling step; no retraining."""
    shift = tau * (len(prior) * prior).log().view(1, -1, 1, 1)
    return lambda scores, t: scores - shift


def natural(prior: Tensor, tau: float) -> Adjust:
    """The natural scores of a network trained with the `logit` reading, whose own are balanced: its loss's shift, at each step."""
    shift = tau * (len(prior) * prior).log().view(1, -1, 1, 1)
    return lambda scores, t: scores + t * shift


def denoising_loss(
    scores: Tensor, target: Tensor, accepted: Tensor, t: Tensor, prior: Tensor, *, loss: str, adjustment: str, tau: float,
    domain: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:  # fmt: skip
    """L*_diff: the denoiser's loss with its adjustment (Eq. 9).

    Args:
        scores: f(y_t, z, t), (N, C, H, W) float32.
        target: y_0, (N, H, W), void where there is nothing to learn.
        accepted: (N, H, W) bool, pixels that carry loss; the mean is over non-void pixels all the same.
        t: (N,), the times.
        prior: (C,), p(y_0) of the target's kind.
        loss: `squared` (Eq. 4-6), `ce`, or `domain`: what `domain` makes of the scores.
        adjustment: `none`, `literal`, `pixel`, `normalised`, `logit` (Eq. 20; Menon et al. 2020, Eq. 10) or `posthoc` (none here).
        tau: its weight; 0 is `none`, bit for bit.

    Returns:
        The scalar.
    """
    valid, weight = target != VOID, accepted.float()
    ratio = len(prior) * prior
    if tau > 0 and adjustment == "logit":
        scores = scores + tau * t.view(-1, 1, 1, 1) * ratio.log().view(1, -1, 1, 1)
    probabilities = scores.softmax(1)
    if loss == "domain":
        assert domain is not None
        total = domain(scores)
    else:
        per_pixel = per_pixel_ce(scores, target) if loss == "ce" else per_pixel_squared(probabilities, target)
        total = masked_mean(per_pixel, weight, valid)
    if tau == 0 or adjustment in ("none", "posthoc", "logit"):
        return total
    balanced = probabilities / ratio.view(1, -1, 1, 1)
    if adjustment == "pixel":
        own = ratio[torch.where(valid, target.long(), 0)]
        balanced = probabilities / own[:, None]
    elif adjustment == "normalised":
        balanced = (balanced / balanced.sum(1, keepdim=True)).detach()
    term = (probabilities - balanced).square().sum(1) * t.view(-1, 1, 1)
    return total + tau * masked_mean(term, weight * valid, valid)
