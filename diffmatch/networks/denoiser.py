"""The mask denoiser f(y_t, z, t): L layers of deformable attention with one time conditioning shared by all."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffmatch.diffusion.schedule import log_snr
from diffmatch.networks.attention import DeformableAttention


class TimeConditioning(nn.Module):
    """log-SNR -> scale and shift of attention and FFN, (N, 4, D).

    It makes 17 learned features and has one MLP 17 -> 4D -> 4D, which all layers share.

    A projection per layer instead would miss the paper's parameter counts by up to 13 % (Table 7).
    """

    FREQUENCIES = 8

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.frequencies = nn.Parameter(torch.randn(self.FREQUENCIES))
        last = nn.Linear(4 * dim, 4 * dim)
        self.mlp = nn.Sequential(nn.Linear(2 * self.FREQUENCIES + 1, 4 * dim), nn.GELU(), last)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, t: Tensor) -> Tensor:
        snr = log_snr(t)[:, None]
        phase = snr * self.frequencies * (2 * math.pi)
        out: Tensor = self.mlp(torch.cat([snr, phase.sin(), phase.cos()], 1))
        return out.view(-1, 4, self.dim)


class DenoiserLayer(nn.Module):
    """Attention and FFN, each with residual, norm and the time's scale and shift.

    Both branches start at zero, so that f starts as a classifier on z and y_t: the ring that deformable attention looks
    at first would blur z over nine positions in every layer, which the squared error is slow to undo
    (docs/departures.md).
    """

    def __init__(self, dim: int, heads: int, points: int) -> None:
        super().__init__()
        self.attention = DeformableAttention(dim, heads, points)
        self.norm1 = nn.LayerNorm(dim)
        last = nn.Linear(4 * dim, dim)
        self.ffn = nn.Sequential(nn.Linear(dim, 4 * dim), nn.ReLU(inplace=True), last)
        self.norm2 = nn.LayerNorm(dim)
        for branch in (self.attention.output, last):
            nn.init.zeros_(branch.weight)
            nn.init.zeros_(branch.bias)

    def forward(self, x: Tensor, height: int, width: int, time: Tensor) -> Tensor:
        scale1, shift1, scale2, shift2 = time.unsqueeze(2).unbind(1)
        x = self.norm1(x + self.attention(x, height, width)) * (1 + scale1) + shift1
        return self.norm2(x + self.ffn(x)) * (1 + scale2) + shift2  # type: ignore[no-any-return]


class Denoiser(nn.Module):
    """f(y_t, z, t) -> class scores at the mask's resolution, which is z's or coarser.

    What y_t adds to z starts at zero: f starts as its discriminative twin, to the bit, and takes from the mask what
    helps.

    Args:
        classes: C.
        mask_channels: of y_t, the codec's.
        dim: D, inside.
        layers: L (Table 7), heads, points: of the attention.
        z_channels: D if None; else z is embedded first, D channels for each mask position.
        z_per_mask: positions of z along a side of a mask position.
    """

    def __init__(
        self,
        classes: int,
        mask_channels: int,
        dim: int,
        layers: int,
        heads: int,
        points: int,
        z_channels: int | None = None,
        z_per_mask: int = 1,
    ) -> None:
        super().__init__()
        self.mask_channels, self.z_per_mask = mask_channels, z_per_mask
        self.embed: nn.Module = nn.Identity()
        if (z_channels or dim, z_per_mask) != (dim, 1):
            self.embed = nn.Conv2d(z_channels or dim, dim, z_per_mask, z_per_mask)
        self.fuse = nn.Conv2d(mask_channels + dim, dim, 1)
        with torch.no_grad():
            self.fuse.weight[:, :mask_channels] = 0
        self.time = TimeConditioning(dim)
        self.layers = nn.ModuleList(DenoiserLayer(dim, heads, points) for _ in range(layers))
        self.classifier = nn.Conv2d(dim, classes, 1)

    def condition(self, z: Tensor) -> Tensor:
        """The z half of the linear 1x1 fusion, with its bias, of the embedded z: (N, D', h', w') -> (N, D, h, w).

        It is computed once per image, not once per step.
        """
        z = self.embed(F.pad(z, (0, -z.shape[-1] % self.z_per_mask, 0, -z.shape[-2] % self.z_per_mask)))
        return F.conv2d(z, self.fuse.weight[:, self.mask_channels :], self.fuse.bias)

    def forward(self, y_t: Tensor | None, condition: Tensor, t: Tensor) -> Tensor:
        """Scores (N, C, h, w) from y_t (N, mask_channels, h, w) or None for 0, `condition(z)` and t (N,) in [0, 1]."""
        x = condition if y_t is None else condition + F.conv2d(y_t, self.fuse.weight[:, : self.mask_channels])
        height, width = x.shape[2:]
        x = x.flatten(2).transpose(1, 2)
        time = self.time(t)
        for layer in self.layers:
            x = layer(x, height, width, time)
        return self.classifier(x.transpose(1, 2).reshape(len(x), -1, height, width))  # type: ignore[no-any-return]
