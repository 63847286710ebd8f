"""Encoders: smp/timm by name, or the U-Net encoder of the medical field.

Their weights come from nowhere, a file or a hub.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import timm
import torch
from segmentation_models_pytorch.encoders import get_encoder
from timm.models import adapt_input_conv
from torch import Tensor, nn

from diffmatch.domain import InputError

ALIASES = {"resnet50": "resnet50s", "resnet101": "resnet101s"}
"""The field's ResNets have a three-convolution stem of width 64 (UniMatch, U2PL).

ResNet-50 with DeepLabv3+ has 40.48 M parameters at 21 classes.
"""


class PlainEncoder(nn.Module):
    """Two 3x3 convolutions per level and max pooling between levels (Ronneberger et al. 2015, with batch norm).

    Widths double from level to level. A decoder that wants stride 8 gets no level below it: what takes no part in the
    loss would cost time, and stop several processes.

    Args:
        dropout: rate of each level between its convolutions; none where it is empty.
        bias: of the convolutions, which BatchNorm takes away again.
    """

    LEVELS = 5

    def __init__(
        self, channels: int, width: int, output_stride: int, dropout: Sequence[float] = (), bias: bool = False
    ) -> None:
        super().__init__()
        self.strides = [1 << level for level in range(self.LEVELS) if 1 << level <= output_stride]
        self.out_channels = [width * stride for stride in self.strides]
        widths, rates = [channels, *self.out_channels], [*dropout, *[0.0] * self.LEVELS]
        self.levels = nn.ModuleList(
            conv_block(a, b, rate, bias) for (a, b), rate in zip(pairwise(widths), rates, strict=False)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        features: list[Tensor] = []
        for level in self.levels:
            x = level(nn.functional.max_pool2d(x, 2, ceil_mode=True) if features else x)
            features.append(x)
        return features


def conv_block(a: int, b: int, dropout: float = 0.0, bias: bool = False) -> nn.Sequential:
    """Two times 3x3 convolution, BatchNorm and leaky ReLU, a to b channels, with dropout of values after the first."""

    def convolution(channels: int) -> list[nn.Module]:
        return [nn.Conv2d(channels, b, 3, padding=1, bias=bias), nn.BatchNorm2d(b), nn.LeakyReLU(inplace=True)]

    return nn.Sequential(*convolution(a), *([nn.Dropout(dropout)] if dropout else []), *convolution(b))


SSL4MIS_DROPOUT = (0.05, 0.1, 0.2, 0.3, 0.5)
"""Of the five levels of the 2D U-Net of SSL4MIS (code/networks/unet.py) and UniMatch (more-scenarios/medical)."""

M = TypeVar("M", bound=nn.Module)


def as_encoder(module: M) -> M:
    """Mark a module as an encoder: it learns at `train.lr`, everything else at `train.head_lr_scale` times it."""
    module.is_encoder = True  # type: ignore[assignment]
    return module


def encoder_parameters(module: nn.Module) -> set[int]:
    """`id` of every parameter that belongs to an encoder inside the module, whatever the encoder is called there."""
    return {id(p) for part in module.modules() if getattr(part, "is_encoder", False) for p in part.parameters()}


def build_encoder(name: str, channels: int, weights: str, output_stride: int) -> tuple[nn.Module, list[int], list[int]]:
    """An encoder, the channels of its feature maps and their strides, finest first.

    Args:
        name: `unet<width>`, the encoder of SSL4MIS's and UniMatch's 2D U-Net (`unet16` there: widths 16 to 256, dropout
            0.05 to 0.5); `plain<width>`, the same without dropout; or any encoder of timm.
        channels: of the input image.
        weights: `none`, `hub` (timm downloads), the path of a state dict, or `package:NAME` of an installed package
            that ships one.
        output_stride: 8, 16 or 32; the last stages are dilated for 8 and 16. These two end at 16, or at 8.

    Raises:
        InputError: unknown name, or weights that do not fit.
    """
    if found := re.fullmatch(r"(plain|unet)([1-9]\d*)", name):
        if weights != "none":
            raise InputError(
                f"network.weights={weights}: no pretrained weights exist for the encoder '{name}'; "
                "use network.weights=none"
            )
        dropout = SSL4MIS_DROPOUT if found[1] == "unet" else ()
        plain = PlainEncoder(channels, int(found[2]), output_stride, dropout, bias=bool(dropout))
        return as_encoder(plain), plain.out_channels, plain.strides
    timm_name = ALIASES.get(name, name)
    if not timm.is_model(timm_name):
        near = timm.list_models(f"*{name.split('_')[0]}*")[:4]
        raise InputError(f"network.encoder={name}: unknown; near: {', '.join(near) or 'resnet50, xception65, plain16'}")
    try:
        encoder = get_encoder(
            f"tu-{timm_name}",
            in_channels=channels,
            depth=5,
            weights="imagenet" if weights == "hub" else None,
            output_stride=output_stride,
        )
    except Exception as error:
        why = (str(error) or type(error).__name__).splitlines()[0]
        advice = (
            "; without a connection take network.weights=none or the path of a state dict" if weights == "hub" else ""
        )
        raise InputError(f"network.encoder={name}: cannot be built with weights={weights} ({why}){advice}") from error
    if weights not in ("none", "hub"):
        load_weights(encoder.model, timm_name, weights_file(weights), channels)
    channels_out, strides = list(encoder.out_channels), list(encoder.model.feature_info.reduction())
    # smp puts the image (stride 1) before timm's maps, and a map without channels at stride 2 where timm begins at 4.
    return as_encoder(encoder), channels_out, [*(1, 2)[: len(channels_out) - len(strides)], *strides]


def weights_file(weights: str) -> Path:
    """The file behind `network.weights`: a path as it is, for `package:NAME` the one .pth file of an installed package.

    Raises:
        InputError: no such package, or not exactly one file in it.
    """
    kind, _, package = weights.partition("package:")
    if kind or not package:
        return Path(weights)
    spec = find_spec(package) if package.isidentifier() else None
    files = [
        path
        for place in (spec and spec.submodule_search_locations) or ()
        for path in sorted(Path(place).rglob("*.pth"))
    ]
    if len(files) != 1:
        what = "no such package is installed" if spec is None else f"{len(files)} .pth files in it, one is needed"
        raise InputError(f"network.weights={weights}: {what}; name the path of a state dict instead")
    return files[0]


def load_weights(features: nn.Module, timm_name: str, path: Path, channels: int) -> None:
    """A state dict file into a timm feature extractor: by name where names agree, else by order and shape of the whole
    model.

    timm's `pretrained_cfg_overlay` gives the same bits where names agree; where they do not, it warns and leaves the
    weights random.

    Raises:
        InputError: unreadable (or not plain tensors), or neither names nor order and shapes match.
    """
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path}: not a readable file of plain tensors (network.weights): {why}") from error
    state = state.get("state_dict", state) if isinstance(state, Mapping) else state
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"{path}: not a state dict of tensors (network.weights)")
    whole = timm.create_model(timm_name, pretrained=False).state_dict()
    wanted = features.state_dict()
    tensors = {_flat(str(k).removeprefix("module.")): v for k, v in state.items()}
    if not {_flat(name) for name in wanted} <= set(tensors):
        if [tuple(v.shape) for v in tensors.values()] != [tuple(v.shape) for v in whole.values()]:
            raise InputError(
                f"{path}: neither names nor shapes are those of '{timm_name}' "
                f"({len(tensors)} against {len(whole)} tensors)"
            )
        tensors = {_flat(name): tensor for name, tensor in zip(whole, tensors.values(), strict=True)}
    chosen = {}
    for name, target in wanted.items():
        if (tensor := tensors.get(_flat(name))) is None:
            raise InputError(f"{path}: no tensor '{name}', which '{timm_name}' needs (network.weights)")
        if tensor.shape != target.shape and tensor.ndim == 4 and tensor.shape[1] != channels:
            tensor = adapt_input_conv(channels, tensor)
        if tensor.shape != target.shape:
            raise InputError(
                f"{path}: tensor '{name}' has shape {tuple(tensor.shape)}, '{timm_name}' needs {tuple(target.shape)}"
            )
        chosen[name] = tensor
    features.load_state_dict(chosen)


def _flat(name: str) -> str:
    """timm's feature extractors call `blocks.0` of the whole model `blocks_0`, some of them."""
    return name.replace(".", "_")
