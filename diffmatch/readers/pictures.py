"""Pictures of any number of channels, 8 or 16 bit or float: through Pillow, some TIFF files through rasterio.

Pillow opens some TIFF files that it does not read whole: it leaves out channels, or halves 16 bit colour. Such files go
to rasterio too.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, ImageMode, UnidentifiedImageError
from PIL import Image as Pillow

from diffmatch.domain import Image, InputError, Scene
from diffmatch.readers.image import check_fits, check_upright, is_tiff, opened
from diffmatch.shared.numbers import WHOLE

GRAY, ALPHA = ("1", "LA", "La"), ("RGBA", "LA")
AS_STORED = ("L", "RGB", "F", "I;16", "I;16B", "I;16L")
SAMPLE_FORMAT, NODATA = 339, 42113
"""TIFF tags; the second is GDAL's."""
SIGNED = 2
"""Of SAMPLE_FORMAT."""
BITS, CHANNELS, KIND = ExifTags.Base.BitsPerSample, ExifTags.Base.SamplesPerPixel, ExifTags.Base.NewSubfileType
"""TIFF tags."""
SMALLER, TRANSPARENCY = 1, 4
"""Bits of KIND: an overview, or a mask of the page before."""
WHITES = tuple((1 << bits) - 1 for bits in (8, 10, 12, 14))
"""Of cameras whose values are stored in 16 bits without filling them."""
MOST_CHANNELS = 2048
LARGE = 4096**2
"""Pixels above which a TIFF is read by windows where that can be."""


@dataclass(frozen=True)
class Header:
    """What a picture says of itself before its pixels are read."""

    channels: int
    height: int
    width: int


def header(path: Path) -> Header:
    """Channels as stored (of `picture` without `rgb`), and size.

    Raises:
        InputError: unreadable, turned by an EXIF flag, or several pages of one size.
    """
    if wants_raster(path):
        with raster(path) as file:
            return Header(file.count, file.height, file.width)
    with opened(path, header=True) as image:
        check_upright(image, path)
        size = Header(len(ImageMode.getmode(_mode(path, image)).bands), image.height, image.width)
        check_one_page(path, image)
    return size


def brightest(path: Path) -> int | None:
    """The greatest value of a picture of 16 bit; None for other pictures, whose pixels are not read.

    Raises:
        InputError: unreadable.
    """
    if wants_raster(path):
        with raster(path) as file:
            return int(file.read().max()) if set(file.dtypes) == {"uint16"} else None
    with opened(path) as image:
        return int(np.asarray(image).max()) if image.mode.startswith("I") else None


def white_of(greatest: int) -> int | None:
    """The white of 16 bit files whose greatest value is this: that of 8, 10, 12 or 14 bits; None if it needs all 16."""
    return next((white for white in WHITES if greatest <= white), None)


def picture(path: Path, rgb: bool = False, white: int | None = None) -> Image:
    """(channels, H, W) float32 in [0, 1]: integers over the range of their type, floats as they are.

    Palette, CMYK and other colour files become RGB. The transparency of a PNG is left out; a TIFF's is a channel like
    any other.

    Args:
        rgb: a photograph is wanted: grey is repeated, and a TIFF's transparency is left out too.
        white: as `unit` has it.

    Raises:
        InputError: unreadable, or as `unit`.
    """
    if wants_raster(path):
        with raster(path) as file:
            check_fits(file.width, file.height, file.count, path)
            if file.colorinterp[0].name == "palette":
                raise InputError(f"{path}: a palette of more than 8 bit, or a damaged one; save the picture in RGB")
            return unit(filled(file.read(_bands(file, rgb)), file.nodata, path), path, white)
    with opened(path) as image:
        mode = _mode(path, image, rgb)
        stored = np.asarray(image if image.mode == mode else image.convert(mode))
        stored = stored.view(np.int8) if mode == "L" and signed(image) else stored
        stored = stored[None] if stored.ndim == 2 else stored.transpose(2, 0, 1)
        nodata = _nodata(image)
    pixels = unit(filled(stored, nodata, path), path, white)
    return pixels.repeat(3, axis=0) if rgb and len(pixels) == 1 else pixels


