"""A slice of a volume, or the whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from diffmatch.readers.volumes import Source, sample

SOURCE = Source("case", Path("image"), Path("mask"), spacing=(3.0, 1.0, 1.0))


def test_the_whole_keeps_its_spacing_and_a_slice_has_none() -> None:
    pixels = np.arange(24, dtype=np.float16).reshape(1, 2, 3, 4)
    labels = (pixels[0] > 11).astype(np.uint8)
    whole, plane = sample(SOURCE, pixels, labels), sample(replace(SOURCE, plane=1), pixels, labels)
    assert whole.image.shape == (1, 1, 2, 3, 4) and whole.image.dtype == np.float32
    assert whole.spacing == (3.0, 1.0, 1.0) and plane.spacing is None
    assert plane.mask is not None and whole.mask is not None and whole.mask.shape == (2, 3, 4)
    assert np.array_equal(plane.image, whole.image[:, :, 1]) and np.array_equal(plane.mask, labels[1])
    assert sample(SOURCE, pixels, None).mask is None


def test_pixels_are_a_copy() -> None:
    """A cached array is mapped from disk, read-only; training changes views of a sample."""
    pixels = np.zeros((1, 2, 3, 4), np.float32)
    sample(SOURCE, pixels, None).image[:] = 1
    assert not pixels.any()
