"""Invented streets in CamVid's folders, for runs without the data.

Frames are named as the real ones are: drive, underscore, number.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from diffmatch.invented.streets import PARTS, street

SHAPE = (120, 160)
THINGS = {
    "pole": 1.3,
    "traffic sign": 0.8,
    "fence": 0.6,
    "car": 1.8,
    "person": 0.6,
    "rider": 0.1,
    "bicycle": 0.05,
    "clutter": 0.6,
}
RARE = ("rider", "person", "traffic sign", "fence")

# The set's classes are coarser than what a scene is made of; the rest is void.
CLASS_OF = {
    "sidewalk": "pavement",
    "vegetation": "tree",
    "terrain": "tree",
    "traffic sign": "sign",
    "traffic light": "sign",
    "person": "pedestrian",
    "rider": "bicyclist",
    "bicycle": "bicyclist",
    "motorcycle": "bicyclist",
    "wall": "building",
}

# First frame and step between frames of the drives that train/ holds, and of val/: 62, 101 and 204 frames, and 101.
DRIVES = {"0001TP_{:06d}": (6690, 30, 62), "0006R0_f{:05d}": (930, 30, 101), "0016E5_{:05d}": (390, 30, 204)}
VAL = ("0016E5_{:05d}", 7959, 2)


def write_set(root: Path, seed: int, size: int, classes: list[str]) -> None:
    """Write train/, trainannot/, val/, valannot/: JPEG frames and index PNGs of mode L, void 11.

    Args:
        size: about 96 x size frames to train and 32 x size in val.
        classes: the class names in the order of their indices.
    """
    table = np.array([_index(part, classes) for part in PARTS], np.uint8)
    total = sum(count for *_, count in DRIVES.values())
    names = {
        "train": [
            name.format(first + step * n)
            for name, (first, step, count) in DRIVES.items()
            for n in range(round(96 * size * count / total))
        ],
        "val": [VAL[0].format(VAL[1] + VAL[2] * n) for n in range(32 * size)],
    }
    for number, split in enumerate(names):
        for folder in (root / split, root / f"{split}annot"):
            folder.mkdir(parents=True, exist_ok=True)
        for n, name in enumerate(names[split]):
            photo, parts = street(np.random.default_rng([seed, number, n]), SHAPE, THINGS, sure=RARE[n % len(RARE)])
            Image.fromarray(photo).save(root / split / f"{name}.jpg", quality=92)
            Image.fromarray(table[parts]).save(root / f"{split}annot" / f"{name}.png")


def _index(part: str, classes: list[str]) -> int:
    name = CLASS_OF.get(part, part)
    return classes.index(name) if name in classes else len(classes)
