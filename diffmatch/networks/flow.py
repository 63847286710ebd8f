"""A normalising flow: the density of feature vectors, from an invertible map onto unit Gaussians."""

from __future__ import annotations

import math
import random

import torch
from torch import Tensor, nn

from diffmatch.networks.precision import full_precision


class Coupling(nn.Module):
    """An affine coupling of both halves, as in GLOW (Kingma & Dhariwal 2018): each scales and shifts the other.

    Args:
        dim: D, at least 2.
        hidden: width of the two hidden layers of each of its networks.
        clamp: bound of a log scale, which is clamp * 0.636 atan(s); 0.636 is 2 / pi.
    """

    def __init__(self, dim: int, hidden: int, clamp: float) -> None:
        super().__init__()
        self.sizes = [dim // 2, dim - dim // 2]
        self.clamp = clamp
        self.of_second = perceptron(self.sizes[0], hidden, 2 * self.sizes[1])
        self.of_first = perceptron(self.sizes[1], hidden, 2 * self.sizes[0])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(n, D) -> (n, D) and the log determinant of the Jacobian, (n,)."""
        first, second = x.split_with_sizes(self.sizes, 1)
        first, log_first = self.moved(first, self.of_first(second))
        second, log_second = self.moved(second, self.of_second(first))
        return torch.cat([first, second], 1), log_first + log_second

    def moved(self, half: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        scale, shift = coefficients.chunk(2, 1)
        scale = self.clamp * 0.636 * scale.atan()
        return scale.exp() * half + shift, scale.sum(1)


class Flow(nn.Module):
    """Couplings, each followed by a fixed permutation, onto a mixture of one unit Gaussian per class, equally weighted.

    All weights start as 0.05 times a standard normal number, the means as standard normal vectors.

    Args:
        classes: C.
        dim: D, channels of a feature.
        blocks, hidden, clamp: number of couplings, and what they are made with.
    """

    orders: Tensor

    def __init__(self, classes: int, dim: int, blocks: int = 2, hidden: int = 256, clamp: float = 2.0) -> None:
        super().__init__()
        self.couplings = nn.ModuleList(Coupling(dim, hidden, clamp) for _ in range(blocks))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(0, 0.05)
        self.means = nn.Parameter(torch.randn(classes, dim))
        orders = [random.Random(n).sample(range(dim), dim) for n in range(blocks)]
        self.register_buffer("orders", torch.tensor(orders))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """z (n, D) and ln |det dz/dx| (n,) of features x (n, D)."""
        z, log_determinant = features, features.new_zeros(len(features))
        for coupling, order in zip(self.couplings, self.orders, strict=True):
            z, change = coupling(z)
            z, log_determinant = z[:, order], log_determinant + change
        return z, log_determinant

    def class_log_densities(self, features: Tensor) -> Tensor:
        """ln p(x | c) of features (n, D): (n, C) in nats, computed in float32."""
        with full_precision(features.device):
            z, log_determinant = self(features.float())
            squares = z.square().sum(1, keepdim=True) - 2 * z @ self.means.T + self.means.square().sum(1)
            found: Tensor = log_determinant[:, None] - 0.5 * (squares + z.shape[1] * math.log(2 * math.pi))
        return found

    def log_density(self, features: Tensor) -> Tensor:
        """ln p(x) under the mixture, of features (n, D): (n,) in nats."""
        return mixture(self.class_log_densities(features))


def mixture(log_densities: Tensor) -> Tensor:
    """ln of the mean over the classes, of log densities (n, C): (n,)."""
    return log_densities.logsumexp(1) - math.log(log_densities.shape[1])


def perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )
