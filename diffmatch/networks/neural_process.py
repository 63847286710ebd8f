"""A neural process in place of the classifier (Wang et al. 2023): centres of the classes and a latent of each image."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffmatch.domain import Card
from diffmatch.networks.segmenter import build_extractor
from diffmatch.settings import Section, Settings

WIDTH = 256
"""Channels of the decoder, unless z has fewer (NP-SemiSeg's)."""


class Latent(NamedTuple):
    """Independent normal distributions of the numbers of each image's latent: mean and sigma, (N, L) each."""

    mean: Tensor
    sigma: Tensor


class NeuralProcessHead(nn.Module):
    """z and the classes' centres -> several class scores of each image, one a draw of its latent.

    Args:
        dim: D, channels of z.
        latent: L, numbers of a latent and of a memory vector.
        width: channels of the decoder.
    """

    def __init__(self, dim: int, classes: int, latent: int, width: int) -> None:
        super().__init__()
        self.phi = nn.Sequential(
            nn.Conv2d(dim, latent, 1, bias=False),
            nn.InstanceNorm2d(latent),
            nn.ReLU(inplace=True),
            nn.Conv2d(latent, latent, 1, bias=False),
            nn.InstanceNorm2d(latent),
            nn.ReLU(inplace=True),
            nn.Conv2d(latent, latent, 1),
        )
        self.moments = nn.Sequential(nn.Linear(latent, latent), nn.ReLU(inplace=True), nn.Linear(latent, 2 * latent))
        self.decoder = nn.Sequential(
            nn.Conv2d(dim + 2 * latent, width, 3, padding=1, bias=False),
            nn.InstanceNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.InstanceNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, classes, 1),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def embed(self, z: Tensor) -> Tensor:
        """phi (N, L, h, w), float32, of z (N, D, h, w), which it does not train."""
        embedded: Tensor = self.phi(z.detach()).float()
        return embedded

    def attended(self, embedded: Tensor, centres: Tensor) -> Tensor:
        """The classes' centres (C, L) as the pixels of each image attend to them, averaged over the image: (N, L).

        Each number d of a pixel attends apart: softmax over the classes c of -(phi_d - M_cd)^2, of which phi_d^2, the
        same for all classes, is left out.
        """
        centres = centres[None, :, :, None, None]
        attention = (2 * embedded[:, None] * centres - centres.square()).softmax(1).mean((3, 4))
        return (attention * centres[..., 0, 0]).sum(1)

    def latent(self, attended: Tensor) -> Latent:
        """The latent's distribution, from `attended` centres."""
        mean, raw = self.moments(attended).float().chunk(2, 1)
        return Latent(mean, 0.1 + 0.9 * F.softplus(raw))

    def forward(
        self, z: Tensor, embedded: Tensor, context: Tensor, target: Tensor, noise: Tensor
    ) -> tuple[Tensor, Latent, Latent]:
        """The scores of T draws, (T, N, C, h, w), and the latent's distributions by context and by target.

        Args:
            z, embedded: (N, D, h, w), and `embed` of it.
            context: (C, L), the centres of labelled pixels: what is known of the classes goes to the decoder.
            target: (C, L), the centres of labelled and pseudo-labelled pixels: the latent is drawn by them.
            noise: standard normal, (T, N, L), or (T, 1, L) for all images alike.
        """
        known, drawn = self.attended(embedded, context), self.latent(self.attended(embedded, target))
        latents = drawn.mean + drawn.sigma * noise
        count, size = len(noise), z.shape[-2:]
        parts = (latents[..., None, None], z[None], known[None, :, :, None, None])
        stacked = torch.cat([part.expand(count, -1, -1, *size) for part in parts], 2)
        scores = self.decoder(stacked.flatten(0, 1)).unflatten(0, (count, -1))
        return scores, self.latent(known), drawn


class NeuralProcessNetwork(nn.Module):
    """z -> the head above.

    Args:
        latent: L, numbers of a latent and of a memory vector.
    """

    def __init__(self, card: Card, settings: Settings[Section], latent: int) -> None:
        super().__init__()
        self.extractor = build_extractor(card, settings)
        dim = self.extractor.dim
        self.head = NeuralProcessHead(dim, len(card.classes), latent, min(WIDTH, dim))
