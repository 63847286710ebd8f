"""The raw WHU-CD scenes.

Two aerial photographs and a change label, one GeoTIFF each, read by windows and never whole.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from diffmatch.domain import InputError
from diffmatch.readers.change import PATCH
from diffmatch.readers.masks import check_raster
from diffmatch.readers.pairs import Pair


def find(root: Path) -> Pair | None:
    """The three scenes below a root, None if the first is not there."""
    pair = Pair(
        root / "before" / "before.tif", root / "after" / "after.tif", root / "change label" / "change_label.tif"
    )
    return pair if pair.before.is_file() else None


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A raster; errors inside the block become an `InputError` that names the file.

    Raises:
        InputError: missing, cut off or no raster.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; before, after and change label are needed, copy the scenes again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as raster:
                yield raster
    except RasterioError as error:
        raise InputError(f"{path}: not a readable GeoTIFF ({type(error).__name__}); copy it again") from error


def size(*paths: Path) -> tuple[int, int]:
    """(height, width) of a scene, from the headers of its files.

    Raises:
        InputError: the sizes differ, or the scene is smaller than one patch.
    """
    sizes = {}
    for path in paths:
        with opened(path) as raster:
            sizes[path] = (raster.height, raster.width)
    height, width = sizes[paths[0]]
    for path, other in sizes.items():
        if other != (height, width):
            raise InputError(
                f"{path}: {other[1]} x {other[0]} pixels, but {paths[0].name} has {width} x {height}; they must cover "
                "one area"
            )
    if min(height, width) < PATCH:
        raise InputError(f"{paths[0]}: {width} x {height} pixels hold no patch of {PATCH} x {PATCH}")
    return height, width


def grid(height: int, width: int) -> list[tuple[int, int]]:
    """(top, left) of the whole patches, row by row.

    What is left over at the right and at the bottom belongs to none.
    """
    return [(row * PATCH, column * PATCH) for row in range(height // PATCH) for column in range(width // PATCH)]


def window(path: Path, mask: bool, top: int, left: int, height: int = PATCH, width: int = PATCH) -> NDArray[Any]:
    """A part of a scene, (height, width, 3) uint8 colours or (height, width) raw label values.

    Raises:
        InputError: unreadable, or not the bands that a photograph or a label has.
    """
    with opened(path) as raster:
        if raster.count < (1 if mask else 3) or (mask and raster.count > 1) or raster.dtypes[0] != "uint8":
            kind = "one band of 0/1 or 0/255" if mask else "red, green and blue"
            raise InputError(
                f"{path}: {raster.count} bands of {raster.dtypes[0]}, expected {kind} as uint8; take the original file"
            )
        if mask:
            check_raster(raster, path)
        pixels = raster.read(1 if mask else (1, 2, 3), window=Window(left, top, width, height))
    return np.asarray(pixels) if mask else np.ascontiguousarray(pixels.transpose(1, 2, 0))
