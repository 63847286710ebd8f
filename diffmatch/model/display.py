"""Pixels and classes at the size at which they are looked at, in memory that does not grow with a scene."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from diffmatch.domain import Image, Mask, ReadWindow, Scene
from diffmatch.model.blocks import rows

LARGEST, SMALLEST = 2048, 512
"""Pixels along the longer side of a picture: what is larger is shrunk, what is smaller is enlarged."""
SLICES = 12
"""Slices of a volume that are shown."""
LITTLE = 0.5
"""A picture whose values span less than this share of [0, 1] is stretched."""
TAIL = 1.0
"""Per cent of the darkest and of the brightest values that stretching gives up."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture to draw on.

    Attributes:
        pixels: uint8, (H, W, 3).
        labels: class indices, (H, W).
        caption: what the panel shows; empty where there is one panel only.
    """

    pixels: NDArray[np.uint8]
    labels: Mask
    caption: str


def panels(image: Image | Scene, labels: Mask, background: bool) -> list[Panel]:
    """The dates of a picture, or up to `SLICES` slices of a volume.

    Three channels and more show the first three as red, green and blue; two show their mean, one is grey. Of a
    volume's channels, which are modalities, the first is shown. Slices are spread over those that hold foreground, or
    over all where none does, and are counted from 1 in the order in which the image has them.

    Args:
        image: (dates, channels, H, W), (dates, channels, Z, H, W), or a scene; values nominally in [0, 1].
        labels: (H, W) or (Z, H, W), on the image's grid.
        background: whether class 0 is no foreground.
    """
    if isinstance(image, Scene):
        small = [_reduced(image.read, image.shape, labels, LARGEST // image.shape[0])]
        names = [""]
    elif image.ndim == 4:
        small = [_reduced(_window(image), image.shape, labels, LARGEST // len(image))]
        names = [""]
    else:
        numbers = _slices(labels, background)
        small = [_reduced(_window(part := image[:, :1, z]), part.shape, labels[z], SMALLEST) for z in numbers]
        names = [f"slice {z + 1} of {len(labels)}" for z in numbers]
    longer = max(small[0].labels.shape)
    # A picture is enlarged by a whole number, slices to one size.
    longest = longer * math.ceil(SMALLEST / longer) if labels.ndim == 2 else SMALLEST
    low, high = _range(small)
    found = []
    for reduced, name in zip(small, names, strict=True):
        for date, pixels in enumerate(reduced.pixels, 1):
            caption = ", ".join(filter(None, [name, f"date {date}" if image.shape[0] > 1 else ""]))
            found.append(_panel(_bytes(pixels, low, high), reduced.labels, longest, caption))
    return found


@dataclass(frozen=True, slots=True)
class _Small:
    """What `_reduced` gives: pixels (dates, 1 or 3, H, W), labels (H, W), whether the values are those of 8 bit."""

    pixels: Image
    labels: Mask
    eight_bit: bool


def _window(image: Image) -> ReadWindow:
    return lambda top, left, height, width: image[..., top : top + height, left : left + width]


def _slices(labels: Mask, background: bool) -> list[int]:
    """The indices of the slices that are shown."""
    holding = np.flatnonzero((labels > 0).any((1, 2))) if background else np.arange(0)
    among = holding if len(holding) else np.arange(len(labels))
    return [int(z) for z in among[np.linspace(0, len(among) - 1, min(SLICES, len(among))).round().astype(int)]]


def _reduced(read: ReadWindow, shape: tuple[int, ...], labels: Mask, largest: int) -> _Small:
    """A picture shrunk by a whole number, so that its longer side has `largest` pixels at most.

    Pixels are averaged; of the classes, a cell takes the one that most of its pixels have.
    """
    dates, channels, height, width = shape
    factor = math.ceil(max(height, width) / largest)
    pixels, classes, eight_bit = [], [], True
    for part in rows(height, dates * channels * width, factor):
        values = read(part.start, 0, part.stop - part.start, width)
        values = values[:, :3] if channels > 2 else values.mean(1, keepdims=True)
        eight_bit = eight_bit and channels != 2 and bool(np.allclose(values * 255, np.round(values * 255), atol=1e-3))
        pixels.append(_cells(values, factor).mean((-3, -1)))
        classes.append(_most_common(_cells(labels[part], factor)))
    return _Small(np.concatenate(pixels, -2), np.concatenate(classes), eight_bit)


def _cells(values: NDArray[Any], factor: int) -> NDArray[Any]:
    """(..., H, W) -> (..., H / factor, factor, W / factor, factor), the last row and column repeated where needed."""
    *outer, height, width = values.shape
    spare = (-height % factor, -width % factor)
    if any(spare):
        values = np.pad(values, [*[(0, 0)] * len(outer), (0, spare[0]), (0, spare[1])], mode="edge")
    return values.reshape(*outer, (height + spare[0]) // factor, factor, (width + spare[1]) // factor, factor)


def _most_common(cells: Mask) -> Mask:
    """(H, f, W, f) -> (H, W); of classes that are equally common, the lowest."""
    if cells.shape[1] == 1:
        return cells[:, 0, :, 0]
    best = np.zeros(cells.shape[::2], np.uint8)
    most = np.zeros(cells.shape[::2], np.int64)
    for label in np.unique(cells):
        count = (cells == label).sum((1, 3))
        best[count > most] = label
        most = np.maximum(most, count)
    return best


def _range(small: list[_Small]) -> tuple[float, float]:
    """The values that are shown as black and as white: 0 and 1, unless values finer than 8 bit use little of that."""
    if all(part.eight_bit for part in small):
        return 0.0, 1.0
    low, high = np.percentile(np.concatenate([part.pixels.ravel() for part in small]), [TAIL, 100 - TAIL])
    return (float(low), float(high)) if 0 < high - low < LITTLE else (0.0, 1.0)


def _bytes(pixels: Image, low: float, high: float) -> NDArray[np.uint8]:
    """(1 or 3, H, W) -> (H, W, 3)."""
    scaled = np.clip((pixels - low) / (high - low), 0, 1) * 255
    return np.broadcast_to(scaled.round().astype(np.uint8).transpose(1, 2, 0), (*pixels.shape[1:], 3))


def _panel(pixels: NDArray[np.uint8], labels: Mask, longest: int, caption: str) -> Panel:
    """A panel whose longer side is enlarged to `longest` pixels if it has fewer."""
    height, width = labels.shape
    scale = longest / max(height, width)
    if scale <= 1:
        return Panel(pixels, labels, caption)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Panel(
        np.asarray(Pillow.fromarray(np.ascontiguousarray(pixels)).resize(size, Pillow.Resampling.BICUBIC)),
        np.asarray(Pillow.fromarray(np.ascontiguousarray(labels)).resize(size, Pillow.Resampling.NEAREST)),
        caption,
    )
