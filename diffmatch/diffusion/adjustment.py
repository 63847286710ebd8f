"""The class prior and the debiased adjustment (section 3.3, Eq. 7-11), in all its readings.

The paper's Eq. 9 adds tau t ||f - f / (C p)||^2. Taken literally, with gradient through both sides, it weighs class k
by (1 - 1 / (C p_k))^2 and drives every rare class to zero; `docs/departures.md` has the measurement.
"""

from __future__ import annotations

from torch import Tensor

from diffmatch.diffusion.sampler import Adjust


def posthoc(prior: Tensor, tau: float) -> Adjust:
    """Eq. 7: division by (C p)^tau at each sampling step; no retraining."""
    shift = tau * (len(prior) * prior).log().view(1, -1, 1, 1)
    return lambda scores, t: scores - shift


def natural(prior: Tensor, tau: float) -> Adjust:
    """The natural scores of a network trained with the `logit` reading, whose own are balanced: its loss's shift, at
    each step."""
    shift = tau * (len(prior) * prior).log().view(1, -1, 1, 1)
    return lambda scores, t: scores + t * shift
