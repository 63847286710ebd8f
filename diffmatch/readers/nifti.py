"""NIfTI volumes through nibabel."""

from __future__ import annotations

import itertools
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from diffmatch.domain import InputError

ENDINGS = (".nii.gz", ".nii")
AGAIN = "copy or unpack it again"
APART = 0.25
"""Voxels by which two grids may differ at a corner.

Two conventions of where a voxel's middle lies differ by half a voxel. Rounding of headers to float32 makes thousandths
in a CT of 512 x 512.
"""


def volume(path: Path) -> Any:
    """A NIfTI file's header and affine as nibabel gives them; pixels are not read yet.

    Raises:
        InputError: missing or not NIfTI.
    """
    try:
        return nib.load(path)
    except (OSError, EOFError, zlib.error, ValueError, ImageFileError, HeaderDataError) as error:
        raise InputError(f"{path}: not a readable NIfTI file ({type(error).__name__}); {AGAIN}") from error


def pixels(opened: Any, path: Path) -> NDArray[Any]:
    """The array in NIfTI's own order (X, Y, Z[, channels]).

    Raises:
        InputError: cut off, or values that are not finite.
    """
    try:
        array = np.asarray(opened.dataobj)
    except (OSError, EOFError, zlib.error, ValueError, OverflowError) as error:
        raise InputError(f"{path}: pixels end early or are damaged ({type(error).__name__}); {AGAIN}") from error
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"{path}: holds values that are not finite; repair or {AGAIN}")
    return array


def same_grid(mask: Any, mask_path: Path, image: Any) -> None:
    """The mask has the image's three axes, and its corners lie where the image's do.

    They may differ by `APART` voxels along each axis. nibabel compares no grids.

    Raises:
        InputError: they do not.
    """
    if image.shape[:3] != mask.shape:
        raise InputError(f"{mask_path}: shape {mask.shape} differs from its image's {image.shape[:3]}; {AGAIN}")
    corners = np.array([*itertools.product(*((-0.5, length - 0.5) for length in mask.shape))])
    try:
        moved = np.abs(apply_affine(np.linalg.solve(image.affine, mask.affine), corners) - corners).max()
    except np.linalg.LinAlgError:  # the image's affine places it nowhere
        moved = np.inf
    if not moved <= APART:
        raise InputError(
            f"{mask_path}: lies elsewhere in space than its image (affines differ by up to {moved:.3g} voxels); "
            f"{AGAIN} or align the headers"
        )
