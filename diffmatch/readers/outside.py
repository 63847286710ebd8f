"""Files and arrays that no data set holds, as a trained network expects them.

A card and a reading say all that is needed: neither the plugin nor its data are. nibabel and rasterio are imported
where a file needs them.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffmatch.domain import Card, Image, InputError, Reading, ReadWindow, Scene
from diffmatch.readers import image, pictures
from diffmatch.readers.scaling import scaled

NIFTI = (".nii.gz", ".nii")


def endings_of(reading: Reading) -> tuple[str, ...]:
    """Endings of the files that can be read so, in lower case."""
    return NIFTI if reading.kind == "volume" else image.ENDINGS


def of_file(path: Path, card: Card, reading: Reading) -> Image | Scene:
    """A picture, (1, channels, H, W), or a volume, (1, channels, Z, H, W), float32 as a data set's `read` has them.

    A large TIFF is a scene. Pictures of 8, 16 and 32 bit are read over the range of their type, or of 16 bit over the
    reading's white, floats in [0, 1] as they are. A volume is a NIfTI file of three axes, or of four with the channels
    last.

    Raises:
        InputError: unreadable, stored turned, several pages, values without a white, channels that are not the card's,
            or a package that is not installed.
    """
    if reading.kind == "volume":
        nifti = _nifti(path)
        volume = nifti.volume(path)
        if len(volume.shape) not in (3, 4):
            raise InputError(f"{path}: shape {volume.shape}, a volume has 3 axes, or 4 with the channels last")
        _check_channels(volume.shape[3] if len(volume.shape) == 4 else 1, path, card)
        return np.asarray(nifti.image(volume, path, reading), np.float32)[None]
    rgb = reading.kind == "photograph"
    if (large := pictures.scene(path, rgb, reading.white)) is not None:
        _check_channels(large.shape[1], path, card)
        return large
    pictures.header(path)  # refuses what is stored turned and what has several pages
    pixels = pictures.picture(path, rgb, reading.white)
    _check_channels(len(pixels), path, card)
    return pixels[None]


def of_pair(before: Path, after: Path, card: Card, reading: Reading) -> Image | Scene:
    """Two dates of one place, (2, channels, H, W) or (2, channels, Z, H, W); a scene where one of the files is.

    Raises:
        InputError: as `of_file`, or sizes that differ.
    """
    return both(of_file(before, card, reading), of_file(after, card, reading), (str(before), str(after)))


def both(before: Image | Scene, after: Image | Scene, names: tuple[str, str]) -> Image | Scene:
    """Two dates in one: (1, channels, ...) each -> (2, channels, ...).

    Args:
        names: of the two, for the message.

    Raises:
        InputError: sizes differ.
    """
    if before.shape[2:] != after.shape[2:]:
        sizes = [" x ".join(map(str, reversed(date.shape[2:]))) for date in (before, after)]
        raise InputError(f"{names[1]}: {sizes[1]} pixels, but {names[0]} has {sizes[0]}; both must be of one size")
    if not isinstance(before, Scene) and not isinstance(after, Scene):
        return np.concatenate([before, after])
    reads = [_windows(date) for date in (before, after)]
    _, channels, height, width = before.shape

    def read(top: int, left: int, height: int, width: int) -> Image:
        return np.concatenate([one(top, left, height, width) for one in reads])

    return Scene((2, channels, height, width), read)


def of_array(array: NDArray[Any], card: Card, reading: Reading, *, channels_first: bool, name: str) -> Image:
    """The pixels of `of_file` for a file of the same values.

    Args:
        array: (H, W) or (H, W, channels) for pictures. (Z, H, W) or (Z, H, W, channels) for volumes, already in the
            order (slices, rows, columns), or one slice, (H, W) or (H, W, channels), which becomes a volume of one
            slice. Pictures hold truth values, unsigned integers, or floats in [0, 1]; volumes any finite numbers.
        channels_first: (channels, H, W) and (channels, Z, H, W) instead, as torch has them.
        name: for the message.

    Raises:
        InputError: another shape, other channels, or values of another kind.
    """
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name}: {array.dtype} values; pixels are integers or floats")
    if not array.size:
        raise InputError(f"{name}: shape {array.shape} holds no pixels")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"{name}: holds values that are not finite; repair it")
    volume = reading.kind == "volume"
    one_slice = is_slice(array, card, reading, channels_first=channels_first)
    channels = _by_channel(array, 2 if one_slice or not volume else 3, 0 if channels_first else array.ndim - 1)
    if channels is None:
        axes = "slices, rows, columns" if volume else "rows, columns"
        form = f"(channels, {axes})" if channels_first else f"({axes}, channels)"
        raise InputError(f"{name}: shape {array.shape}; give ({axes}) or {form}")
    if volume:
        channels = channels[:, None] if one_slice else channels
        _check_channels(len(channels), name, card)
        return scaled(channels, reading).astype(np.float32)[None]
    pixels = pictures.unit(channels, name, reading.white)
    if reading.kind == "photograph" and len(pixels) == 1:
        pixels = pixels.repeat(3, axis=0)
    _check_channels(len(pixels), name, card)
    return pixels[None]


def is_slice(array: NDArray[Any], card: Card, reading: Reading, *, channels_first: bool) -> bool:
    """Whether `of_array` takes an array for one slice of a volume.

    One of shape (1, H, W) is a volume of one slice, one of shape (H, W, 1) is a slice with its channel.
    """
    if reading.kind != "volume" or array.ndim != 3:
        return reading.kind == "volume" and array.ndim == 2
    return array.shape[0 if channels_first else -1] == card.channels and (card.channels > 1 or not channels_first)


def own_axes(maps: NDArray[Any], like: Path, reading: Reading) -> NDArray[Any]:
    """What was predicted from a file, (..., Z, H, W), along the NIfTI file's own axes; a view.

    Pictures stay as they are.

    Raises:
        InputError: the file cannot be read.
    """
    if reading.kind != "volume":
        return maps
    nifti = _nifti(like)
    turned: NDArray[Any] = nifti.along_file(maps, nifti.volume(like), like, reading.axes)
    return turned


def _by_channel(array: NDArray[Any], spatial: int, axis: int) -> NDArray[Any] | None:
    """(channels, H, W) or (channels, Z, H, W); None for another number of axes.

    Args:
        spatial: number of axes without the channels'.
        axis: of the channels, where the array has them.
    """
    if array.ndim == spatial:
        return array[None]
    return np.moveaxis(array, axis, 0) if array.ndim == spatial + 1 else None


def _check_channels(count: int, name: str | Path, card: Card) -> None:
    if count != card.channels:
        raise InputError(
            f"{name}: {count} channel{'s' * (count > 1)}, the model was trained on {card.channels} ({card.title}); "
            "give it files of its kind, or leave the others out"
        )


def _windows(content: Image | Scene) -> ReadWindow:
    if isinstance(content, Scene):
        return content.read
    return lambda top, left, height, width: content[..., top : top + height, left : left + width]


def _nifti(path: Path) -> ModuleType:
    try:
        from diffmatch.readers import nifti
    except ImportError as error:
        raise InputError(f"{path}: reading NIfTI files needs nibabel: pip install nibabel") from error
    return nifti
