"""Weak and strong views. All randomness comes from the sample's own generator; nothing here touches a global one.

A weak view is one affine sampling of the image (scale, rotation, flip, crop together), so its cost is that of the crop.
A strong view is the weak view's pixels with photometry changed (section 4.1; feature dropout, its fourth part, is the
extractor's).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as tvf

from diffmatch.domain import VOID
from diffmatch.settings import Data

BLUR_SIGMA = (0.1, 2.0)
CUTMIX_AREA, CUTMIX_ASPECT = (0.02, 0.4), (0.3, 1 / 0.3)
"""Share of the crop and aspect ratio of a CutMix box (UniMatch's)."""


@dataclass(frozen=True)
class WeakView:
    """One crop.

    image (dates, channels, crop, crop), mask (crop, crop) uint8 or None, inside (crop, crop) bool: false off the
    image.
    """

    image: Tensor
    mask: Tensor | None
    inside: Tensor


def resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """(dates, channels, H, W) resized to `size`, bilinear with antialiasing; training and scoring share this."""
    if tuple(image.shape[-2:]) == size:
        return image
    return F.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=True)


def weak(image: Tensor, mask: Tensor | None, data: Data, rng: np.random.Generator) -> WeakView:
    """A random crop of a randomly scaled, rotated and flipped image.

    Args:
        image: (dates, channels, H, W) float32.
        mask: (H, W) uint8 or None; sampled to the nearest pixel, 255 outside.
    """
    if data.resize:
        image = resized(image, (data.resize, data.resize))
        if mask is not None:
            mask = F.interpolate(mask[None, None].float(), size=(data.resize, data.resize), mode="nearest-exact")[
                0, 0
            ].to(torch.uint8)
    height, width = image.shape[-2:]
    crop = data.crop
    scale = rng.uniform(*data.scale)
    angle = math.radians(rng.uniform(-data.rotate, data.rotate)) if data.rotate else 0.0
    if data.flip == "rot90":
        angle += math.pi / 2 * rng.integers(4)
    mirror = -1.0 if data.flip != "none" and rng.random() < 0.5 else 1.0
    centre = [_centre(side, scale, crop, rng) for side in (width, height)]

    # Crop pixel (column, row) about the crop's centre -> source pixel.
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    axis = torch.arange(crop, dtype=torch.float32) - (crop - 1) / 2
    v, u = torch.meshgrid(axis, axis * mirror, indexing="ij")
    x = (centre[0] + cos * u - sin * v + 0.5) * (2 / width) - 1
    y = (centre[1] + sin * u + cos * v + 0.5) * (2 / height) - 1
    grid = torch.stack([x, y], -1)[None]
    inside = (grid[0].abs() <= 1).all(-1)

    dates, channels = image.shape[:2]
    view = F.grid_sample(image.flatten(0, 1)[None], grid, mode="bilinear", padding_mode="border", align_corners=False)
    view = view[0].view(dates, channels, crop, crop) * inside
    if mask is None:
        return WeakView(view, None, inside)
    cut = F.grid_sample(mask[None, None].float(), grid, mode="nearest", padding_mode="border", align_corners=False)[
        0, 0
    ]
    return WeakView(view, torch.where(inside, cut, VOID).to(torch.uint8), inside)


def _centre(side: int, scale: float, crop: int, rng: np.random.Generator) -> float:
    """Centre of the crop in source pixels: anywhere that keeps the smaller of crop and image inside the larger.

    It begins at a whole pixel of the scaled image, where `inference.framed` pads too: at scale 1 nothing is
    interpolated.
    """
    slack = math.floor(side * scale) - crop
    first = int(rng.integers(min(slack, 0), max(slack, 0) + 1))
    return (first + crop / 2) / scale - 0.5


def strong(view: Tensor, data: Data, rng: np.random.Generator, photometry: str = "standard") -> Tensor:
    """The photometry of (dates, channels, H, W) in nominal [0, 1] changed; each date on its own.

    Args:
        photometry: `standard`: colour jitter, grayscale and blur; `random_intensity`: AugSeg's (Zhao et al. 2023, Table
            1).
    """
    if photometry == "random_intensity":
        return torch.stack([_random_intensity(date, rng) for date in view])
    return torch.stack([_photometry(date, data, rng) for date in view])


