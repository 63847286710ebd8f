"""The feature extractor g(x) -> z: an encoder and a decoder without its classifier."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from segmentation_models_pytorch.decoders.pspnet.decoder import PSPModule
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import ASPP

from diffmatch.domain import InputError
from diffmatch.networks.encoders import build_encoder


class Decoder(nn.Module):
    """An encoder's features, finest first, to the output of the last block, (N, D, h, w).

    Attributes:
        scale: how many times finer z is than that output.
        coarse: the module that gives the coarse map with the widest view: what RankMatch compares.
        last: the layers of the last block in their order: what DDFP learns the density behind.
    """

    scale = 1

    @property
    def coarse(self) -> nn.Module:
        raise NotImplementedError

    @property
    def last(self) -> list[nn.Module]:
        raise NotImplementedError


class UNetDecoder(Decoder):
    """smp's U-Net decoder, stopped at the mask stride, its last block D channels wide."""

    def __init__(self, channels: list[int], strides: list[int], dim: int, stride: int) -> None:
        super().__init__()
        if stride not in strides:
            raise InputError(
                f"network.stride={stride}: this encoder has maps at strides {', '.join(map(str, strides))}"
            )
        self.first = strides.index(stride)
        used = channels[self.first :]
        widths = [*(width or dim for width in used[-2:0:-1]), dim]
        self.blocks = UnetDecoder(encoder_channels=[0, *used], decoder_channels=widths, n_blocks=len(widths))

    @property
    def coarse(self) -> nn.Module:
        deepest: nn.Module = self.blocks.center  # empty: the encoder's deepest map
        return deepest

    @property
    def last(self) -> list[nn.Module]:
        block = self.blocks.blocks[-1]
        return [*block.conv1, *block.conv2]

    def forward(self, features: list[Tensor]) -> Tensor:
        used = features[self.first :]
        return self.blocks([used[0], *used])  # type: ignore[no-any-return]


class DeepLabDecoder(Decoder):
    """DeepLabv3+ with standard convolutions, dilations 6/12/18 at output stride 16, low-level features at stride 4."""

    LOW_CHANNELS = 48

    def __init__(self, channels: list[int], strides: list[int], dim: int, stride: int) -> None:
        super().__init__()
        if stride != 4 or 4 not in strides:
            raise InputError(
                f"network.stride={stride}: deeplabv3plus gives z at stride 4; use network.decoder=unet for finer masks"
            )
        self.low = strides.index(4)
        aspp = ASPP(channels[-1], [6, 12, 18], dim)
        aspp.project = aspp.project[:3]  # torchvision adds dropout here, the field's networks have none
        aspp.convs[-1] = PooledBranch(channels[-1], dim)
        self.aspp = aspp
        self.reduce = conv_bn_relu(channels[self.low], self.LOW_CHANNELS, 1)
        self.fuse = nn.Sequential(conv_bn_relu(dim + self.LOW_CHANNELS, dim, 3), conv_bn_relu(dim, dim, 3))

    @property
    def coarse(self) -> nn.Module:
        aspp: nn.Module = self.aspp
        return aspp

    @property
    def last(self) -> list[nn.Module]:
        return [layer for part in self.fuse.children() for layer in part.children()]

    def forward(self, features: list[Tensor]) -> Tensor:
        low = features[self.low]
        high = F.interpolate(self.aspp(features[-1]), size=low.shape[2:], mode="bilinear", align_corners=False)
        return self.fuse(torch.cat([high, self.reduce(low)], 1))  # type: ignore[no-any-return]


class PSPDecoder(Decoder):
    """Pyramid pooling (Zhao et al. 2017) on the encoder's last map at stride 8.

    Its bins are 1, 2, 3 and 6; a 3x3 convolution follows and gives z at `stride`.
    """

    def __init__(self, channels: list[int], strides: list[int], dim: int, stride: int) -> None:
        super().__init__()
        if 8 not in strides or stride > 8:
            raise InputError(
                f"network.stride={stride}: pspnet pools a map at stride 8 and gives z at stride 8 or finer"
            )
        self.deepest = max(i for i, s in enumerate(strides) if s == 8)
        self.pyramid = PSPModule(channels[self.deepest], sizes=(1, 2, 3, 6))
        self.fuse = conv_bn_relu(2 * channels[self.deepest], dim, 3)
        self.scale = 8 // stride

    @property
    def coarse(self) -> nn.Module:
        return self.fuse

    @property
    def last(self) -> list[nn.Module]:
        return [*self.fuse]

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.fuse(self.pyramid(features[self.deepest]))  # type: ignore[no-any-return]


class PooledBranch(nn.Module):
    """ASPP's image pooling.

    One image has one value per channel, of which no batch statistics exist; it uses the running ones.

    With an image on each of several devices there are statistics, which SyncBatchNorm takes over all of them.
    """

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, dim, 1, bias=False)
        self.norm = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.conv(x.mean((2, 3), keepdim=True))
        norm = self.norm
        if self.training and len(x) == 1 and not isinstance(norm, nn.SyncBatchNorm):
            pooled = F.batch_norm(
                pooled, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps
            )
        else:
            pooled = norm(pooled)
        return F.relu(pooled).expand(-1, -1, *x.shape[2:])


def ceil_div(a: int, b: int) -> int:
    """a / b rounded up, for a >= 0. An exported graph would round -(-a // b) down."""
    return (a + b - 1) // b


def conv_bn_relu(a: int, b: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(a, b, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True)
    )


DECODERS = {"unet": UNetDecoder, "deeplabv3plus": DeepLabDecoder, "pspnet": PSPDecoder}
OUTPUT_STRIDES = {"unet": 32, "deeplabv3plus": 16, "pspnet": 8}


class Extractor(nn.Module):
    """g(x) -> z.

    Args:
        decoder, encoder, weights, stride: the settings `network.*`.
        channels: of the image.
        dim: D, channels of z.

    Attributes:
        stride: pixels of the image per position of z.
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
        self.dim, self.stride = dim, stride
        strided = [m for m in self.encoder.modules() if isinstance(m, nn.Conv2d) and m.stride[0] > 1]
        self.multiple = max(strides) if strided and strided[0].kernel_size == strided[0].stride else 1
        self.feature_dropout = feature_dropout

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
