"""Invented aerial photographs of one place on two dates, for the `fabricate` of change detection plugins.

Buildings are oriented rectangles with a gable and a shadow; some stand on one date only, and their footprint is what
changed. Everything else that differs is no change: sun, tint and season, moved cars, grown and felled trees, new paving
in the colours of roofs, repainted roofs. A pixel's difference between the dates therefore says little; the outline,
gable and shadow around it say what it is.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from scipy.ndimage import gaussian_filter

Array = NDArray[np.float64]
Bool = NDArray[np.bool_]

ROOFS = np.array([(0.62, 0.60, 0.58), (0.66, 0.34, 0.26), (0.85, 0.84, 0.80), (0.36, 0.44, 0.50), (0.50, 0.40, 0.32)])
AREA = 80 * 80
"""Pixels to which the counts of objects below refer."""


@dataclass(frozen=True)
class Rectangle:
    """Centre (y, x), half length and half width in pixels, direction in radians, colour (r, g, b)."""

    y: float
    x: float
    length: float
    width: float
    angle: float
    color: tuple[float, ...]


Place = tuple[tuple[slice, slice], Array, Array]


def _around(shape: tuple[int, ...], y: float, x: float, radius: float, angle: float = 0.0) -> Place:
    """A window about a point, and in it the distances along and across a direction."""
    top, left = max(0, int(y - radius)), max(0, int(x - radius))
    bottom, right = max(top, min(shape[0], int(y + radius) + 2)), max(left, min(shape[1], int(x + radius) + 2))
    dy, dx = np.arange(top, bottom)[:, None] - y, np.arange(left, right)[None] - x
    cos, sin = np.cos(angle), np.sin(angle)
    return (slice(top, bottom), slice(left, right)), dx * cos + dy * sin, dy * cos - dx * sin


def _inside(shape: tuple[int, ...], r: Rectangle, grow: float = 0.0) -> tuple[tuple[slice, slice], Bool, Array]:
    """A rectangle's window, its pixels there, and their distance across its ridge."""
    where, along, across = _around(shape, r.y, r.x, np.hypot(r.length, r.width) + grow, r.angle)
    return where, (np.abs(along) <= r.length + grow) & (np.abs(across) <= r.width + grow), across


def _roof(rng: np.random.Generator) -> tuple[float, ...]:
    return tuple(np.clip(ROOFS[rng.integers(len(ROOFS))] + rng.normal(0, 0.04, 3), 0, 1))


def _buildings(
    rng: np.random.Generator, shape: tuple[int, int], count: int, street: float, taken: Bool
) -> list[Rectangle]:
    """Buildings along a street's direction that keep clear of what is taken.

    Fewer than `count` where no room is left.
    """
    built: list[Rectangle] = []
    for _ in range(6 * count):
        if len(built) == count:
            break
        angle = street + rng.normal(0, 0.06) + (np.pi / 2 if rng.random() < 0.4 else 0)
        y, x = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        building = Rectangle(y, x, rng.uniform(9, 14), rng.uniform(6, 9.5), angle, _roof(rng))
        where, inside, _ = _inside(shape, building, 2.5)
        if not (taken[where] & inside).any():
            taken[where] |= inside
            built.append(building)
    return built


