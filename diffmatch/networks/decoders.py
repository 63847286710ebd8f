"""Decoders: an encoder's maps to z, without a classifier."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from segmentation_models_pytorch.decoders.pspnet.decoder import PSPModule
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import ASPP

from diffmatch.domain import InputError
from diffmatch.networks.encoders import conv_block


class Decoder(nn.Module):
    """An encoder's features, finest first, to the output of the last block, (N, D, h, w).

    Attributes:
        dim, stride: channels of z, and pixels of the image per position of it.
        scale: how many times finer z is than the last block's output.
        coarse: the module that gives the coarse map with the widest view: what RankMatch compares.
        kernel: side of the convolution that its authors classify z with.
        last: the layers of the last block in their order: what DDFP learns the density behind.
    """

    scale = 1
    kernel = 1

    def __init__(self, dim: int, stride: int) -> None:
        super().__init__()
        self.dim, self.stride = dim, stride

    @property
    def coarse(self) -> nn.Module:
        raise NotImplementedError

    @property
    def last(self) -> list[nn.Module]:
        raise NotImplementedError


class UNetDecoder(Decoder):
    """smp's U-Net decoder, stopped at the mask stride, its last block D channels wide."""

    def __init__(self, channels: list[int], strides: list[int], dim: int, stride: int) -> None:
        super().__init__(dim, stride)
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


class BilinearUNetDecoder(Decoder):
    """The decoder of SSL4MIS's and UniMatch's 2D U-Net, whose z is as fine as the image and as wide as its first level.

    At each level a 1x1 convolution narrows the coarse map, which is upsampled bilinearly with its corners aligned and
    joined with the encoder's map; two 3x3 convolutions follow. With `unet16` and four classes the network has 1.81 M
    parameters and costs 2.95 GMAC at 256 x 256. `network.dim` and `network.stride` are of the mask denoiser alone here.
    """

    kernel = 3

    def __init__(self, channels: list[int], strides: list[int], dim: int, stride: int) -> None:
        super().__init__(channels[0], strides[0])
        if strides[0] > 1 or channels[1] != 2 * channels[0]:  # the first map of timm's is the image itself
            raise InputError(
                "network.decoder=unet_bilinear: the encoder has no maps of its own at strides 1 and 2; take "
                "network.encoder=unet16, or network.decoder=unet"
            )
        pairs = list(zip(channels[:0:-1], channels[-2::-1], strict=True))
        self.narrow = nn.ModuleList(nn.Conv2d(below, here, 1) for below, here in pairs)
        self.blocks = nn.ModuleList(conv_block(2 * here, here, bias=True) for _, here in pairs)

    @property
    def coarse(self) -> nn.Module:
        first: nn.Module = self.narrow[0]
        return first

    @property
    def last(self) -> list[nn.Module]:
        return list(self.blocks[-1].children())

    def forward(self, features: list[Tensor]) -> Tensor:
        x = features[-1]
        for skip, narrow, block in zip(features[-2::-1], self.narrow, self.blocks, strict=True):
            x = F.interpolate(narrow(x), size=skip.shape[2:], mode="bilinear", align_corners=True)
            x = block(torch.cat([skip, x], 1))
        return x


class DeepLabDecoder(Decoder):
    """DeepLabv3+ with standard convolutions, dilations 6/12/18 at output stride 16, low-level features at stride 4."""

    LOW_CHANNELS = 48

    def __init__(self, channels: list[int], strides: list[int], dim: int, stride: int) -> None:
        super().__init__(dim, stride)
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
        super().__init__(dim, stride)
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


def conv_bn_relu(a: int, b: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(a, b, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True)
    )


DECODERS = {
    "unet": UNetDecoder,
    "unet_bilinear": BilinearUNetDecoder,
    "deeplabv3plus": DeepLabDecoder,
    "pspnet": PSPDecoder,
}
OUTPUT_STRIDES = {"unet": 32, "unet_bilinear": 32, "deeplabv3plus": 16, "pspnet": 8}
