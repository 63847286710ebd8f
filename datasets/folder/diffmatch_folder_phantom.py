"""Invented pictures in the folder's own layout, for runs without data.

Things on the ground, some of them rare and small.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffmatch.invented import painting

SIDE = 112
"""The longer side of a picture."""
VOID = 255
CLASSES = {
    0: ("background", (0, 0, 0)),
    1: ("rock", (230, 159, 0)),
    2: ("shrub", (0, 158, 115)),
    4: ("pool", (86, 180, 233)),
    7: ("log", (213, 94, 0)),
    9: ("nest", (204, 121, 167)),
}
"""Value in the masks, with gaps as real tables have them: name and colour."""
SHARE = np.geomspace(0.65, 0.55, 5)
"""Of the pictures that hold a class."""
RADIUS = np.geomspace(0.18, 0.09, 5) * SIDE
"""Median, in pixels."""


def write_folder(root: Path, seed: int, masked: int, bare: int) -> None:
    """Write so many pictures with masks and so many without, and classes.csv.

    Masks are of mode P, L or 16 bit in turn.
    """
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    rows = [f"{value},{name},#{bytes(color).hex()}" for value, (name, color) in CLASSES.items()]
    (root / "classes.csv").write_text("\n".join(["value,name,color", *rows, f"{VOID},void"]) + "\n")
    for number in range(masked + bare):
        pixels, labels = scene(seed, number)
        name = f"picture_{number + 1:04d}.png"
        Image.fromarray(pixels).save(root / "images" / name)
        if number < masked:
            _as_mode(labels, number % 3).save(root / "masks" / name)


def scene(seed: int, number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Picture (H, W, 3) and mask (H, W) of the values of CLASSES, with a rim of 255 around things."""
    rng = np.random.default_rng([seed, number])
    short = int(rng.integers(SIDE * 3 // 4, SIDE))
    shape = (SIDE, short) if rng.random() < 0.3 else (short, SIDE)
    image, mask = painting.surroundings(rng, shape), np.zeros(shape, np.uint8)
    values = [value for value in CLASSES if value]
    for place in np.flatnonzero(rng.random(len(values)) < SHARE):
        row, column = rng.uniform(0.15, 0.85, 2) * shape
        radius = RADIUS[place] * rng.lognormal(0, 0.2)
        painting.add_object(rng, image, mask, int(place) + 1, (row, column), radius, values[place], rim=VOID)
    return painting.photograph(rng, image), mask


def _as_mode(labels: NDArray[np.uint8], which: int) -> Image.Image:
    """Mode L, 16 bit or P; a palette is only how a mask looks."""
    if which < 2:
        return Image.fromarray(labels if which == 0 else labels.astype(np.uint16))
    indexed = Image.fromarray(labels).convert("P")
    indexed.putdata(labels.ravel().tolist())
    indexed.putpalette([channel for value in range(256) for channel in CLASSES.get(value, ("", (255, 255, 255)))[1]])
    return indexed