class Site:
    """What stays the same on both dates: ground, roads, standing buildings and the direction of the street."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int]) -> None:
        self.rng, self.shape, self.scale = rng, shape, shape[0] * shape[1] / AREA
        self.street = rng.uniform(0, np.pi)
        self.soil = _smooth(rng, shape, 9)
        self.detail = _smooth(rng, shape, 2)
        rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])[None]
        across = rows * np.cos(self.street) - columns * np.sin(self.street)
        self.road = np.abs((across + rng.uniform(0, 70)) % 70 - 35) < rng.uniform(2.5, 4)
        self.taken: Bool = self.road.copy()
        busy = rng.random() < 0.5
        changed = 1 + rng.poisson(1.1 * self.scale) if busy else 0
        buildings = _buildings(rng, shape, changed, self.street, self.taken)
        demolished = rng.random(len(buildings)) < 0.15
        self.only = (
            [b for b, gone in zip(buildings, demolished, strict=True) if gone],
            [b for b, gone in zip(buildings, demolished, strict=True) if not gone],
        )
        self.standing = _buildings(rng, shape, rng.poisson(1.2 * self.scale), self.street, self.taken)
        self.changed: Bool = np.zeros(shape, bool)
        for building in buildings:
            where, inside, _ = _inside(shape, building)
            self.changed[where] |= inside

    def seen(self, date: int) -> NDArray[np.uint8]:
        """(H, W, 3) uint8: the photograph of a date, 0 or 1."""
        rng, shape = self.rng, self.shape
        green, bare = (
            np.array((0.34, 0.45, 0.24)) + rng.normal(0, 0.02, 3),
            np.array((0.52, 0.45, 0.33)) + rng.normal(0, 0.02, 3),
        )
        dry = (0.5 + 0.5 * np.tanh(2 * (self.soil + rng.normal(0, 0.3))))[..., None]
        image: Array = (1 - dry) * green + dry * bare + 0.05 * self.detail[..., None]
        image[self.road] = rng.uniform(0.35, 0.55)
        sun, length = rng.uniform(0, 2 * np.pi), rng.uniform(2, 4.5)
        for _ in range(rng.poisson(0.4 * self.scale)):
            self._fill(image, self._plot(), 1.0)
        standing = [replace(b, color=_roof(rng)) if rng.random() < 0.15 else b for b in self.standing]
        for _ in range(rng.poisson(3 * self.scale)):
            self._fill(image, self._car(), 1.0)
        for building in (*standing, *self.only[date]):
            self._fill(
                image, replace(building, y=building.y + length * np.sin(sun), x=building.x + length * np.cos(sun)), 0.5
            )
        for building in (*standing, *self.only[date]):
            where, inside, across = _inside(shape, building)
            lit = 1 + 0.2 * np.cos(sun - building.angle - np.pi / 2) * np.sign(across)
            image[where][inside] = (np.array(building.color) * lit[..., None])[inside]
        for _ in range(rng.poisson(3 * self.scale)):
            self._tree(image, green, sun, length / 2)
        return self._photograph(image)

    def _photograph(self, image: Array) -> NDArray[np.uint8]:
        """The light of a day: brightness, a slope, a tint, noise."""
        rng, (height, width) = self.rng, self.shape
        slope = rng.normal(0, 0.12, 2)
        light = 1 + slope[0] * np.linspace(-0.5, 0.5, height)[:, None] + slope[1] * np.linspace(-0.5, 0.5, width)[None]
        lit = image * light[..., None] * rng.uniform(0.85, 1.1) * rng.normal(1, 0.03, 3)
        return np.asarray(np.rint(np.clip(lit + rng.normal(0, 0.03, image.shape), 0, 1) * 255), np.uint8)

    def _plot(self) -> Rectangle:
        """Paving: the colour of a roof, any direction, neither gable nor shadow."""
        rng = self.rng
        y, x = rng.uniform(0, self.shape[0]), rng.uniform(0, self.shape[1])
        return Rectangle(y, x, rng.uniform(4, 12), rng.uniform(3, 8), rng.uniform(0, np.pi), _roof(rng))

    def _car(self) -> Rectangle:
        rng = self.rng
        y, x = rng.uniform(0, self.shape[0]), rng.uniform(0, self.shape[1])
        return Rectangle(y, x, 2.2, 1.1, self.street, tuple(rng.uniform(0.1, 1.0, 3)))

    def _tree(self, image: Array, green: Array, sun: float, shadow: float) -> None:
        rng, radius = self.rng, self.rng.uniform(2, 5)
        y, x = rng.uniform(0, self.shape[0]), rng.uniform(0, self.shape[1])
        lobes, phase = rng.integers(4, 8), rng.uniform(0, 2 * np.pi)
        for dy, dx, light in ((shadow * np.sin(sun), shadow * np.cos(sun), None), (0.0, 0.0, rng.uniform(0.5, 0.8))):
            where, along, across = _around(self.shape, y + dy, x + dx, 1.3 * radius)
            inside = np.hypot(along, across) <= radius * (1 + 0.2 * np.cos(lobes * np.arctan2(across, along) + phase))
            leaves = green * (light or 0) + rng.normal(0, 0.05, (*inside.shape, 1))
            image[where][inside] = leaves[inside] if light else 0.5 * image[where][inside]

    def _fill(self, image: Array, r: Rectangle, opacity: float) -> None:
        """A flat rectangle of its colour; half transparent ones darken what lies below, as shadows do."""
        where, inside, _ = _inside(self.shape, r)
        image[where][inside] = r.color if opacity == 1 else opacity * image[where][inside]


def _smooth(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> Array:
    """(H, W) of unit variance, smooth over `sigma` pixels."""
    field = gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    return np.asarray(field / max(float(field.std()), 1e-9))


def pair(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Bool]:
    """Both dates, (H, W, 3) uint8 each, and where a building stands on one of them only, (H, W)."""
    site = Site(rng, shape)
    return site.seen(0), site.seen(1), site.changed


def write_patches(root: Path, names: Iterable[str], seed: int, side: int = 80, one_bit: bool = False) -> None:
    """A/, B/ and label/ below `root`, a square PNG each by name. A patch looks the same whatever others there are.

    Args:
        side: in pixels.
        one_bit: masks are boolean, one bit a pixel; otherwise they hold 0 and 255.
    """
    for folder in ("A", "B", "label"):
        (root / folder).mkdir(parents=True)
    for name in names:
        before, after, changed = pair(np.random.default_rng([seed, zlib.crc32(name.encode())]), (side, side))
        mask = changed if one_bit else changed * np.uint8(255)
        for folder, pixels in (("A", before), ("B", after), ("label", mask)):
            Pillow.fromarray(pixels).save(root / folder / f"{name}.png", compress_level=1)
