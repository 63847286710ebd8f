"""A segmentation network without a convolution: patches, global attention, and scores by a linear map of each patch."""

from __future__ import annotations

import math

import torch.nn.functional as F
from timm.layers import build_sincos2d_pos_embed
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from diffmatch.domain import Card
from diffmatch.networks.segmenter import upsample
from diffmatch.settings import Section, Settings


class TransformerNetwork(nn.Module):
    """A plain vision transformer (Dosovitskiy et al. 2021) for any image size, channel count and one or two dates.

    A patch is 4 x 4 positions of the mask stride (16 x 16 pixels at stride 4); its token's linear map gives the scores
    of all of them, so that masks are as fine as any other network's. Its width is `network.dim`, made to fit heads and
    position encoding. No part of it is
    pretrained: all of it learns at the head's rate.
    """

    POSITIONS = 4

    def __init__(self, card: Card, settings: Settings[Section], depth: int) -> None:
        super().__init__()
        net = settings.network
        unit = math.lcm(4, net.heads)
        self.width = -(-net.dim // unit) * unit
        self.patch = net.stride * self.POSITIONS
        self.trained = -(-settings.data.crop // self.patch)
        self.embed = nn.Linear(card.channels * self.patch**2, self.width)
        self.blocks = nn.Sequential(*(Block(self.width, net.heads, qkv_bias=True) for _ in range(depth)))
        self.norm = nn.LayerNorm(self.width)
        self.classifier = nn.Linear(self.width, len(card.classes) * self.POSITIONS**2)

    def forward(self, images: Tensor) -> Tensor:
        """(N, dates, channels, H, W), filled up to whole patches -> scores (N, C, H, W), float32.

        Two dates share all blocks and meet as the absolute difference of their tokens.
        """
        dates, (height, width) = images.shape[1], images.shape[-2:]
        padded = F.pad(images.flatten(0, 1), (0, -width % self.patch, 0, -height % self.patch))
        x = F.pixel_unshuffle(padded, self.patch)
        rows, columns = x.shape[-2:]
        tokens = self.blocks(self.embed(x.flatten(2).transpose(1, 2)) + self.positions(rows, columns, x))
        if dates == 2:
            tokens = (tokens[0::2] - tokens[1::2]).abs()
        scores = self.classifier(self.norm(tokens)).transpose(1, 2).unflatten(2, (rows, columns))
        return upsample(F.pixel_shuffle(scores, self.POSITIONS), padded.shape[-2:])[..., :height, :width]

    def positions(self, rows: int, columns: int, like: Tensor) -> Tensor:
        """Sinusoids of row and column, (1, rows * columns, width).

        An image larger than the crop stretches the crop's.
        """
        shape = [min(rows, self.trained), min(columns, self.trained)]
        encoding = build_sincos2d_pos_embed(shape, self.width, device=like.device, dtype=like.dtype)
        field = encoding.T.unflatten(1, shape)[None]
        return (
            F.interpolate(field, size=(rows, columns), mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)
        )
