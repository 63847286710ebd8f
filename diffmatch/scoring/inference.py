"""Predicting whole items: images, sliding windows, volumes slice by slice, always back on the item's own grid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol as TypingProtocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from diffmatch.data.augment import normalised, resized
from diffmatch.domain import Image, Item, Mask, Protocol
from diffmatch.learning.method import Method
from diffmatch.settings import Data, Section

Predict = Callable[[Tensor, Sequence[str], tuple[int, int]], Tensor]
"""(network-ready images (N, dates, channels, H, W), keys, offset) -> (N, C, H, W)."""


class Back(TypingProtocol):
    """Takes maps (N, K, h, w) of framed images back to the images' own grid (N, K, H, W)."""

    def __call__(self, maps: Tensor, mode: str = "bilinear") -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the engine predicts for one item, on the sample's own grid.

    Attributes:
        item: what was predicted.
        probabilities: float32, (C, H, W) or (C, Z, H, W), summing to 1 over C.
    """

    item: Item
    probabilities: NDArray[np.float32]

    @property
    def labels(self) -> Mask:
        return self.probabilities.argmax(0).astype(np.uint8)  # type: ignore[no-any-return]


def framed(images: Tensor, data: Data) -> tuple[Tensor, Back]:
    """Images as the network was trained to see them, normalised, and the way back."""
    ready, back = frame(images, data)
    return normalised(ready, data), back


def frame(images: Tensor, data: Data) -> tuple[Tensor, Back]:
    """Images at the size that the network was trained to see, and the way back.

    The same deterministic resize as in training; what is smaller than the crop is padded about its centre with zeros
    before normalisation, as training crops are.

    Args:
        images: (N, dates, channels, H, W), nominally in [0, 1].

    Returns:
        The framed images and the way back, which interpolates only if a resize was made.
    """
    size = images.shape[-2:]
    n = len(images)
    if data.resize:
        images = resized(images.flatten(0, 1), (data.resize, data.resize)).view(
            n, -1, *images.shape[2:-2], data.resize, data.resize
        )
    inner = images.shape[-2:]
    spare = [max(0, data.crop - side) for side in inner]
    top, left = spare[0] // 2, spare[1] // 2
    images = F.pad(images, (left, spare[1] - left, top, spare[0] - top))

    def back(maps: Tensor, mode: str = "bilinear") -> Tensor:
        maps = maps[..., top : top + inner[0], left : left + inner[1]]
        if tuple(inner) == tuple(size):
            return maps
        return F.interpolate(maps, size=size, mode=mode, align_corners=False if mode == "bilinear" else None)

    return images, back


def predict_images(predict: Predict, images: Tensor, keys: Sequence[str], data: Data, protocol: Protocol) -> Tensor:
    """Probabilities (N, C, H, W) of images (N, dates, channels, H, W) under a protocol's `image` or `window` mode."""
    ready, back = framed(images, data)
    if protocol.mode == "window":
        assert protocol.window and protocol.stride
        return back(sliding(predict, ready, keys, protocol.window, protocol.stride, cut=protocol.edge == "cut"))
    return back(predict(ready, keys, (0, 0)))


def sliding(
    predict: Predict, images: Tensor, keys: Sequence[str], window: int, stride: int, cut: bool = False
) -> Tensor:
    """Mean of the probabilities of all windows over a pixel.

    MONAI's `sliding_window_inference` gives the same bits for shifted windows; it has no `cut` ones, and pads an image
    that is smaller than the window.

    Args:
        cut: windows that reach over the border end there and are smaller; otherwise the last one is shifted back to be
            whole.
    """
    height, width = images.shape[-2:]
    total: Tensor | None = None
    hits = torch.zeros(1, 1, height, width, device=images.device)
    for top in starts(height, window, stride, cut):
        for left in starts(width, window, stride, cut):
            part = predict(images[..., top : top + window, left : left + window], keys, (top, left))
            if total is None:
                total = part.new_zeros(*part.shape[:2], height, width)
            total[..., top : top + window, left : left + window] += part
            hits[..., top : top + window, left : left + window] += 1
    assert total is not None
    return total / hits


def starts(length: int, window: int, stride: int, cut: bool = False) -> list[int]:
    """First pixels of the windows along one axis.

    Cut windows begin at every multiple of the stride, as UniMatch's do.
    """
    if cut:
        return list(range(0, length, stride))
    if length <= window:
        return [0]
    return [*range(0, length - window, stride), length - window]


def predict_item(
    method: Method[Section], item: Item, image: Image, data: Data, protocol: Protocol, batch: int, device: torch.device
) -> Prediction:
    """Probabilities of one test item on its own grid.

    Args:
        image: (dates, channels, H, W) or, for a volume, (dates, channels, Z, H, W).
        batch: slices at once. The result does not depend on it beyond rounding; each slice has its own noise key.
    """
    pixels = torch.from_numpy(np.array(image))
    volume = pixels.ndim == 5
    slices = pixels.movedim(2, 0) if volume else pixels[None]
    keys = [f"{item.id}/{z}" for z in range(len(slices))]
    parts = []
    for first in range(0, len(slices), batch):
        chosen = slice(first, first + batch)
        parts.append(
            predict_images(method.probabilities, slices[chosen].to(device), keys[chosen], data, protocol).cpu()
        )
    probabilities = torch.cat(parts)
    return Prediction(item, (probabilities.movedim(0, 1) if volume else probabilities[0]).numpy())


def batches(items: Iterable[tuple[Item, Image]], size: int) -> Iterator[list[tuple[Item, Image]]]:
    """Consecutive items of equal image size, at most `size` together."""
    group: list[tuple[Item, Image]] = []
    for item, image in items:
        if group and (len(group) == size or group[0][1].shape != image.shape):
            yield group
            group = []
        group.append((item, image))
    if group:
        yield group
