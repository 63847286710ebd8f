"""The class prior and the debiased adjustment (section 3.3, Eq. 7-11), in all its readings.

The paper's Eq. 9 adds tau t ||f - f / (C p)||^2. Taken literally, with gradient through both sides, it weighs class k
by (1 - 1 / (C p_k))^2 and drives every rare class to zero; `docs/departures.md` has the measurement.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffmatch.diffusion.sampler import Adjust
from diffmatch.domain import VOID


def posthoc(prior: Tensor, tau: float) -> Adjust:
    """Eq. 7: division by (C p)^tau at each sampling step; no retraining."""
    shift = tau * (len(prior) * prior).log().view(1, -1, 1, 1)
    return lambda scores, t: scores - shift


def natural(prior: Tensor, tau: float) -> Adjust:
    """The natural scores of a network that was trained with the `logit` reading.

    Its own scores are balanced. The shift of its loss, added at each sampling step, makes them natural.
    """
    shift = tau * (len(prior) * prior).log().view(1, -1, 1, 1)
    return lambda scores, t: scores + t * shift


def debiasing_term(probabilities: Tensor, target: Tensor, t: Tensor, ratio: Tensor, reading: str) -> Tensor:
    """t ||f - f_balanced||^2 of each pixel, (N, H, W): the second term of Eq. 9 without its tau.

    Args:
        probabilities: f's class probabilities, (N, C, H, W).
        target: y_0, (N, H, W), with void.
        t: (N,), the times.
        ratio: C p(y), (C,).
        reading: of f_balanced. `literal`: f / (C p). `pixel`: f / (C p) of the pixel's own class alone. `normalised`:
            f / (C p) scaled to sum to one, without gradient.
    """
    if reading == "pixel":
        own = ratio[torch.where(target != VOID, target.long(), 0)]
        balanced = probabilities / own[:, None]
    else:
        balanced = probabilities / ratio.view(1, -1, 1, 1)
    if reading == "normalised":
        balanced = (balanced / balanced.sum(1, keepdim=True)).detach()
    return (probabilities - balanced).square().sum(1) * t.view(-1, 1, 1)
