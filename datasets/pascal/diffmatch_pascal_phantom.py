"""Invented photographs in PASCAL's layout, for runs without the data.

A scene holds objects of some of the 20 classes, larger ones behind smaller ones, each with a border of void pixels.
From the first class of `ORDER` to the last, objects get rarer and smaller. Half of all pixels are background; the
rarest classes have as many as the quick preset needs to learn a good part of them in its few steps, and single objects
go down to a dozen pixels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffmatch.invented import painting

LONG = 96
"""The longer side of a scene; the real photographs' is 500."""

ORDER = (15, 8, 12, 6, 19, 18, 7, 11, 14, 13, 9, 20, 1, 10, 17, 3, 5, 4, 16, 2)
"""Class indices from head to tail, in about the real order: person, cat, dog, ..., potted plant, bicycle."""
SHARE = np.geomspace(0.40, 0.34, len(ORDER))
"""Of the scenes that hold a class, in this order."""
RADIUS = np.geomspace(0.18, 0.12, len(ORDER)) * LONG
"""Median, in pixels."""
NOISE = 0.08
"""Per pixel and channel: more than neighbouring classes' colours lie apart, so that a pixel alone says little."""
PRIMES = np.array((2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71))


def present(seed: int, number: int) -> list[int]:
    """Places in `ORDER` of the classes that scene `number` holds, one at least.

    Multiples of an irrational number fill the unit interval evenly: every stretch of consecutive scenes, and so every
    part of a split, holds each class in about its share.
    """
    offsets = np.random.default_rng([seed, 0]).random(len(ORDER))
    chosen = np.flatnonzero((offsets + number * np.sqrt(PRIMES)) % 1 < SHARE)
    return [int(place) for place in chosen] or [0]


def scene(seed: int, number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Photograph (H, W, 3) and mask (H, W), 0..20 and 255. It is the same however many scenes a set has."""
    rng = np.random.default_rng([seed, 1, number])
    short = int(rng.integers(LONG * 2 // 3, LONG * 7 // 8))
    shape = (LONG, short) if rng.random() < 0.3 else (short, LONG)
    image, mask = painting.surroundings(rng, shape), np.zeros(shape, np.uint8)
    objects = [(RADIUS[place] * rng.lognormal(0, 0.35), ORDER[place]) for place in present(seed, number)]
    for radius, klass in sorted(objects, reverse=True):
        row, column = rng.uniform(0.1, 0.9, 2) * shape
        painting.add_object(rng, image, mask, klass, (row, column), radius, value=klass, rim=255)
    return painting.photograph(rng, image, NOISE), mask


def write_scene(seed: int, number: int, photograph: Path, mask: Path, palette: bytes | None) -> None:
    """Write one scene as JPEG and PNG: the mask of mode P with the palette (768 bytes), without one of mode L."""
    pixels, labels = scene(seed, number)
    Image.fromarray(pixels).save(photograph, quality=95)
    indices = Image.fromarray(labels)
    if palette:
        indices.putpalette(palette)  # mode L becomes P, the indices stay
    indices.save(mask)
