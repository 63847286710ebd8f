"""Where a picture lies on Earth, and GeoTIFF files that lie there too. rasterio is optional and imported late."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffmatch.model.blocks import rows
from diffmatch.model.look import Look
from diffmatch.shared.files import beside

Place = dict[str, Any]
"""Arguments of `rasterio.open` that say where a new file lies."""

CACHE = 2**26
"""Bytes that GDAL keeps of the blocks of a file."""
Maps = Sequence[NDArray[np.float32]] | NDArray[np.float32]
"""Arrays of one shape, or an array of them."""


def place(like: Path) -> Place | None:
    """Where a picture lies on Earth, by what GDAL reads from the file and from the files beside it.

    A transform (of the file's own, or of a world file) with its coordinate system is preferred. Else ground control
    points are taken, and rational polynomial coefficients in any case. None stands for a picture without any of these,
    for a file that GDAL does not read, and for an environment without rasterio.
    """
    try:
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning, RasterioError
    except ImportError:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(like) as file:
                points, points_crs = file.gcps
                found: Place = {"rpcs": file.rpcs} if file.rpcs else {}
                if not file.transform.is_identity:
                    found |= {"transform": file.transform, "crs": file.crs or _crs_beside(like)}
                elif points:
                    found |= {"gcps": points, "crs": points_crs}
                elif file.crs:
                    found |= {"transform": file.transform, "crs": file.crs}
    except RasterioError:
        return None
    return found or None


def _crs_beside(like: Path) -> Any:
    """The coordinate system of a .prj file beside a picture with a world file, which GDAL leaves to its caller."""
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        return CRS.from_wkt(like.with_suffix(".prj").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, CRSError):
        return None


def write_labels(labels: NDArray[np.uint8], target: Path, where: Place, look: Look) -> None:
    """A GeoTIFF of class numbers; one of 8 bit shows the classes' colours.

    Args:
        labels: class indices, (H, W).

    Raises:
        OSError: it could not be written whole.
    """
    stored = look.stored

    def color(file: Any) -> None:
        if stored.dtype == np.uint8:
            file.write_colormap(1, {value: (*color, 255) for value, color in look.by_value.items()})

    _write([labels], lambda part: stored[part], color, target, where, dtype=stored.dtype)


def write_maps(maps: Maps, names: Sequence[str], target: Path, where: Place) -> None:
    """A float32 GeoTIFF with a band for each map (H, W), described by its name.

    Raises:
        OSError: it could not be written whole.
    """

    def describe(file: Any) -> None:
        for band, name in enumerate(names, 1):
            file.set_band_description(band, name)

    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256, "interleave": "band", "predictor": 3}
    _write(maps, lambda part: part, describe, target, where, dtype=np.float32, **tiles)


def _write(
    bands: Maps | Sequence[NDArray[np.uint8]],
    stored: Callable[[NDArray[Any]], NDArray[Any]],
    finish: Callable[[Any], None],
    target: Path,
    where: Place,
    **form: Any,
) -> None:
    """A GeoTIFF, by blocks of rows. It is read again, because GDAL tells no error of the last bytes that it writes.

    Args:
        stored: takes a part of a band to the values in the file.
        finish: writes what else the opened file holds.
    """
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    height, width = bands[0].shape
    form |= {"driver": "GTiff", "compress": "deflate", "bigtiff": "if_safer"}
    form |= {"count": len(bands), "height": height, "width": width}
    blocks = [(band, part) for band in range(len(bands)) for part in rows(height, width)]
    incomplete = OSError(errno.EIO, "could not be written whole; is the disk full?", str(target))
    with beside(target) as new, warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=CACHE):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # of a file with a coordinate system alone
        try:
            with rasterio.open(new, "w", **form, **where) as file:
                for band, part in blocks:
                    file.write(stored(bands[band][part]), band + 1, window=_window(part, width))
                finish(file)
            with rasterio.open(new) as file:
                for band, part in blocks:
                    again = file.read(band + 1, window=_window(part, width))
                    if not np.array_equal(again, stored(bands[band][part]), equal_nan=True):
                        raise incomplete
        except RasterioError as error:
            raise incomplete from error


def _window(part: slice, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    return (part.start, part.stop), (0, width)
