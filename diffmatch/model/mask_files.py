"""Mask files: NIfTI for NIfTI, GeoTIFF for a TIFF that lies somewhere on Earth, else PNG in the classes' colours."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from diffmatch.domain import Mask
from diffmatch.shared.files import write_atomically

Color = tuple[int, int, int]
NIFTI = (".nii", ".nii.gz")
TIFF = (".tif", ".tiff")


def write_mask(labels: Mask, like: Path, target: Path, colors: Mapping[int, Color]) -> Path:
    """Write predicted classes on the grid of the file that they were predicted from.

    Args:
        labels: class indices, (H, W) or a volume, along the axes of `like`.
        like: the file whose place in space is taken over.
        target: the new file's path without ending.
        colors: by the number that is written for a class, in the classes' order; 8 bit PNG and GeoTIFF show them.

    Returns:
        The file's path.
    """
    stored = np.array(list(colors), np.uint8 if max(colors) <= 255 else np.uint16)[labels]
    if like.name.lower().endswith(NIFTI):
        return _nifti(stored, like, target.with_name(f"{target.name}.nii.gz"))
    if like.suffix.lower() in TIFF and (place := _place(like)):
        return _geotiff(stored, place, target.with_name(f"{target.name}.tif"), colors)
    return _png(stored, target.with_name(f"{target.name}.png"), colors)


def _nifti(values: NDArray[Any], like: Path, target: Path) -> Path:
    import nibabel as nib

    source = nib.load(like)
    header = source.header.copy()
    header.set_data_dtype(values.dtype)
    image = nib.Nifti1Image(values, source.affine, header)
    image.header["cal_min"] = image.header["cal_max"] = 0  # of the image's intensities
    target.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, target)
    return target


def _place(like: Path) -> dict[str, Any] | None:
    """Coordinate system and transform of a TIFF file, None where it has none or where rasterio is not installed."""
    try:
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning, RasterioError
    except ImportError:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(like) as file:
                return (
                    {"crs": file.crs, "transform": file.transform}
                    if file.crs or not file.transform.is_identity
                    else None
                )
    except RasterioError:
        return None


def _geotiff(values: NDArray[Any], place: dict[str, Any], target: Path, colors: Mapping[int, Color]) -> Path:
    import rasterio

    target.parent.mkdir(parents=True, exist_ok=True)
    height, width = values.shape
    form = {
        "driver": "GTiff",
        "count": 1,
        "height": height,
        "width": width,
        "dtype": values.dtype,
        "compress": "deflate",
    }
    with rasterio.open(target, "w", **form, **place) as file:
        file.write(values, 1)
        if values.dtype == np.uint8:
            file.write_colormap(1, {value: (*color, 255) for value, color in colors.items()})
    return target


def _png(values: NDArray[Any], target: Path, colors: Mapping[int, Color]) -> Path:
    picture = Pillow.fromarray(values)
    if values.dtype == np.uint8:
        palette = np.zeros((256, 3), np.uint8)
        for value, color in colors.items():
            palette[value] = color
        picture.putpalette(palette.tobytes())
    write_atomically(target, lambda handle: picture.save(handle, "PNG"))
    return target
