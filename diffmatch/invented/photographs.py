"""An invented set of photographs and masks in plain folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from diffmatch.invented import painting

SIZES = {"train": 64, "val": 8, "test": 24}


def write_folders(root: Path, values: Sequence[int], seed: int = 0, size: int = 1) -> None:
    """Write images/{train,val,test}/ and masks/{train,val,test}/, PNG files of the same names.

    Args:
        values: the number of each class in the masks; class 0 is the backdrop, later classes are smaller.
        size: multiplies the 64 pictures of train, the 8 of val and the 24 of test.
    """
    parts = [part for part, count in SIZES.items() for _ in range(count * size)]
    for number, part in enumerate(parts):
        rng = np.random.default_rng([seed, number])
        shape = (80, int(rng.integers(80, 112)))
        image, mask = painting.surroundings(rng, shape), np.full(shape, values[0], np.uint8)
        for c in range(1, len(values)):
            if rng.random() < 0.8:
                row, column = rng.uniform(0.2, 0.8, 2) * shape
                painting.add_object(rng, image, mask, c, (row, column), max(3.0, 28 * 0.5**c), values[c])
        for folder, pixels in (("images", painting.photograph(rng, image)), ("masks", mask)):
            (root / folder / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / folder / part / f"{part}_{number:04d}.png")
