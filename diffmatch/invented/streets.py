"""Invented street scenes seen from a car, for the `fabricate` of street plugins.

Sky, houses and trees above a road with pavements; walls and fences along it; poles that carry signs and lights; people,
riders and vehicles that grow towards the camera. Surfaces are those of `painting`: hue, pattern and outline tell a
class together; windows, light and tint blur what one pixel tells, and do not hide it. Nothing here looks like a real
street.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffmatch.invented import painting
from diffmatch.invented.painting import Array, Bool

PARTS = (
    "road",
    "sidewalk",
    "building",
    "wall",
    "fence",
    "pole",
    "traffic light",
    "traffic sign",
    "vegetation",
    "terrain",
    "sky",
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
    "own car",
    "clutter",
    "plate",
)
"""What a scene is made of: the 19 classes that street sets share, and what they leave void."""


@dataclass(frozen=True)
class Shape:
    """Height and width of a thing next to the camera as shares of the image's height.

    `box` is a rectangle, else lobed.
    """

    height: float
    width: float
    box: bool = False


SHAPES = {
    "person": Shape(0.50, 0.20),
    "rider": Shape(0.30, 0.20),
    "car": Shape(0.30, 0.50),
    "truck": Shape(0.52, 0.50, box=True),
    "bus": Shape(0.54, 0.56, box=True),
    "train": Shape(0.46, 0.85, box=True),
    "motorcycle": Shape(0.28, 0.40),
    "bicycle": Shape(0.28, 0.42),
    "clutter": Shape(0.16, 0.20),
}
ON_THE_ROAD = ("car", "truck", "bus", "motorcycle")
RIDDEN = ("bicycle", "motorcycle")


def street(
    rng: np.random.Generator, shape: tuple[int, int], things: Mapping[str, float], sure: str = ""
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One scene. A rider sits on a bicycle or a motorcycle, whichever `things` names.

    Args:
        shape: (H, W), from about 60 x 80 on.
        things: expected number a scene of each part that comes in pieces (all of PARTS but road, sidewalk, building,
            vegetation, sky).
        sure: a part of which there is one at least.

    Returns:
        The photograph (H, W, 3) and the index into PARTS of each pixel (H, W), both uint8.
    """
    scene = _Scene(rng, shape, things, sure)
    scene.ground()
    scene.skyline()
    scene.roadside()
    scene.traffic()
    return painting.photograph(rng, scene.image), scene.parts


