"""Invented raw scenes in the layout of WHU-CD, sparse and of any size, for trying windowed reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

from diffmatch.invented.aerial import pair

BLOCK = 256
"""Of a scene's tiles, as they lie in the file."""


def write_scene(root: Path, height: int, width: int, seed: int = 0, side: int = 768) -> tuple[int, int]:
    """Raw scenes (`before/`, `after/`, `change label/`), empty but for a square of about `side` pixels with buildings.

    The files are tiled, compressed and sparse: empty blocks take no room, so that 32507 x 15354 is written in a moment.
    The label is boolean, one bit a pixel, as the real one.

    Returns:
        (top, left) of the square.
    """
    files = {"before/before.tif": 3, "after/after.tif": 3, "change label/change_label.tif": 1}
    top, left = (max(0, (length // 2 - side // 2) // BLOCK * BLOCK) for length in (height, width))
    common = {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "dtype": "uint8",
        "crs": "EPSG:2193",
        "transform": from_origin(1_570_000, 5_180_000, 0.2, 0.2),
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "compress": "deflate",
        "sparse_ok": True,
        "bigtiff": "if_safer",
    }
    blocks = [
        (y, x) for y in range(top, min(top + side, height), BLOCK) for x in range(left, min(left + side, width), BLOCK)
    ]
    drawn = {place: pair(np.random.default_rng([seed, *place]), (BLOCK, BLOCK)) for place in blocks}
    for which, (name, bands) in enumerate(files.items()):
        (root / name).parent.mkdir(parents=True)
        with rasterio.open(root / name, "w", count=bands, **common, **({"nbits": 1} if bands == 1 else {})) as raster:
            for (y, x), pictures in drawn.items():
                pixels = np.atleast_3d(pictures[which]).astype(np.uint8)[: height - y, : width - x]
                raster.write(pixels.transpose(2, 0, 1), window=Window(x, y, pixels.shape[1], pixels.shape[0]))
    return top, left
