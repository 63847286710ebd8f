"""How a pixel ranks landmarks of its image, and whether two views agree on it (RankMatch, Mai et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor

from diffmatch.diffusion.objective import masked_mean
from diffmatch.networks.precision import full_precision

EPSILON = 1e-10
"""Added to each sum and under the logarithm, as in the authors' code.

A pixel whose largest landmark has all but 1e-10 of the probability therefore carries no loss.
"""


@torch.no_grad()
def landmarks(features: Tensor, inside: Tensor, count: int) -> Tensor:
    """Positions of `count` landmarks of each image, as unlike each other as they can be.

    The first is drawn at random. Each further one is the position whose largest |cosine| to those chosen is smallest;
    of equal ones, the first. Positions outside are taken only where there are too few inside.

    Args:
        features: (N, D, h, w).
        inside: (N, h, w) bool, false in padding.
        count: L, at most h w.

    Returns:
        (N, L) int64, positions in h w, all different, in the order in which they were chosen.
    """
    unit, outside = F.normalize(features.flatten(2).float(), dim=1), ~inside.flatten(1)
    likeness = torch.where(outside, 5.0, 0.0)  # above any cosine, below what is chosen already
    chosen = (torch.rand(likeness.shape, device=likeness.device) - likeness).argmax(1, keepdim=True)
    found = [chosen]
    for _ in range(count - 1):
        with full_precision(unit.device):
            cosine = (at(unit, chosen).transpose(1, 2) @ unit)[:, 0]
        likeness = likeness.maximum(cosine.abs()).scatter(1, chosen, 10.0)
        chosen = likeness.argmin(1, keepdim=True)
        found.append(chosen)
    return torch.cat(found, 1)


def at(features: Tensor, positions: Tensor) -> Tensor:
    """Features (N, D, P) at positions (N, L): (N, D, L)."""
    return features.gather(2, positions[:, None].expand(-1, features.shape[1], -1))


def relation(features: Tensor, positions: Tensor) -> Tensor:
    """Softmax over the landmarks of inner products with them, (N, h w, L), computed in float32.

    Args:
        features: (N, D, h, w).
        positions: (N, L), of the landmarks.
    """
    flat = features.flatten(2).float()
    with full_precision(flat.device):
        return (flat.transpose(1, 2) @ at(flat, positions)).softmax(2)


def order_probabilities(shares: Tensor) -> Tensor:
    """Plackett-Luce: the probability of each order of K shares, (..., K) -> (..., K!).

    P(pi) = prod_j q_pi(j) / sum_{l >= j} q_pi(l), in the order of `itertools.permutations`. The shares need not sum to
    1.
    """
    parts, orders = shares.unbind(-1), list(permutations(range(shares.shape[-1])))
    ranked = [torch.stack([parts[order[place]] for order in orders], -1) for place in range(len(parts))]
    rest, probability = torch.zeros_like(ranked[0]), torch.ones_like(ranked[0])
    for share in reversed(ranked):
        rest = rest + share
        probability = probability * (share / (rest + EPSILON))
    return probability


def rank_loss(weak: Tensor, strong: Tensor, inside: Tensor, count: int, top: int) -> Tensor:
    """KL divergence of the strong view's orders of landmarks from the weak view's.

    Landmarks are chosen in the weak features and stand at the same positions in the strong ones. The orders are those
    of the `top` landmarks that are nearest in the weak view. The mean is over the pixels inside and over the orders:
    with four landmarks it is a 24th of the divergence. The weak features carry no gradient.

    Args:
        weak, strong: features (N, D, h, w).
        inside: (N, h, w) bool, false in padding.
        count: landmarks in each image; no more than there are positions.
        top: K.
    """
    positions = landmarks(weak, inside, min(count, inside[0].numel()))
    nearest = relation(weak.detach(), positions).topk(min(top, positions.shape[1]), dim=2)
    taught = order_probabilities(nearest.values)
    found = order_probabilities(relation(strong, positions).gather(2, nearest.indices))
    divergence = (torch.xlogy(taught, taught) - taught * (found + EPSILON).log()).mean(2)
    valid = inside.flatten(1)
    return masked_mean(divergence, valid.float(), valid)


def at_corners(maps: Tensor, grid: Sequence[int]) -> Tensor:
    """Maps (N, H, W) at a grid (h, w) whose corners lie on the image's corners: (N, h, w).

    Features that are brought to the image's size with corners aligned, mixed there and brought back are those of the
    grid, mixed by this, wherever H - 1 is a multiple of h - 1.
    """
    rows, columns = (
        torch.linspace(0, side - 1, places, device=maps.device).round().long()
        for side, places in zip(maps.shape[1:], grid, strict=True)
    )
    return maps[:, rows][:, :, columns]
