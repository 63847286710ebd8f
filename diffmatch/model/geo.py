"""Where a picture lies on Earth, and GeoTIFF files that lie there too. rasterio is optional and imported late."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffmatch.model.blocks import rows
from diffmatch.model.look import Look
from diffmatch.shared.files import beside

Place = dict[str, Any]
"""Arguments of `rasterio.open` that say where a new file lies."""

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
    """
    stored = look.stored
    with _new(target, where, labels.shape, 1, stored.dtype) as file:
        for part in rows(*labels.shape):
            file.write(stored[labels[part]], 1, window=_window(part, labels))
        if stored.dtype == np.uint8:
            file.write_colormap(1, {value: (*color, 255) for value, color in look.by_value.items()})


def write_maps(maps: Maps, names: Sequence[str], target: Path, where: Place) -> None:
    """A float32 GeoTIFF with a band for each map (H, W), described by its name."""
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256}
    with _new(target, where, maps[0].shape, len(maps), np.float32, interleave="band", predictor=3, **tiles) as file:
        for band, (name, values) in enumerate(zip(names, maps, strict=True), 1):
            file.set_band_description(band, name)
            for part in rows(*values.shape):
                file.write(values[part], band, window=_window(part, values))


@contextmanager
def _new(target: Path, where: Place, shape: tuple[int, ...], count: int, dtype: Any, **form: Any) -> Iterator[Any]:
    """An opened GeoTIFF of (H, W) that takes the target's place when the block is done."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    form |= {"driver": "GTiff", "compress": "deflate", "bigtiff": "if_safer"}
    form |= {"count": count, "height": shape[0], "width": shape[1], "dtype": dtype}
    with beside(target) as new, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # of a file with a coordinate system alone
        with rasterio.open(new, "w", **form, **where) as file:
            yield file


def _window(part: slice, values: NDArray[Any]) -> tuple[tuple[int, int], tuple[int, int]]:
    return (part.start, part.stop), (0, values.shape[1])