def scene(path: Path, rgb: bool = False, white: int | None = None) -> Scene | None:
    """A large TIFF by windows, with the values of `picture`.

    None for other files, for what Pillow converts (palettes, CMYK, white as zero, packed bits), and without rasterio.

    Raises:
        InputError: unreadable; of a window, values as `picture` refuses them.
    """
    if not is_tiff(path) or find_spec("rasterio") is None:
        return None
    with raster(path) as file:
        bands, height, width = _bands(file, rgb), file.height, file.width
        structure = file.tags(ns="IMAGE_STRUCTURE")
        converted = (
            file.colorinterp[0].name == "palette"
            or structure.get("SOURCE_COLOR_SPACE") == "CMYK"
            or "MINISWHITE" in structure
        )
        if height * width <= LARGE or converted or "NBITS" in file.tags(1, ns="IMAGE_STRUCTURE") or file.subdatasets:
            return None

    def read(top: int, left: int, height: int, width: int) -> Image:
        with raster(path) as file:
            pixels = file.read(bands, window=((top, top + height), (left, left + width)))
            return unit(filled(pixels, file.nodata, path), path, white)[None]

    return Scene((1, len(bands), height, width), read)


def holes(path: Path) -> NDArray[np.bool_] | None:
    """(H, W), true where a float TIFF has no data in some channel by its own word; None where it names no such value.

    Raises:
        InputError: unreadable.
    """
    if not is_tiff(path):
        return None
    if wants_raster(path):
        with raster(path) as file:
            return None if file.nodata is None else np.asarray(_missing(file.read(), file.nodata).any(axis=0))
    with opened(path) as image:
        nodata = _nodata(image)
        return None if nodata is None or image.mode != "F" else _missing(np.asarray(image), nodata)


def filled(stored: NDArray[Any], nodata: float | None, where: str | Path) -> NDArray[Any]:
    """Float pixels, (channels, H, W), with 0 where the file says that it has no data. Integers stay as they are.

    Args:
        nodata: the file's value of no data. One within [0, 1] is a value like any other.
        where: the file, for the message.

    Raises:
        InputError: other pixels are not finite.
    """
    if stored.dtype.kind != "f":
        return stored
    if nodata is not None and (missing := _missing(stored, nodata)).any():
        stored = np.where(missing, stored.dtype.type(0), stored)
    if odd := int((~np.isfinite(stored)).any(axis=0).sum()):
        raise InputError(
            f"{where}: not finite on {odd} pixels of {stored[0].size}; fill them, or name their value as the file's "
            "no-data value (gdal_edit.py -a_nodata nan)"
        )
    return stored


def _missing(stored: NDArray[Any], nodata: float) -> NDArray[np.bool_]:
    if stored.dtype.kind != "f" or 0 <= nodata <= 1:
        return np.zeros(stored.shape, bool)
    return np.asarray(np.isnan(stored) if np.isnan(nodata) else stored == stored.dtype.type(nodata))


def signed(image: Pillow.Image) -> bool:
    """Whether a TIFF that Pillow has opened stores signed integers; those of 8 bit come as unsigned ones."""
    return bool(getattr(image, "tag_v2", {}).get(SAMPLE_FORMAT, (1,))[0] == SIGNED)


def _nodata(image: Pillow.Image) -> float | None:
    """What a TIFF that Pillow has opened calls no data."""
    return number(getattr(image, "tag_v2", {}).get(NODATA))


def number(text: Any) -> float | None:
    """A tag's value as a number; None where there is none, or it is not a number."""
    try:
        return None if text is None else float(str(text).strip("\0 "))
    except ValueError:
        return None


