"""Whether two GeoTIFFs show one place, by their headers."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from diffmatch.domain import InputError
from diffmatch.readers.image import is_tiff
from diffmatch.readers.pictures import raster

APART = 0.5
"""Pixels by which two grids may differ at a corner: two conventions of where a pixel lies differ by as much."""


def same_place(path: Path, other: Path) -> None:
    """Two files of one size lie in one place, as far as both say where they lie.

    Files that are no TIFF, or that have no coordinates, say nothing; nor does anything without rasterio.

    Raises:
        InputError: the corners differ by more than half a pixel, or the coordinate systems do; both files are named.
    """
    if not (is_tiff(path) and is_tiff(other)) or find_spec("rasterio") is None:
        return
    with raster(path) as one, raster(other) as two:
        if one.transform.is_identity or two.transform.is_identity:
            return
        if one.crs and two.crs and one.crs != two.crs:
            raise InputError(
                f"{path}: its coordinates are in {_short(one.crs)}, those of {other} in {_short(two.crs)}; bring both "
                "to one grid (gdalwarp)"
            )
        apart = _apart(one, two)
    if not apart <= APART + 1e-3:
        raise InputError(
            f"{path}: lies elsewhere than {other} (by up to {apart:.3g} pixels, by their coordinates); take the file "
            "that belongs to it, or bring both to one grid (gdalwarp)"
        )


def _apart(one: Any, two: Any) -> float:
    """Greatest distance of two rasters' corners along an axis, in pixels of the second; infinite where it has none."""
    corners = np.array([(x, y, 1.0) for x in (0, one.width) for y in (0, one.height)]).T
    here, there = (np.reshape(raster.transform, (3, 3)) for raster in (one, two))
    try:
        return float(np.abs(np.linalg.solve(there, here @ corners) - corners).max())
    except np.linalg.LinAlgError:
        return float("inf")


def _short(crs: Any) -> str:
    return str(crs.to_string()[:60])
