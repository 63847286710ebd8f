"""Arrays in HDF5 and npz files. A file is opened, read and closed: no handle lives on in a loading process."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from diffmatch.domain import Image, InputError

DAMAGED = (
    OSError,
    KeyError,
    ValueError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
    RuntimeError,
    TypeError,
    AttributeError,
)
"""What numpy, zipfile and h5py raise on bad files; the last two for a group, or a bare .npy called .npz."""


def shape(path: Path, key: str) -> tuple[int, ...]:
    """Shape of one array, without its values where the format allows it (h5)."""
    return tuple(_read(path, key, values=False).shape)


def array(path: Path, key: str, like: str | None = None) -> NDArray[Any]:
    """One array of an .h5 or .npz file.

    Args:
        like: another array of the file that must have the same shape.

    Raises:
        InputError: unreadable, cut off, no array under this key, a shape that differs, or values that are not finite.
    """
    values: NDArray[Any] = _read(path, key)
    if like is not None and (other := shape(path, like)) != values.shape:
        raise InputError(f"{path}: {key} {values.shape} and {like} {other} differ in shape; prepare it again")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError(f"{path}: {key} holds values that are not finite; repair it or prepare it again")
    return values


def volume(path: Path, key: str) -> Image:
    """(1, 1, Z, H, W) float32 of an array (Z, H, W), or of one slice, (H, W), values as stored.

    Raises:
        InputError: as `array`, or an array of other axes.
    """
    values = array(path, key)
    if values.ndim not in (2, 3) or values.dtype.kind not in "biuf":
        raise InputError(
            f"{path}: {key} is {values.dtype} of shape {values.shape}; expected numbers, a volume or a slice"
        )
    return np.asarray(values if values.ndim == 3 else values[None], np.float32)[None, None]


def _read(path: Path, key: str, values: bool = True) -> Any:
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                if not isinstance(stored := file[key], np.ndarray):  # what is no .npy inside comes as bytes
                    raise TypeError(f"{key} is no array")
                return stored
        with h5py.File(path) as file:
            return file[key][()] if values else np.broadcast_to(np.uint8(0), file[key].shape)
    except DAMAGED as error:
        kind = "npz" if path.suffix == ".npz" else "h5"
        raise InputError(
            f"{path}: not a readable {kind} file with '{key}' ({type(error).__name__}); prepare or copy it again"
        ) from error
