"""Balanced clusters of a class's vectors, and classes split into subclasses of about equal frequency."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffmatch.domain import VOID

ROUNDS, SWEEPS, BLUR = 20, 20, 0.1
"""Updates of the centroids; sweeps of Sinkhorn's algorithm in each; entropy of its assignment, as a share of the mean
difference between a vector's best two clusters. Cluster sizes then differ by some ten per cent."""


def numbers_of_subclasses(pixels: Sequence[int], total: int) -> list[int]:
    """K_c of each class, of which the sum is `total`, or one for each class if those are more.

    Each class has one, and each further one goes to the class whose subclasses are the largest (Adams' apportionment).
    """
    numbers = [1] * len(pixels)
    for _ in range(total - len(pixels)):
        largest = max(range(len(pixels)), key=lambda c: pixels[c] / numbers[c])
        numbers[largest] += 1
    return numbers


def balanced_clusters(vectors: Tensor, valid: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Clusters of about equal size: k-means with a price on each cluster.

    A vector belongs to the cluster with the smallest squared distance minus price. The prices are those with which all
    clusters would have the same weight, were the assignment a little soft (optimal transport, Cuturi 2013).

    Args:
        vectors: (N, D); the first valid ones are the first centroids.
        valid: (N,) bool, which of them there are; none: all.
        count: number K of clusters.

    Returns:
        centroids (K, D) and prices (K,).
    """
    weight = (valid | ~valid.any()).float()
    first = torch.arange(count, device=weight.device) % weight.sum().long()
    centroids = vectors[weight.argsort(descending=True, stable=True)[first]]
    prices = vectors.new_zeros(count)
    for _ in range(ROUNDS if count > 1 else 1):
        distances = torch.cdist(vectors, centroids).square()
        prices = balancing_prices(distances, prices, weight)
        members = F.one_hot((distances - prices).argmin(1), count).float() * weight[:, None]
        sizes = members.sum(0)[:, None]
        centroids = torch.where(sizes > 0, members.T @ vectors / sizes.clamp(min=1), centroids)
    return centroids, balancing_prices(torch.cdist(vectors, centroids).square(), prices, weight)


def balancing_prices(distances: Tensor, prices: Tensor, weight: Tensor) -> Tensor:
    """Prices (K,) with which softmax((prices - distances) / blur) has columns of equal weight.

    Args:
        distances: (N, K).
        prices: (K,), where the search begins.
        weight: (N,), of the rows.
    """
    weight = weight / weight.sum()
    best = (distances - prices).topk(min(2, len(prices)), 1, largest=False).values
    blur = (BLUR * ((best[:, -1] - best[:, 0]) * weight).sum()).clamp(min=1e-12)
    scaled, cost, rows = prices / blur, distances / blur, weight.log()[:, None]
    for _ in range(SWEEPS if len(prices) > 1 else 1):
        scaled = scaled - ((scaled - cost).log_softmax(1) + rows).logsumexp(0)
        scaled = scaled - scaled.mean()
    return scaled * blur


class Subclasses(nn.Module):
    """Every class split into balanced subclasses, once. What is found is buffers, which travel in the checkpoint.

    Attributes:
        counts: K_c, subclasses per class; those of a class follow each other.
        parents: (S,) int64, the class of each subclass.
        centroids, prices: (S, D) and (S,).
        found: scalar bool, false before `find`.
    """

    parents: Tensor
    centroids: Tensor
    prices: Tensor
    found: Tensor

    def __init__(self, counts: Sequence[int], dim: int) -> None:
        super().__init__()
        self.counts, self.total = list(counts), sum(counts)
        parents = torch.tensor([c for c, count in enumerate(self.counts) for _ in range(count)])
        self.register_buffer("parents", parents, persistent=False)
        self.register_buffer("centroids", torch.zeros(self.total, dim))
        self.register_buffer("prices", torch.zeros(self.total))
        self.register_buffer("found", torch.tensor(False))

    @torch.no_grad()
    def find(self, vectors: Tensor, filled: Tensor) -> None:
        """Cluster the vectors (C, N, D) of each class, of which the first `filled` (C,) are there."""
        vectors = vectors[:, : max(int(filled.max()), 1)]  # waits for the device, once in a run
        valid = torch.arange(vectors.shape[1], device=filled.device) < filled[:, None]
        parts = [balanced_clusters(*of_class) for of_class in zip(vectors, valid, self.counts, strict=True)]
        self.centroids.copy_(torch.cat([centroids for centroids, _ in parts]))
        self.prices.copy_(torch.cat([prices for _, prices in parts]))
        self.found.fill_(True)

    @torch.no_grad()
    def of(self, vectors: Tensor, classes: Tensor) -> Tensor:
        """The subclass of each vector (N, D, h, w) within its class (N, h, w): (N, h, w) uint8.

        It is void where the class is, and everywhere before `find`.
        """
        cost = self.centroids.square().sum(1) - self.prices
        distances = cost.view(-1, 1, 1) - 2 * torch.einsum("sd,ndhw->nshw", self.centroids, vectors.float())
        others = self.parents.view(-1, 1, 1) != classes.long()[:, None]
        labels = distances.masked_fill(others, torch.inf).argmin(1)
        return torch.where((classes != VOID) & self.found, labels, VOID).to(torch.uint8)
