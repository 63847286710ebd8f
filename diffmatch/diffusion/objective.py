"""What the denoiser minimises (Eq. 4-6 and 9)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from diffmatch.diffusion.adjustment import debiasing_term
from diffmatch.domain import VOID


def masked_mean(values: Tensor, weight: Tensor, valid: Tensor) -> Tensor:
    """sum(values * weight) / max(number valid, 1), over everything.

    Args:
        values, weight: (N, H, W); weight is 0 where a pixel carries no loss, for void or for want of confidence.
        valid: (N, H, W) bool, the pixels that count in the denominator: an unconfident pixel counts, padding and void
            do not.
    """
    return (values * weight).sum() / valid.sum().clamp(min=1)


def per_pixel_ce(scores: Tensor, target: Tensor) -> Tensor:
    """(N, H, W) cross-entropy, 0 at void."""
    return F.cross_entropy(scores, target.long(), ignore_index=VOID, reduction="none")


def per_pixel_squared(probabilities: Tensor, target: Tensor) -> Tensor:
    """(N, H, W) squared error to the one-hot mask, summed over classes (Eq. 4-6), 0 at void."""
    valid = target != VOID
    own = probabilities.gather(1, torch.where(valid, target, 0).long()[:, None])[:, 0]
    # sum (p - y)^2 for a one-hot y, without making it: with many classes it is the largest tensor of a step
    return (probabilities.square().sum(1) - 2 * own + 1) * valid


def denoising_loss(
    scores: Tensor,
    target: Tensor,
    accepted: Tensor,
    t: Tensor,
    prior: Tensor,
    *,
    loss: str,
    adjustment: str,
    tau: float,
    domain: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """L*_diff: the denoiser's loss with its adjustment (Eq. 9).

    Args:
        scores: f(y_t, z, t), (N, C, H, W) float32.
        target: y_0, (N, H, W), void where there is nothing to learn.
        accepted: (N, H, W) bool, pixels that carry loss; the mean is over non-void pixels all the same.
        t: (N,), the times.
        prior: (C,), p(y_0) of the target's kind.
        loss: `squared` (Eq. 4-6), `ce`, or `domain`: what `domain` makes of the scores.
        adjustment: `none`, `literal`, `pixel`, `normalised`, `logit` (Eq. 20; Menon et al. 2020, Eq. 10) or `posthoc`
            (none here).
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
    if tau == 0 or adjustment not in ("literal", "pixel", "normalised"):
        return total
    term = debiasing_term(probabilities, target, t, ratio, adjustment)
    return total + tau * masked_mean(term, weight * valid, valid)
