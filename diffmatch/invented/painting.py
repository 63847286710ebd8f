"""Invented photographs: lit, noisy, with objects whose class shows in hue, pattern and outline together.

Light, haze and noise shift a pixel's colour by more than neighbouring classes lie apart, and the surroundings share the
objects' hues, so that a pixel alone says little; a region says much. Nothing here looks like the real thing, and
numbers from it say so.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

Array = NDArray[np.float64]
Bool = NDArray[np.bool_]

GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Look:
    """What the objects of a class have in common.

    Attributes:
        color: (r, g, b) in [0, 1].
        pattern: 0 plain, 1 stripes, 2 checks.
        period: of the pattern, in pixels.
        angle: of the pattern, in radians.
        lobes: of the outline, 2 is an ellipse.
    """

    color: tuple[float, float, float]
    pattern: int
    period: float
    angle: float
    lobes: int


def look(klass: int) -> Look:
    """The look of a class by its index; neighbours in hue differ in pattern."""
    hue = klass * GOLDEN % 1
    return Look(
        color=colorsys.hsv_to_rgb(hue, 0.9 if klass % 2 else 0.65, 0.9 if klass % 3 else 0.65),
        pattern=klass % 3,
        period=4.0 + 3.0 * (klass % 2),
        angle=(klass % 4) * np.pi / 4,
        lobes=2 + klass % 4,
    )


def grid(shape: tuple[int, int]) -> tuple[Array, Array]:
    """Rows and columns, (H, W) each."""
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    return rows, columns


def texture(rng: np.random.Generator, shape: tuple[int, int], klass: int) -> Array:
    """(H, W, 3): the surface of one object of a class; colour and phase of the pattern vary a little."""
    about = look(klass)
    rows, columns = grid(shape)
    across = rows * np.cos(about.angle) + columns * np.sin(about.angle) + rng.uniform(0, about.period)
    along = columns * np.cos(about.angle) - rows * np.sin(about.angle) + rng.uniform(0, about.period)
    wave = np.sin(2 * np.pi * across / about.period)
    if about.pattern == 2:
        wave = wave * np.sin(2 * np.pi * along / about.period)
    depth = 0.0 if about.pattern == 0 else 0.35
    color = np.array(about.color) + rng.normal(0, 0.04, 3)
    surface: Array = color * (1 - depth * (wave[..., None] > 0))
    return surface


def outline(
    rng: np.random.Generator, shape: tuple[int, int], centre: tuple[float, float], radius: float, klass: int
) -> Bool:
    """(H, W): where an object of a class lies. `radius` in pixels; at least the pixel at the centre belongs to it."""
    rows, columns = grid(shape)
    y, x = rows - centre[0], columns - centre[1]
    turn, stretch = rng.uniform(0, 2 * np.pi), rng.uniform(0.75, 1.0)
    u, v = x * np.cos(turn) + y * np.sin(turn), (y * np.cos(turn) - x * np.sin(turn)) / stretch
    lobes = look(klass).lobes
    edge = radius * (1 + 0.22 * np.cos(lobes * np.arctan2(v, u)))
    inside: Bool = np.hypot(u, v) <= np.maximum(edge, 0.75)
    return inside


def add_object(
    rng: np.random.Generator,
    image: Array,
    mask: NDArray[np.uint8],
    klass: int,
    centre: tuple[float, float],
    radius: float,
    value: int,
    rim: int | None = None,
) -> None:
    """Paint one object of a class into `image` (H, W, 3) and `mask` (H, W).

    Args:
        value: what its pixels have in the mask.
        rim: what a border of one pixel around it has in the mask; None draws no border.
    """
    inside = outline(rng, mask.shape, centre, radius, klass)
    image[inside] = texture(rng, mask.shape, klass)[inside]
    if rim is not None:
        mask[binary_dilation(inside)] = rim
    mask[inside] = value


def surroundings(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """(H, W, 3): a dull backdrop of broad patches in any hue."""
    rows, columns = grid(shape)
    image = np.empty((*shape, 3))
    image[:] = colorsys.hsv_to_rgb(rng.random(), 0.25, rng.uniform(0.3, 0.7))
    for _ in range(3):
        phase, wave = rng.uniform(0, 2 * np.pi, 2), rng.uniform(-2, 2, 2) * np.pi / max(shape)
        patch = np.sin(wave[0] * rows * 2 + phase[0]) * np.sin(wave[1] * columns * 2 + phase[1]) > 0.2
        image[patch] = 0.6 * image[patch] + 0.4 * np.array(
            colorsys.hsv_to_rgb(rng.random(), 0.3, rng.uniform(0.2, 0.8))
        )
    return image


def photograph(rng: np.random.Generator, image: Array, noise: float = 0.04) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of a scene in [0, 1]: uneven light, a tint, noise."""
    rows, columns = grid(image.shape[:2])
    slope = rng.normal(0, 0.25, 2)
    light = 1 + slope[0] * (rows / image.shape[0] - 0.5) + slope[1] * (columns / image.shape[1] - 0.5)
    lit = image * light[..., None] * rng.uniform(0.75, 1.15) * rng.normal(1, 0.05, 3)
    noisy = lit + rng.normal(0, noise, image.shape)
    return np.asarray(np.rint(np.clip(noisy, 0, 1) * 255), np.uint8)
