"""NIfTI files: when two grids are the same, and what is said of damaged headers."""

from __future__ import annotations

import gzip
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from diffmatch.domain import InputError
from diffmatch.readers.nifti import pixels, same_grid, volume

SHAPE = (512, 512, 200)
CT = np.array([[-0.7, 0, 0, 180], [0, 0.7, 0, -175], [0, 0, 2.5, -1400], [0, 0, 0, 1]])
"""A table position far from the scanner's origin, as in a CT of the trunk."""


def turned(degrees):
    """CT about its long axis and then tilted, as a gantry is."""
    a, b = np.radians([degrees, 12.0])
    about = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = CT.copy()
    affine[:3, :3] = tilt @ about @ CT[:3, :3]
    return affine


def grid(affine, shape=SHAPE):
    return nib.Nifti1Image(np.broadcast_to(np.uint8(0), shape), affine)


def as_quaternion(affine):
    """What an affine is after a header has kept it as quaternion and voxel sizes in float32."""
    header = nib.Nifti1Header()
    header.set_data_shape(SHAPE)
    header.set_qform(affine, 1)
    return header.get_qform()


def moved(axis, voxels):
    step = np.eye(4)
    step[axis, 3] = voxels
    return step


MIRROR = np.array([[-1, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
ELSEWHERE = {
    "mirrored": MIRROR,
    "a voxel aside": moved(0, 1),
    "a slice up": moved(2, -1),
    "by the corner for the middle": moved(1, 0.5),
    "doubled spacing": np.diag([2, 2, 1, 1]),
    "spacing rounded to 0.71": np.diag([0.71 / 0.7, 1, 1, 1]),
}


@pytest.mark.parametrize("change", ELSEWHERE)
@pytest.mark.parametrize("affine", [CT, turned(30)], ids=["straight", "tilted"])
def test_a_mask_that_lies_elsewhere_is_refused(tmp_path, affine, change):
    with pytest.raises(InputError, match=r"mask\.nii: lies elsewhere .* voxels\); copy") as told:
        same_grid(grid(affine @ ELSEWHERE[change]), tmp_path / "mask.nii", grid(affine))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("degrees", [0, 30, 90, 179, 180])
@pytest.mark.parametrize("rounded", [np.float32, as_quaternion])
def test_the_rounding_of_headers_is_accepted(tmp_path, degrees, rounded):
    affine = turned(degrees)
    same_grid(grid(np.asarray(rounded(affine), np.float64)), tmp_path / "mask.nii", grid(affine))


def test_one_slice_has_a_place_and_a_thickness_too(tmp_path):
    image = grid(CT, (512, 512, 1))
    same_grid(grid(CT, (512, 512, 1)), tmp_path / "mask.nii", image)
    for change in (np.diag([1, 1, 2, 1]), np.diag([1, 1, -1, 1])):
        with pytest.raises(InputError, match="lies elsewhere"):
            same_grid(grid(CT @ change, (512, 512, 1)), tmp_path / "mask.nii", image)


def test_an_image_without_a_place_is_refused(tmp_path):
    with pytest.raises(InputError, match="lies elsewhere"):
        same_grid(grid(CT), tmp_path / "mask.nii", SimpleNamespace(shape=SHAPE, affine=np.diag([0.0, 1, 1, 1])))


@pytest.mark.parametrize(("at", "byte"), [(70, 78), (43, 255), (111, 0)], ids=["datatype", "size", "offset"])
@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_a_damaged_header_is_told_by_name(tmp_path, at, byte, ending):
    nib.save(nib.Nifti1Image(np.zeros((6, 5, 4), np.int16), CT), tmp_path / "whole.nii")
    damaged = bytearray((tmp_path / "whole.nii").read_bytes())
    damaged[at] = byte
    path = tmp_path / f"x.{ending}"
    path.write_bytes(gzip.compress(damaged) if ending == "nii.gz" else damaged)
    with pytest.raises(InputError, match=rf"{path.name}: .*copy or unpack it again"):
        pixels(volume(path), path)