def unit(stored: NDArray[Any], where: str | Path, white: int | None = None) -> Image:
    """Values as stored -> [0, 1]: true is white, unsigned integers are over the range of their type.

    Args:
        where: the file, for the message.
        white: what becomes 1 of 16 bit values; None is the greatest of 16 bits.

    Raises:
        InputError: signed integers, floats that are outside [0, 1] by more than a rounding, or 16 bit values that are
            above twice the white.
    """
    if white is not None and stored.dtype == np.uint16:
        if stored.size and stored.max() > 2 * white:
            raise InputError(
                f"{where}: values up to {stored.max()}, but the white of these pictures is {white}; give it their range"
            )
        return np.ascontiguousarray(stored, np.float32) / np.float32(white)
    if stored.dtype.kind == "b":
        return np.ascontiguousarray(stored, np.float32)
    if stored.dtype.kind == "u":
        return np.ascontiguousarray(stored, np.float32) / np.float32(np.iinfo(stored.dtype).max)
    if stored.dtype.kind != "f":
        raise InputError(
            f"{where}: {stored.dtype} values, whose white is unknown; make them 8 or 16 bit unsigned or float in [0, 1]"
        )
    low, high = float(stored.min()), float(stored.max())
    if not (np.isfinite(stored).all() and low >= -WHOLE and high <= 1 + WHOLE):
        raise InputError(
            f"{where}: float values from {low:.9g} to {high:.9g}; divide them by the value of white, to [0, 1]"
        )
    pixels = np.ascontiguousarray(stored, np.float32)
    return pixels if low >= 0 and high <= 1 else pixels.clip(0, 1)


def _bands(file: Any, rgb: bool) -> list[int]:
    """The numbers of an opened raster's bands that are read."""
    bands: list[int] = list(file.indexes)
    if rgb and len(bands) in (2, 4) and file.colorinterp[-1].name == "alpha":
        bands.pop()
    return bands * 3 if rgb and len(bands) == 1 else bands


def _mode(path: Path, image: Pillow.Image, rgb: bool = False) -> str:
    """Pillow's mode in which the file is taken."""
    if rgb and not image.mode.startswith(("I", "F")):
        return "RGB"
    if image.mode in AS_STORED or (image.mode in ALPHA and image.format == "TIFF"):
        return image.mode
    if image.mode == "I":  # 16 bit PNG in older Pillows
        return "I;16"
    return "L" if image.mode in GRAY else "RGB"


def wants_raster(path: Path) -> bool:
    if not is_tiff(path):
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Pillow.open(path) as image:
                bands, tags = image.getbands(), getattr(image, "tag_v2", None)
                if tags is None:  # a PNG or JPEG under a TIFF's name
                    return False
                swapped = tags.prefix == b"MM" and tags.get(ExifTags.Base.Compression, 1) != 1
                if image.mode in ("I", "F") and swapped:  # Pillow swaps bytes that libtiff has swapped
                    return True
                known = image.mode in (*AS_STORED, *ALPHA, "1", "P", "CMYK", "YCbCr", "LAB")
                return not (
                    known
                    and len(bands) == tags.get(CHANNELS, 1)
                    and (len(bands) == 1 or max(tags.get(BITS, (1,))) <= 8)
                )
    except UnidentifiedImageError:
        return True
    except (OSError, SyntaxError, ValueError, Pillow.DecompressionBombError):
        return False  # `opened` tells


def check_one_page(path: Path, image: Pillow.Image) -> None:
    """Overviews follow the first page of many GeoTIFFs.

    Pages of the same size are channels or pictures that would be lost.
    """
    if image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
        size = image.size
        image.seek(1)
        beside = getattr(image, "tag_v2", {}).get(KIND, 0) & (SMALLER | TRANSPARENCY)
        same = image.size == size and not beside
        image.seek(0)
        if same:
            raise InputError(
                f"{path}: holds several pages; save each picture as a file of its own, or the pages as channels of one"
            )


@contextmanager
def raster(path: Path) -> Iterator[Any]:
    """An opened file of rasterio's, which is imported only here.

    Raises:
        InputError: rasterio is not installed, or cannot read the file either.
    """
    try:
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning
    except ImportError as error:
        raise InputError(
            f"{path}: Pillow does not read this TIFF whole; unless it is damaged, rasterio does: pip install rasterio"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as file:
                if file.count > MOST_CHANNELS:
                    raise InputError(f"{path}: {file.count} channels; more than any camera has, copy it again")
                yield file
    except rasterio.errors.RasterioError as error:
        raise InputError(
            f"{path}: cannot be read as an image ({type(error).__name__}: {str(error)[:80]}); copy it again"
        ) from error