def _photometry(x: Tensor, data: Data, rng: np.random.Generator) -> Tensor:
    rgb = x.shape[0] == 3
    if rng.random() < data.jitter_p:
        brightness, contrast, saturation = rng.uniform(1 - data.jitter, 1 + data.jitter, 3).tolist()
        hue = rng.uniform(-data.jitter / 2, data.jitter / 2)
        x = x * brightness
        x = (x - x.mean()) * contrast + x.mean()
        if rgb:
            x = tvf.adjust_hue(tvf.adjust_saturation(x.clamp(0, 1), saturation), hue)
    if rgb and rng.random() < data.grayscale_p:
        x = tvf.rgb_to_grayscale(x, num_output_channels=3)
    if rng.random() < data.blur_p:
        x = _blur(x, rng.uniform(*BLUR_SIGMA))
    return x


def _blur(x: Tensor, sigma: float) -> Tensor:
    side = min(2 * math.ceil(2 * sigma) + 1, 2 * ((min(x.shape[-2:]) - 1) // 2) + 1)
    return tvf.gaussian_blur(x, [side, side], [sigma, sigma])  # type: ignore[no-any-return]


def _random_intensity(x: Tensor, rng: np.random.Generator) -> Tensor:
    """(channels, H, W) after one to three operations, drawn with replacement.

    Each strength is drawn from its whole range.
    """
    usable = list(INTENSITY) if x.shape[0] == 3 else [name for name in INTENSITY if name not in ("saturation", "hue")]
    for choice in rng.integers(len(usable), size=rng.integers(1, MAX_OPERATIONS + 1)):
        x = INTENSITY[usable[choice]](x, rng.random())
    return x


def _autocontrast(x: Tensor) -> Tensor:
    low, high = x.amin((1, 2), keepdim=True), x.amax((1, 2), keepdim=True)
    return torch.where(high > low, (x - low) / (high - low), x)


def _weaker(strength: float) -> float:
    """AugSeg's enhancement factors, 0.95 down to 0.05: 1 leaves the image as it is."""
    return 0.95 - 0.9 * strength


def _posterize(x: Tensor, levels: float) -> Tensor:
    return (x.clamp(0, 1) * levels).floor().clamp(max=math.ceil(levels) - 1) / levels


def _sharpness(x: Tensor, factor: float) -> Tensor:
    return tvf.adjust_sharpness(x[:, None].clamp(0, 1), factor)[:, 0]  # type: ignore[no-any-return]


INTENSITY: dict[str, Callable[[Tensor, float], Tensor]] = {
    "identity": lambda x, s: x,
    "autocontrast": lambda x, s: _autocontrast(x),
    "equalize": lambda x, s: tvf.equalize(x.clamp(0, 1)),
    "blur": lambda x, s: _blur(x, BLUR_SIGMA[0] + s * (BLUR_SIGMA[1] - BLUR_SIGMA[0])),
    "contrast": lambda x, s: (x - x.mean()) * _weaker(s) + x.mean(),
    "brightness": lambda x, s: x * _weaker(s),
    "sharpness": lambda x, s: _sharpness(x, _weaker(s)),
    "posterize": lambda x, s: _posterize(x, 2 ** (8 - 4 * s)),
    "solarize": lambda x, s: torch.where(x >= s, 1 - x, x),
    "saturation": lambda x, s: tvf.adjust_saturation(x.clamp(0, 1), _weaker(s)),
    "hue": lambda x, s: tvf.adjust_hue(x.clamp(0, 1), s - 0.5),
}
"""AugSeg's operations, as functions of (channels, H, W) in nominal [0, 1] and a strength in [0, 1).

The last two are for colour only.
"""
MAX_OPERATIONS = 3


def cutmix_box(crop: int, probability: float, rng: np.random.Generator) -> Tensor:
    """(crop, crop) bool: a random box with the given probability, otherwise all False."""
    box = torch.zeros(crop, crop, dtype=torch.bool)
    if probability and rng.random() < probability:
        area = rng.uniform(*CUTMIX_AREA) * crop * crop
        aspect = rng.uniform(*CUTMIX_ASPECT)
        h, w = (min(crop, max(1, round(side))) for side in (math.sqrt(area * aspect), math.sqrt(area / aspect)))
        top, left = rng.integers(crop - h + 1), rng.integers(crop - w + 1)
        box[top : top + h, left : left + w] = True
    return box


def normalised(image: Tensor, data: Data) -> Tensor:
    """(image - mean) / std over the channel axis of (..., channels, H, W)."""
    mean, std = (torch.tensor(values, device=image.device)[:, None, None] for values in (data.mean, data.std))
    return (image - mean) / std
