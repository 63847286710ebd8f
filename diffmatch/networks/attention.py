"""Single-level deformable attention (Zhu et al. 2020, Eq. 2) in plain PyTorch."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffmatch.domain import InputError


def deformable_sampling(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    """Bilinear samples of `value`, weighted and summed over points. The one place a fused kernel would replace.

    Positions come last: the innermost loops run over Q, not over a handful of points.

    Args:
        value: (N, heads, d, H, W).
        locations: (N, heads, points, Q, 2), x and y in [-1, 1] of the map (`grid_sample`'s convention,
            align_corners=False).
        weights: (N, heads, points, Q), summing to 1 over points.

    Returns:
        (N, heads * d, Q). Outside the map the value is 0.
    """
    n, heads, d, _, _ = value.shape
    sampled = F.grid_sample(
        value.flatten(0, 1), locations.flatten(0, 1), mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return (sampled * weights.flatten(0, 1).unsqueeze(1)).sum(2).view(n, heads * d, -1)


class DeformableAttention(nn.Module):
    """Every position of a map looks at `points` learned places of it per head.

    Args:
        dim: D, channels in and out.
        heads: divides D.
        points: samples per head.
    """

    def __init__(self, dim: int, heads: int, points: int) -> None:
        super().__init__()
        if dim % heads:
            raise InputError(f"network.dim={dim} is not a multiple of network.heads={heads}")
        self.heads, self.points = heads, points
        self.value = nn.Linear(dim, dim)
        self.offsets = nn.Linear(dim, heads * points * 2)
        self.weights = nn.Linear(dim, heads * points)
        self.output = nn.Linear(dim, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Zhu et al.: each head looks in its own direction at first, each point one pixel further."""
        nn.init.zeros_(self.offsets.weight)
        theta = torch.arange(self.heads) * (2 * math.pi / self.heads)
        direction = torch.stack([theta.cos(), theta.sin()], -1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        reach = torch.arange(1, self.points + 1)
        with torch.no_grad():
            self.offsets.bias.copy_((direction[:, None] * reach[None, :, None]).flatten())
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)
        for linear in (self.value, self.output):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, height: int, width: int) -> Tensor:
        """(N, H * W, D) -> (N, H * W, D)."""
        n, q, dim = x.shape
        channels = x.transpose(1, 2)
        value = positions_last(self.value, channels).view(n, self.heads, dim // self.heads, height, width)
        offsets = positions_last(self.offsets, channels).float().view(n, self.heads, self.points, 2, q)
        weights = positions_last(self.weights, channels).float().view(n, self.heads, self.points, q).softmax(2)
        # One pixel is 2 / size of grid_sample's [-1, 1]; coordinates stay float32, half precision cannot tell pixels
        # apart.
        xs, ys = (
            torch.arange(side, device=x.device, dtype=torch.float32) * (2 / side) + (1 / side - 1)
            for side in (width, height)
        )
        xs, ys = (grid.flatten() for grid in torch.meshgrid(xs, ys, indexing="xy"))
        locations = torch.stack([xs + offsets[..., 0, :] * (2 / width), ys + offsets[..., 1, :] * (2 / height)], 3)
        sampled = deformable_sampling(value.float(), locations.movedim(3, 4), weights)
        return torch.baddbmm(self.output.bias, sampled.transpose(1, 2), self.output.weight.t().expand(n, -1, -1))


def positions_last(linear: nn.Linear, x: Tensor) -> Tensor:
    """The linear map of (N, D, Q) as it stands, (N, D', Q).

    Called on (N, Q, D), its result would have to be copied to put positions last.
    """
    return torch.baddbmm(linear.bias[:, None], linear.weight.expand(len(x), -1, -1), x)
