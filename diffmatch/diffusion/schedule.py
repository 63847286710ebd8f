"""The cosine noise schedule (Algorithm 2 of the paper, read as design and departures table say).

What Algorithm 2 calls `alpha_cumprod` returns log-SNR; alpha-bar of the equations is its sigmoid. With u(t) in (0,
pi/2): alpha_bar = cos^2 u, y_t = cos(u) y_0 + sin(u) eps, log-SNR = 2 ln cot u. Everything here is float32 whatever
autocast says.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

NS, DS = 0.0002, 0.00025
LOG_SNR_LIMIT = 10.0


def angle(t: Tensor) -> Tensor:
    """u = ((t + ns) / (1 + ds)) * pi / 2 for t in [0, 1], float32."""
    return (t.float() + NS) / (1 + DS) * (math.pi / 2)


def coefficients(t: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(alpha_bar) and sqrt(1 - alpha_bar) as cos u and sin u: no cancellation near either end."""
    u = angle(t)
    return torch.cos(u), torch.sin(u)


def log_snr(t: Tensor) -> Tensor:
    """2 ln cot u, clamped to [-10, 10]: the form in which f gets the time, in training and in sampling."""
    u = angle(t)
    return (2 * (torch.log(torch.cos(u)) - torch.log(torch.sin(u)))).clamp(-LOG_SNR_LIMIT, LOG_SNR_LIMIT)


def add_noise(y_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """The forward process, Eq. 3: y_t from y_0 and noise of shape (N, ...), t of shape (N,)."""
    a, s = (c.view(-1, *[1] * (y_0.ndim - 1)) for c in coefficients(t))
    return a * y_0 + s * noise


def timesteps(steps: int, td: float = 1.0) -> list[tuple[float, float]]:
    """The sampler's (t_now, t_next) pairs, Algorithm 3: t_now = 1 - k/S, t_next = max(1 - (k + 1 + td)/S, 0)."""
    return [(1 - k / steps, max(1 - (k + 1 + td) / steps, 0.0)) for k in range(steps)]
