"""The refinery of DARP: probabilities are moved as little as possible so that their class totals are given ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffmatch.learning.losses import entropy

NEWTON = 5
"""Newton steps for the factors of a sweep. The logarithm of a class's total is almost linear in its factor."""
LARGEST = 1e4
"""Bound of the factors: where all pixels are certain, no finite one reaches the total."""
FLOOR = 1e-6
"""What is added to every entry, as in the authors' code."""


class Refinery(nn.Module):
    """Move probabilities so that their class totals are c; what the last solution found is state.

    An entry p_k below the floor(alpha c_k)-th largest one of its class is struck out, the others grow by
    s_k = c_k / sum of those, and rows are normalised again: p~. Then q minimises sum_n KL(q_n || p~_n) / H_n with rows
    that sum to 1 and columns that sum to c, where H is the entropy of p~ (Kim et al. 2020):
    q_k = p~_k exp(-v_k H) / sum_j p~_j exp(-v_j H)
    Before the first solution nothing is struck out and v is 0: q is p.
    """

    least: Tensor
    scale: Tensor
    factor: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("least", torch.zeros(classes))
        self.register_buffer("scale", torch.ones(classes))
        self.register_buffer("factor", torch.zeros(classes))  # v

    def forward(self, probabilities: Tensor) -> Tensor:
        """q of p, both (N, C, ...)."""
        return moved(struck(probabilities, self.least, self.scale), self.factor)

    @torch.no_grad()
    def solve(self, probabilities: Tensor, valid: Tensor, prior: Tensor, alpha: float, sweeps: int) -> None:
        """Solve for probabilities (M, C) where valid (M,); if none is, nothing changes.

        Args:
            prior: (C,), c as shares.
        """
        total, some = valid.sum() * prior, valid.any()
        least, scale = strike(probabilities, valid, total, alpha)
        factor = class_factors(struck(probabilities, least, scale), valid, total, sweeps)
        for old, new in ((self.least, least), (self.scale, scale), (self.factor, factor)):
            old.copy_(torch.where(some, new, old))


def strike(probabilities: Tensor, valid: Tensor, total: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """The smallest entry of each class that is kept, and s, both (C,). At least the largest entry is kept.

    Args:
        probabilities: (M, C).
        valid: (M,) bool.
        total: c, (C,) in pixels.
    """
    ranked = torch.where(valid[:, None], probabilities, -1.0).sort(0, descending=True).values
    place = (alpha * total).long().clamp(min=1, max=len(ranked)) - 1
    least = ranked.gather(0, place[None])[0]
    kept = (probabilities * ((probabilities >= least) & valid[:, None])).sum(0)
    return least, (total + FLOOR) / (kept + FLOOR)


def struck(probabilities: Tensor, least: Tensor, scale: Tensor) -> Tensor:
    """p~ of p, both (N, C, ...)."""
    kept = torch.where(probabilities >= along(least, probabilities), probabilities, 0.0) * along(scale, probabilities)
    return (kept + FLOOR) / (kept + FLOOR).sum(1, keepdim=True)


def class_factors(probabilities: Tensor, valid: Tensor, total: Tensor, sweeps: int) -> Tensor:
    """v, (C,): rows are normalised and columns brought to their totals in turn, as in the authors' code.

    Args:
        probabilities: p~, (M, C), nowhere 0.
        valid: (M,) bool.
        total: c, (C,) in pixels.
    """
    logs, uncertainty, factor = probabilities.log(), entropy(probabilities)[:, None], torch.zeros_like(total)
    for _ in range(sweeps):
        rows = (logs - factor * uncertainty).logsumexp(1, keepdim=True)
        entries = torch.where(valid[:, None], logs - rows, -torch.inf)
        for _ in range(NEWTON):
            tilted = entries - factor * uncertainty
            reached = tilted.logsumexp(0)
            slope = ((tilted - reached).exp() * uncertainty).sum(0)
            factor = (factor + (reached - total.log()) / slope).clamp(-LARGEST, LARGEST)
    return factor


def moved(probabilities: Tensor, factor: Tensor) -> Tensor:
    """q of p~, both (N, C, ...)."""
    return (probabilities.log() - along(factor, probabilities) * entropy(probabilities)[:, None]).softmax(1)


def along(values: Tensor, like: Tensor) -> Tensor:
    """Values (C,) along the classes of a tensor (N, C, ...)."""
    return values.view(-1, *[1] * (like.ndim - 2))
