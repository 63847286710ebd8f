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

from diffmatch.domain import InputError, Reading
from diffmatch.readers.scaling import scaled

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
        InputError: cut off, or values that are no numbers or not finite.
    """
    try:
        array = np.asarray(opened.dataobj)
    except (OSError, EOFError, zlib.error, ValueError, OverflowError) as error:
        raise InputError(f"{path}: pixels end early or are damaged ({type(error).__name__}); {AGAIN}") from error
    if array.dtype.kind not in "iuf":
        raise InputError(f"{path}: holds {array.dtype} values; save it as a volume of integers or floats")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"{path}: holds values that are not finite; repair or {AGAIN}")
    return array


def orientation(opened: Any, path: Path, axes: tuple[int, int, int] | str) -> NDArray[np.float64]:
    """For each of a file's three axes, which of (slices, rows, columns) it is, and -1 where it runs the other way.

    Args:
        axes: as a `Reading` has them.

    Returns:
        (3, 2), an orientation as nibabel has them.

    Raises:
        InputError: directions are asked for, and the affine is not one of three directions.
    """
    if not isinstance(axes, str):
        return np.stack([np.argsort(axes), np.ones(3)], axis=1)
    stored = nib.io_orientation(opened.affine)
    if sorted(stored[:, 0].tolist()) != [0, 1, 2]:
        raise InputError(f"{path}: its affine does not say how the volume lies; {AGAIN}")
    turn: NDArray[np.float64] = nib.orientations.ornt_transform(stored, nib.orientations.axcodes2ornt(axes))
    return turn


def ordered(opened: Any, path: Path, axes: tuple[int, int, int] | str) -> NDArray[Any]:
    """The array as (slices, rows, columns[, channels]).

    Raises:
        InputError: as `pixels` and `orientation`.
    """
    array: NDArray[Any] = nib.apply_orientation(pixels(opened, path), orientation(opened, path, axes))
    return array


def image(opened: Any, path: Path, reading: Reading) -> NDArray[np.floating[Any]]:
    """(channels, slices, rows, columns) as the network is trained on them, float32 or float16.

    Raises:
        InputError: as `pixels` and `orientation`.
    """
    array = ordered(opened, path, reading.axes)
    return scaled(array[None] if array.ndim == 3 else np.moveaxis(array, -1, 0), reading)


def along_file(maps: NDArray[Any], opened: Any, path: Path, axes: tuple[int, int, int] | str) -> NDArray[Any]:
    """(..., slices, rows, columns) along the file's own axes, the way back from `ordered`; a view."""
    back = nib.orientations.ornt_transform([[0, 1], [1, 1], [2, 1]], orientation(opened, path, axes))
    first = np.moveaxis(maps, (-3, -2, -1), (0, 1, 2))
    return np.moveaxis(nib.apply_orientation(first, back), (0, 1, 2), (-3, -2, -1))


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
