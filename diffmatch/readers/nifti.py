"""NIfTI volumes through nibabel."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from diffmatch.domain import InputError

ENDINGS = (".nii.gz", ".nii")
AGAIN = "copy or unpack it again"


def volume(path: Path) -> Any:
    """A NIfTI file's header and affine as nibabel gives them; pixels are not read yet.

    Raises:
        InputError: missing or not NIfTI.
    """
    try:
        return nib.load(path)
    except (OSError, EOFError, zlib.error, ValueError, ImageFileError) as error:
        raise InputError(f"{path}: not a readable NIfTI file ({type(error).__name__}); {AGAIN}") from error


def pixels(opened: Any, path: Path) -> NDArray[Any]:
    """The array in NIfTI's own order (X, Y, Z[, channels]).

    Raises:
        InputError: cut off, or values that are not finite.
    """
    try:
        array = np.asarray(opened.dataobj)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise InputError(f"{path}: pixels end early or are damaged ({type(error).__name__}); {AGAIN}") from error
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"{path}: holds values that are not finite; repair or {AGAIN}")
    return array


def same_grid(mask: Any, mask_path: Path, image: Any) -> None:
    """The mask has the image's three axes and lies at the same place; rounding in the headers is forgiven (1e-3 of the largest entry).

    Raises:
        InputError: they do not.
    """
    if image.shape[:3] != mask.shape:
        raise InputError(f"{mask_path}: shape {mask.shape} differs from its image's {image.shape[:3]}; {AGAIN}")
    if np.abs(image.affine - mask.affine).max() > 1e-3 * np.abs(image.affine).max():
        raise InputError(f"{mask_path}: lies elsewhere in space than its image (affines differ); {AGAIN} or align the headers")
