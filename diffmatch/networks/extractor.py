"""The feature extractor g(x) -> z: an encoder and a decoder without its classifier."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffmatch.networks.decoders import DECODERS, OUTPUT_STRIDES
from diffmatch.networks.encoders import build_encoder


def ceil_div(a: int, b: int) -> int:
    """a / b rounded up, for a >= 0. An exported graph would round -(-a // b) down."""
    return (a + b - 1) // b


class Extractor(nn.Module):
    """g(x) -> z.

    Args:
        decoder, encoder, weights, stride: the settings `network.*`.
        channels: of the image.
        dim, stride: of z, where the decoder leaves them open.

    Attributes:
        dim, stride: channels of z, and pixels of the image per position of it.
        multiple: sides are padded to a multiple of this before the encoder and z is cut back: an encoder that cuts the
            image into patches would drop what is left over (1: any size enters as it is).
        feature_dropout: share of feature channels dropped in a strong view (UniMatch's feature perturbation; 0.5
            there).
    """

    def __init__(
        self,
        *,
        decoder: str,
        encoder: str,
        channels: int,
        dim: int,
        stride: int,
        weights: str = "none",
        feature_dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.encoder, widths, strides = build_encoder(encoder, channels, weights, OUTPUT_STRIDES[decoder])
        self.decoder = DECODERS[decoder](widths, strides, dim, stride)
        self.dim, self.stride = self.decoder.dim, self.decoder.stride
        strided = [m for m in self.encoder.modules() if isinstance(m, nn.Conv2d) and m.stride[0] > 1]
        self.multiple = max(strides) if strided and strided[0].kernel_size == strided[0].stride else 1
        self.feature_dropout = feature_dropout

    def classifier(self, classes: int) -> nn.Conv2d:
        """A new convolution from z to scores: 1x1, or 3x3 after `unet_bilinear` as in SSL4MIS."""
        kernel = self.decoder.kernel
        return nn.Conv2d(self.dim, classes, kernel, padding=kernel // 2)

    def forward(self, x: Tensor, perturbed: Tensor | None = None) -> Tensor:
        """(N, dates, channels, H, W) -> z (N, D, h, w) with h = ceil(H / stride).

        Two dates share the encoder and meet as the absolute difference of their features.

        Args:
            perturbed: (N,) bool, which images lose feature channels; None for none.
        """
        features = self.encoded(x)
        if perturbed is not None and self.feature_dropout > 0:
            features = [self._drop(f, perturbed) for f in features]
        return self.decoded(features, x.shape[-2:])

    def both(self, x: Tensor) -> Tensor:
        """z of the images and, after them, z of the same images with feature channels lost, (2N, D, h, w).

        The encoder sees the images once; both go through the decoder together and share its BatchNorm's statistics.
        """
        features = self.encoded(x)
        if self.feature_dropout > 0:
            lost = torch.ones(len(x), dtype=torch.bool, device=x.device)
            features = [torch.cat([f, self._drop(f, lost)]) for f in features]
        else:
            features = [torch.cat([f, f]) for f in features]
        return self.decoded(features, x.shape[-2:])

    def encoded(self, x: Tensor) -> list[Tensor]:
        """The encoder's maps of images (N, dates, channels, H, W), finest first, the dates met."""
        dates, (height, width) = x.shape[1], x.shape[-2:]
        x = F.pad(x.flatten(0, 1), (0, -width % self.multiple, 0, -height % self.multiple))
        features = list(self.encoder(x))
        return [(f[0::2] - f[1::2]).abs() for f in features] if dates == 2 else features

    def decoded(self, features: list[Tensor], size: Sequence[int]) -> Tensor:
        """z of the encoder's maps, cut to images of that size (H, W)."""
        return self.finish(self.decoder(features), size)

    def finish(self, z: Tensor, size: Sequence[int]) -> Tensor:
        """Outputs of the decoder's last block as z, cut to images of that size (H, W)."""
        if self.decoder.scale > 1:
            z = F.interpolate(z, scale_factor=self.decoder.scale, mode="bilinear", align_corners=False)
        rows, columns = (ceil_div(side, self.stride) for side in size)
        return z[..., :rows, :columns]

    def _drop(self, feature: Tensor, perturbed: Tensor) -> Tensor:
        keep = torch.rand(feature.shape[:2], device=feature.device) >= self.feature_dropout
        scale = keep.to(feature.dtype) / (1 - self.feature_dropout)
        return feature * torch.where(perturbed[:, None], scale, torch.ones_like(scale))[:, :, None, None]
