"""Masks as points of a continuous space: y_0 of the diffusion.

The denoiser always returns class scores; a codec only encodes.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffmatch.domain import VOID


class Codec(nn.Module):
    """Mask indices (N, H, W) in 0..C-1 or 255 -> y_0 (N, channels, H, W). Void is the zero vector.

    Attributes:
        channels: of y_0 and of the noise.
        scale: b, the paper's Table 8. Its meaning depends on the codec: see `class_distance`.
    """

    channels: int

    def __init__(self, classes: int, scale: float) -> None:
        super().__init__()
        self.classes = classes
        self.scale = scale

    def codes(self) -> Tensor:
        """The code of every class, (C, channels)."""
        raise NotImplementedError

    def forward(self, mask: Tensor) -> Tensor:
        codes = self.codes()
        table = torch.cat([codes, codes.new_zeros(1, self.channels)])
        index = torch.where(mask == VOID, self.classes, mask.long())
        # not table[index]: its gradient is added up by racing threads, and a run would not repeat to the bit
        return F.embedding(index, table).movedim(-1, 1)

    @torch.no_grad()
    def class_distance(self) -> float:
        """Mean Euclidean distance between two classes' codes: what b must be compared by across codecs and widths."""
        codes = self.codes()
        return float(torch.pdist(codes).mean())


class EmbeddingCodec(Codec):
    """A learned code per class, (sigmoid(E[c]) * 2 - 1) * b, D channels (Algorithms 2 and 3)."""

    def __init__(self, classes: int, scale: float, dim: int) -> None:
        super().__init__(classes, scale)
        self.channels = dim
        self.embedding = nn.Embedding(classes, dim)

    def codes(self) -> Tensor:
        return (torch.sigmoid(self.embedding.weight) * 2 - 1) * self.scale


class BitsCodec(Codec):
    """Analog bits (section 3.4; Chen et al. 2022): ceil(log2 C) channels in {-b, b}, lowest bit first."""

    bits: Tensor

    def __init__(self, classes: int, scale: float) -> None:
        super().__init__(classes, scale)
        self.channels = max(1, math.ceil(math.log2(classes)))
        bits = (torch.arange(classes)[:, None] >> torch.arange(self.channels)) & 1
        self.register_buffer("bits", bits.float() * 2 - 1, persistent=False)

    def codes(self) -> Tensor:
        return self.bits * self.scale


def build_codec(kind: str, classes: int, scale: float, dim: int) -> Codec:
    """`embedding` or `bits`."""
    return EmbeddingCodec(classes, scale, dim) if kind == "embedding" else BitsCodec(classes, scale)
