"""Photographs through Pillow."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags
from PIL import Image as Pillow

from diffmatch.domain import Image, InputError
from diffmatch.shared.machine import memory
from diffmatch.shared.walk import children, composed

LARGE = 1 << 27
"""Values above which a picture is held against memory and its file's size."""
MOST_PACKED = 1100
"""Values in a byte of a file; deflate packs 1032 of them."""
BYTES = 9
"""Of memory for a value: as stored, as float32, and a copy of that."""

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of TIFF and BigTIFF files."""
STRIPS = ExifTags.Base.StripByteCounts

ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")


def by_stem(folder: Path) -> dict[str, Path]:
    """The images of a folder by composed name without ending, in order; empty where there is no such folder.

    The folder is scanned once, no file is opened.

    Raises:
        InputError: two files differ in their ending only.
    """
    files: dict[str, Path] = {}
    for path in (path for path in children(folder) if path.name.lower().endswith(ENDINGS)):
        if (other := files.setdefault(composed(path.stem), path)) is not path:
            raise InputError(
                f"{path}: {other.name} is there too, and names without ending are ids; keep one of the two"
            )
    return dict(sorted(files.items()))


@contextmanager
def opened(path: Path, header: bool = False) -> Iterator[Pillow.Image]:
    """A Pillow image; errors inside the block become an `InputError` that names the file.

    Args:
        header: the pixels are not wanted, and not checked.

    Raises:
        InputError: missing, cut off, damaged or not an image, or more pixels than memory holds.
    """
    try:
        with warnings.catch_warnings(), _unlimited():
            warnings.simplefilter("ignore")
            with Pillow.open(path) as image:
                if not header:
                    _check_intact(image)
                    check_fits(image.width, image.height, len(image.getbands()), path)
            image = Pillow.open(path)
        with image:
            yield image
    except (InputError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; the set is incomplete, copy or unpack it again") from error
    except Exception as error:  # on damaged files Pillow's parsers raise what they run into
        raise InputError(
            f"{path}: cannot be read as an image ({type(error).__name__}: {str(error)[:80]}); copy it again"
        ) from error


def _check_intact(image: Pillow.Image) -> None:
    """What Pillow passes over: the check sums of a PNG, the length of a TIFF's pixels where they are not compressed.

    Raises:
        ValueError: they do not fit.
        SyntaxError: likewise, by Pillow.
    """
    if image.format == "PNG":
        image.verify()
    tags = getattr(image, "tag_v2", {})
    if image.format == "TIFF" and ExifTags.Base.PhotometricInterpretation not in tags:
        raise ValueError("a TIFF that does not say whether black is zero")
    if image.format == "TIFF" and tags.get(ExifTags.Base.Compression, 1) == 1 and STRIPS in tags:
        samples = tags.get(ExifTags.Base.SamplesPerPixel, 1)
        bits = image.width * samples * tags.get(ExifTags.Base.BitsPerSample, (1,))[0]
        if sum(tags[STRIPS]) != (bits + 7) // 8 * image.height:
            raise ValueError("the length of its strips is not that of its pixels")


@contextmanager
def _unlimited() -> Iterator[None]:
    """Pillow's own limit is for strangers' files; `check_fits` has ours."""
    limit, Pillow.MAX_IMAGE_PIXELS = Pillow.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Pillow.MAX_IMAGE_PIXELS = limit


def check_fits(width: int, height: int, channels: int, path: Path) -> None:
    """A large picture fits into memory, and its file is large enough to hold it; a TIFF may leave out what is empty.

    Raises:
        InputError: it does not.
    """
    stored, packed = width * height * channels, path.stat().st_size
    if stored < LARGE:
        return
    size = f"{path}: {width} x {height} pixels"
    if stored > MOST_PACKED * packed and not is_tiff(path):
        raise InputError(f"{size} in a file of {packed} bytes: damaged, or made to fill memory; copy it again")
    if stored * BYTES > memory():
        raise InputError(f"{size} do not fit into memory; cut it into parts, or save it as tiled TIFF")


def is_tiff(path: Path) -> bool:
    """By the file's first bytes; false where there is no such file."""
    try:
        with path.open("rb") as file:
            return file.read(4) in TIFF
    except OSError:
        return False


def photograph(path: Path) -> Image:
    """(3, H, W) float32 in [0, 1]; grayscale, palette and CMYK files become RGB.

    Raises:
        InputError: unreadable, or more than 8 bit.
    """
    with opened(path) as image:
        pixels = colours(image, path)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32) / np.float32(255)


def check_upright(image: Pillow.Image, path: Path) -> None:
    """An opened picture is stored as it is looked at.

    Raises:
        InputError: an EXIF flag turns or mirrors it.
    """
    if image.getexif().get(ExifTags.Base.Orientation, 1) not in (0, 1):
        raise InputError(
            f"{path}: stored turned, with an EXIF flag that masks do not follow; save it upright (mogrify -auto-orient)"
        )


def colours(image: Pillow.Image, path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) of an opened file.

    Raises:
        InputError: 16 bit, integer or float values, which Pillow's conversion cuts off at 255.
    """
    if image.mode.startswith(("I", "F")):
        raise InputError(
            f"{path}: values of mode {image.mode} where a photograph has 8 bit; convert it to 8 bit, "
            "or take the `folder` plugin, which reads 16 bit and float"
        )
    return np.asarray(image.convert("RGB"))


def size(path: Path) -> tuple[int, int]:
    """(H, W) from the file's header."""
    with opened(path, header=True) as image:
        return image.height, image.width


def same_size(mask: NDArray[Any], mask_path: Path, image: NDArray[Any], image_path: Path) -> None:
    """Mask and image have the same height and width.

    Raises:
        InputError: they do not; both files are named.
    """
    if mask.shape[-2:] != image.shape[-2:]:
        raise InputError(
            f"{mask_path}: {mask.shape[-1]} x {mask.shape[-2]} pixels, but {image_path.name} has {image.shape[-1]} x "
            f"{image.shape[-2]}; "
            "take the mask that belongs to this image"
        )