class _Scene:
    def __init__(
        self, rng: np.random.Generator, shape: tuple[int, int], things: Mapping[str, float], sure: str
    ) -> None:
        self.rng, self.shape = rng, shape
        self.counts = {name: max(int(rng.poisson(mean)), name == sure) for name, mean in things.items()}
        self.image: Array = np.zeros((*shape, 3))
        self.parts = np.zeros(shape, np.uint8)
        self.rows, self.columns = painting.grid(shape)
        self.horizon = shape[0] * rng.uniform(0.38, 0.48)
        self.vanishing = shape[1] * rng.uniform(0.4, 0.6)

    def put(self, part: str, where: Bool) -> None:
        """Cover `where` with one object's surface."""
        rows, columns = np.flatnonzero(where.any(1)), np.flatnonzero(where.any(0))
        if len(rows):
            box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            index = PARTS.index(part)
            surface = painting.texture(self.rng, where[box].shape, index)
            self.image[box][where[box]] = surface[where[box]]
            self.parts[where] = index

    def box(self, top: float, bottom: float, left: float, right: float) -> Bool:
        inside: Bool = (self.rows >= top) & (self.rows < bottom) & (self.columns >= left) & (self.columns < right)
        return inside

    def ground(self) -> None:
        """Road and pavements as wedges from the vanishing point; terrain beside them; on the road a dashed line."""
        height, width = self.shape
        below = np.maximum(self.rows - self.horizon, 0) / (height - self.horizon)
        across = (self.columns - self.vanishing) / width
        self.put("sidewalk", self.rows >= self.horizon)
        for _ in range(self.counts.get("terrain", 0)):
            side = self.rng.choice([-1, 1])
            self.put("terrain", (below > 0) & (across * side > 0.12 + 0.55 * below))
        self.put("road", (below > 0) & (np.abs(across) < 0.06 + self.rng.uniform(0.5, 0.75) * below))
        dashes = (np.abs(across) < 0.012 * (1 + below)) & (np.sin(12 / (below + 0.15)) > 0) & (below > 0.05)
        self.image[dashes] = 0.85
        if self.counts.get("own car", 0):
            bonnet = (self.columns / width - 0.5) ** 2 < self.rows / height - self.rng.uniform(0.90, 0.94)
            self.put("own car", bonnet)

    def skyline(self) -> None:
        """Houses and trees in a row, sky above them and in some gaps."""
        height, width = self.shape
        self.put("sky", self.rows < self.horizon)
        left = 0.0
        while left < width:
            right = left + width * self.rng.uniform(0.08, 0.25)
            kind = self.rng.choice(["building", "building", "vegetation", "sky"], p=[0.35, 0.2, 0.3, 0.15])
            near = abs((left + right) / 2 - self.vanishing) / width
            top = self.horizon * (1 - np.clip(self.rng.uniform(0.35, 0.75) + 0.9 * near, 0, 1.05))
            bottom = self.horizon + 0.18 * near * height
            if kind == "building":
                house = self.box(top, bottom, left, right)
                self.put(kind, house)
                windows = house & (self.rows % 9 < 4) & ((self.columns - left) % 8 < 4)
                self.image[windows] *= self.rng.uniform(0.3, 1.0, 3)
            elif kind == "vegetation":
                along = self.columns[:1]
                crown = self.rng.uniform(1, 3) * np.sin(along / self.rng.uniform(1.5, 3)) + 3 * np.sin(along / 7)
                self.put(kind, self.box(0, bottom, left, right) & (self.rows >= top + crown))
            left = right

    def roadside(self) -> None:
        """Walls and fences behind the pavement, poles in front of it, some with a sign or a light."""
        height, width = self.shape
        for part in ("wall", "fence"):
            for _ in range(self.counts.get(part, 0)):
                left = width * self.rng.uniform(-0.1, 0.9)
                foot = self.horizon + height * self.rng.uniform(0.02, 0.08)
                self.put(
                    part,
                    self.box(
                        foot - height * self.rng.uniform(0.08, 0.16),
                        foot,
                        left,
                        left + width * self.rng.uniform(0.12, 0.3),
                    ),
                )
        for part in ("pole", "traffic sign", "traffic light"):
            for _ in range(self.counts.get(part, 0)):
                size = self.rng.uniform(0.4, 1.0)
                x, foot = width * self.rng.uniform(0.02, 0.98), self.horizon + height * 0.3 * size
                top = foot - height * size * self.rng.uniform(0.5, 0.75)
                self.put("pole", self.box(top, foot, x, x + max(1.0, height * 0.035 * size)))
                if part != "pole":
                    tall = height * size * (0.2 if part == "traffic light" else 0.15)
                    wide = 0.4 * tall if part == "traffic light" else tall
                    self.blob(part, top + tall, x, tall, wide)

    def traffic(self) -> None:
        """Everything that stands on the ground, the far before the near."""
        height, width = self.shape
        names = [name for name, count in self.counts.items() if name in SHAPES for _ in range(count)]
        for depth, name in sorted((self.rng.uniform(0.3, 1.0), name) for name in names):
            about, foot = SHAPES[name], self.horizon + depth * 0.75 * (height - self.horizon)
            reach = width * (0.04 + 0.4 * depth)
            x = self.vanishing + (
                self.rng.uniform(-reach, reach) if name in ON_THE_ROAD else self.rng.choice([-1, 1]) * reach * 1.1
            )
            tall = max(2.0, height * about.height * depth * self.rng.uniform(0.85, 1.2))
            wide = max(2.0, height * about.width * depth * self.rng.uniform(0.85, 1.2))
            if about.box:
                self.put(name, self.box(foot - tall, foot, x - wide / 2, x + wide / 2))
            elif name == "rider":
                self.blob(
                    self.rng.choice([ridden for ridden in RIDDEN if ridden in self.counts]),
                    foot,
                    x,
                    tall * 0.8,
                    wide * 1.9,
                )
                self.blob(name, foot - 0.5 * tall, x, tall, wide)
            else:
                self.blob(name, foot, x, tall, wide)
            if name == "car" and self.counts.get("plate", 0) and wide > 8:
                self.put("plate", self.box(foot - 0.3 * tall, foot - 0.15 * tall, x - 0.12 * wide, x + 0.12 * wide))

    def blob(self, part: str, foot: float, x: float, tall: float, wide: float) -> None:
        """A lobed object of at least a dozen pixels that stands on row `foot`."""
        grow = max(1.0, (15 / (tall * wide)) ** 0.5)
        lobes = painting.look(PARTS.index(part)).lobes
        near = self.box(foot - 1.2 * tall * grow, foot + 0.5 * tall * grow, x - wide * grow, x + wide * grow)
        v, u = (self.rows[near] - (foot - tall / 2)) / (tall * grow / 2), (self.columns[near] - x) / (wide * grow / 2)
        near[near] = np.hypot(u, v) <= 1 + 0.15 * np.cos(lobes * np.arctan2(v, u))
        self.put(part, near)
