"""Masks of class numbers: what a picture file stores decides what its values mean, not its ending.

Whole numbers of any width and sign, with floats that are whole numbers, are class numbers. Lossy coding, colours and
values that programs read in two ways are refused. The palettes of a set are held against its colours and each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags
from PIL import Image as Pillow

from diffmatch.domain import VOID, InputError, Mask, map_labels
from diffmatch.readers import image, pictures
from diffmatch.shared.numbers import whole

Colour = tuple[int, int, int]

INDEXED = ("P", "L", "1", "I", "I;16", "I;16B", "I;16L", "F")
LOSSY = ("JPEG", "MPO", "JPEG2000", "WEBP", "AVIF")
LOSSLESS_TIFF = (1, 2, 3, 4, 5, 8, 32773, 32946, 34925, 50000)
"""Values of the TIFF tag: none, CCITT, LZW, deflate, PackBits, LZMA, ZSTD."""
LOSSLESS_RASTER = ("", "LZW", "DEFLATE", "PACKBITS", "LZMA", "ZSTD", "CCITTRLE", "CCITTFAX3", "CCITTFAX4")
STEP = {"2": 85, "4": 17}
"""What Pillow multiplies grey of so many bits by."""

CONVERT = (
    "take the index masks of the dataset (mode P or L, one class number per pixel), or convert the colours: "
    "index = numpy.select([(rgb == colour).all(-1) for colour in colours], range(len(colours)), 255)"
)


@dataclass(frozen=True)
class IndexMask:
    """A mask as its file stores it.

    Attributes:
        path: the file.
        values: (H, W); integers, or floats of which some are fractions or not finite. A palette is not looked through,
            one bit is 0 and 1.
        nodata: the value that the file itself calls no data.
        palette: the colours of the values that occur; empty without a palette, or where it tells no values apart.
    """

    path: Path
    values: NDArray[Any]
    nodata: float | None = None
    palette: Mapping[int, Colour] = field(default_factory=dict)

    def classes(self, mapping: Mapping[int, int]) -> Mask:
        """Through the map of a plugin. What the file calls no data is void, unless the map knows the value.

        Raises:
            InputError: a value that is not in the map.
        """
        if self.nodata is None or self.nodata in mapping:
            return map_labels(self.values, mapping, self.path)
        holes = np.isnan(self.values) if np.isnan(self.nodata) else self.values == self.nodata
        mask = map_labels(np.where(holes, next(iter(mapping)), self.values), mapping, self.path)
        mask[holes] = VOID
        return mask


class Palettes:
    """Whether the palettes of one set's masks agree. Each loading process sees the files that it reads.

    Args:
        colours: of the values in the masks, where the set has a table of them.
    """

    def __init__(self, colours: Mapping[int, Colour] | None = None) -> None:
        self.colours = dict(colours or {})
        self.seen: dict[int, tuple[Colour, Path]] = {}

    def check(self, mask: IndexMask) -> None:
        """Hold a mask's palette against the table and against the masks before it.

        Raises:
            InputError: a value in the colour of another class, or in another colour than in a mask before.
        """
        for value, colour in mask.palette.items():
            owners = [other for other, own in self.colours.items() if own == colour]
            if owners and value not in owners:
                raise InputError(
                    f"{mask.path}: its palette shows the value {value} in the colour {_hex(colour)}, which is that of "
                    f"{owners[0]} in the class table; {CONVERT}"
                )
            if value == VOID:
                continue
            other, first = self.seen.setdefault(value, (colour, mask.path))
            if other != colour:
                raise InputError(
                    f"{mask.path}: its palette shows the value {value} as {_hex(colour)}, that of {first} as "
                    f"{_hex(other)}; if the values are the same classes all the same, save the masks without palettes "
                    f"(mode L), else {CONVERT}"
                )


def read(path: Path) -> IndexMask:
    """A mask of class numbers from a PNG, TIFF, BMP or other picture file.

    Raises:
        InputError: unreadable, turned by an EXIF flag, several pages, colours where class numbers should be, lossy
            coding, or white stored as zero.
    """
    if pictures.wants_raster(path):
        with pictures.raster(path) as file:
            return _of_raster(file, path)
    with image.opened(path) as picture:
        check_lossless(picture, path)
        if picture.mode not in INDEXED:
            raise InputError(f"{path}: a mask of mode {picture.mode} holds colours, not class numbers; {CONVERT}")
        pictures.check_one_page(path, picture)
        if picture.format != "TIFF" and getattr(picture, "n_frames", 1) > 1:
            raise InputError(f"{path}: an animation; save one picture as a mask")
        values = _values(picture, path)
        image.check_upright(picture, path)
        tags = getattr(picture, "tag_v2", {})
        return IndexMask(path, whole(values), pictures.number(tags.get(pictures.NODATA)), _palette(picture, values))


def check_lossless(picture: Pillow.Image, path: Path) -> None:
    """An opened file is of a format that keeps every value.

    Raises:
        InputError: JPEG, WebP and their like, or a TIFF that is compressed like them; the ending does not matter.
    """
    if picture.format == "TIFF":
        number = getattr(picture, "tag_v2", {}).get(ExifTags.Base.Compression, 1)
        if number not in LOSSLESS_TIFF:
            raise _lossy(path, f"TIFF with compression {str(picture.info.get('compression', number)).upper()}")
    if picture.format in LOSSY:
        raise _lossy(path, picture.format)


def check_raster(file: Any, path: Path) -> None:
    """The same of a file that rasterio has opened."""
    tags = file.tags(ns="IMAGE_STRUCTURE")
    compression = tags.get("COMPRESSION", "")
    exact = compression.startswith("LERC") and not float(tags.get("MAX_Z_ERROR", 0))
    if file.driver in LOSSY or not (compression in LOSSLESS_RASTER or exact):
        raise _lossy(path, f"{file.driver} with compression {compression}")
    if "MINISWHITE" in tags:
        raise _white_is_zero(path)


def _lossy(path: Path, kind: str) -> InputError:
    return InputError(
        f"{path}: a mask as {kind}, which alters class numbers; draw or export the masks as PNG, from what they were "
        "before they became this file"
    )


def _white_is_zero(path: Path) -> InputError:
    return InputError(
        f"{path}: a mask that stores white as zero, which programs read in two ways; save it as PNG, or with black as "
        "zero"
    )


def _of_raster(file: Any, path: Path) -> IndexMask:
    if file.count != 1:
        raise InputError(f"{path}: a mask of {file.count} channels; save one channel that holds class numbers")
    check_raster(file, path)
    image.check_fits(file.width, file.height, file.count, path)
    values = np.asarray(file.read(1))
    if values.dtype.kind not in "biuf":
        raise InputError(f"{path}: a mask of {values.dtype} values; save it as whole numbers")
    return IndexMask(path, whole(values), file.nodata)


def _values(picture: Pillow.Image, path: Path) -> NDArray[Any]:
    """(H, W) as the file has them, which is not always what Pillow makes of them."""
    tiles = getattr(picture, "tile", None)
    args = tiles[0].args if tiles else ""
    packing = str(args if isinstance(args, str) else (args or ("",))[0]).partition(";")[2]
    if picture.mode in ("1", "L") and "I" in packing:
        raise _white_is_zero(path)
    signed = pictures.signed(picture)
    values = np.asarray(picture)
    if picture.mode == "1":
        return values.astype(np.uint8)
    if picture.mode == "L" and packing[:1] in STEP:
        return values // np.uint8(STEP[packing[:1]])
    if picture.mode == "L" and signed:
        return values.view(np.int8)
    if picture.mode == "I" and picture.format == "TIFF" and not signed:
        return values.view(np.uint32)
    return np.ascontiguousarray(values, values.dtype.newbyteorder("="))


def _palette(picture: Pillow.Image, values: NDArray[Any]) -> dict[int, Colour]:
    """Colours of the values that occur. A grey ramp, or one colour for all, says nothing."""
    flat = picture.getpalette("RGB") if picture.mode == "P" else None
    if not flat:
        return {}
    colours = [(flat[i], flat[i + 1], flat[i + 2]) for i in range(0, len(flat) - 2, 3)]
    ramp = all(colour == (i, i, i) for i, colour in enumerate(colours))
    if ramp or (len(colours) > 1 and len(set(colours)) == 1):
        return {}
    occurring = np.flatnonzero(np.bincount(values.ravel(), minlength=256)).tolist()
    return {value: colours[value] for value in occurring if value < len(colours)}


def _hex(colour: Colour) -> str:
    return "#" + bytes(colour).hex()
