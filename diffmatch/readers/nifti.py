"""NIfTI volumes through nibabel."""

from __future__ import annotations

import itertools
import zlib
from dataclasses import dataclass
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

SINGLE = (b"n+1", b"n+2")
"""Magic words of files that hold header and pixels."""
LINES = ("RL", "AP", "SI")
ASTRAY = 0.01
"""Share of a voxel's size by which header and affine may differ."""


def volume(path: Path) -> Any:
    """A NIfTI file's header and affine as nibabel gives them, without axes of length 1 after the third.

    Pixels are not read yet.

    Raises:
        InputError: missing or not NIfTI, or values that are no numbers.
    """
    try:
        opened = nib.load(path)
        kind = opened.get_data_dtype()
        if kind.kind not in "iuf":
            raise InputError(f"{path}: holds {_kind(kind)} values; save it as a volume of integers or floats")
        if opened.header["magic"].item() in SINGLE and opened.dataobj.offset < opened.header.sizeof_hdr:
            raise InputError(f"{path}: its pixels begin inside its header; {AGAIN}")
        shape = opened.shape
        while len(shape) > 3 and shape[-1] == 1:
            shape = shape[:-1]
        if shape != opened.shape:
            opened = type(opened)(opened.dataobj.reshape(shape), opened.affine, opened.header)
        return opened
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
    if array.dtype.kind == "f" and (odd := int((~np.isfinite(array)).sum())):
        raise InputError(f"{path}: not finite on {odd} voxels of {array.size}; repair or {AGAIN}")
    return array


def _kind(kind: np.dtype[Any]) -> str:
    return "colour (RGB)" if kind.names else str(kind)


def spacing(opened: Any, path: Path) -> tuple[float, float, float]:
    """Millimetres along a file's own three axes, by its affine and its header alike.

    Raises:
        InputError: the two differ by more than `ASTRAY`, or the affine places the voxels nowhere.
    """
    sizes = np.array(opened.header.get_zooms()[:3], np.float64)
    by_affine = nib.affines.voxel_sizes(opened.affine)
    if not (np.isfinite(by_affine).all() and np.abs(np.linalg.det(opened.affine[:3, :3])) > 0):
        raise InputError(f"{path}: its affine places the voxels nowhere; {AGAIN}")
    if not (np.abs(sizes - by_affine) <= ASTRAY * by_affine).all():
        found, told = (" x ".join(f"{size:.4g}" for size in one) for one in (by_affine, sizes))
        raise InputError(
            f"{path}: voxels of {found} mm by its affine, {told} mm by its header (pixdim); correct one of them"
        )
    x, y, z = sizes.tolist()
    return x, y, z


@dataclass(frozen=True)
class Grid:
    """How a file stores its volume.

    Attributes:
        codes: the anatomical directions in which its three axes run, such as RAS; of oblique axes the nearest.
        shape: along these axes.
        spacing: millimetres along these axes.
        told: the header says how the volume lies; if not, `codes` are nibabel's guess.
    """

    codes: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    told: bool

    def along(self, codes: str) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Shape and spacing in the order of other directions; which way they run makes no difference."""
        axes = [
            next(a for a, own in enumerate(self.codes) if own in line) for one in codes for line in LINES if one in line
        ]
        return tuple(self.shape[axis] for axis in axes), tuple(self.spacing[axis] for axis in axes)


def grid(opened: Any, path: Path) -> Grid:
    """The grid of an opened file.

    Raises:
        InputError: as `spacing`, or the affine is not one of three directions.
    """
    codes = "".join(nib.orientations.ornt2axcodes(_stored(opened, path)))
    told = bool(opened.header["sform_code"] or opened.header["qform_code"])
    return Grid(codes, tuple(opened.shape[:3]), spacing(opened, path), told)


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
    wanted = nib.orientations.axcodes2ornt(axes)
    turn: NDArray[np.float64] = nib.orientations.ornt_transform(_stored(opened, path), wanted)
    return turn


def _stored(opened: Any, path: Path) -> NDArray[np.float64]:
    """The directions of a file's axes, (3, 2), as nibabel has them."""
    affine = opened.affine[:3, :3]
    if np.isfinite(affine).all() and np.linalg.det(affine):
        stored: NDArray[np.float64] = nib.io_orientation(opened.affine)
        if sorted(stored[:, 0].tolist()) == [0, 1, 2]:
            return stored
    raise InputError(f"{path}: its affine does not say how the volume lies; {AGAIN}")


def ordered(opened: Any, path: Path, axes: tuple[int, int, int] | str) -> NDArray[Any]:
    """The array as (slices, rows, columns[, channels]).

    Raises:
        InputError: fewer than 3 axes, and as `pixels` and `orientation`.
    """
    if len(opened.shape) < 3:
        raise InputError(f"{path}: shape {opened.shape}; a volume has 3 axes")
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
