"""A mask file lies where its picture lies, holds the numbers it was given, and shows the classes' colours."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from diffmatch.model.mask_files import write_mask

LABELS = np.array([[0, 1, 2], [2, 2, 0]], np.uint8)
COLORS = {0: (0, 0, 0), 200: (1, 2, 3), 255: (250, 251, 252)}


def test_png_in_colours(tmp_path: Path) -> None:
    path = write_mask(LABELS, tmp_path / "a.v2.jpg", tmp_path / "deep" / "a.v2", COLORS)
    assert path == tmp_path / "deep" / "a.v2.png"
    with Image.open(path) as image:
        assert image.mode == "P"
        assert np.asarray(image).tolist() == [[0, 200, 255], [255, 255, 0]]
        assert image.convert("RGB").getpixel((1, 0)) == (1, 2, 3)


def test_numbers_beyond_eight_bits(tmp_path: Path) -> None:
    path = write_mask(LABELS, tmp_path / "a.png", tmp_path / "a", {0: (0, 0, 0), 7: (1, 2, 3), 40000: (4, 5, 6)})
    assert np.asarray(Image.open(path)).tolist() == [[0, 7, 40000], [40000, 40000, 0]]


@pytest.mark.parametrize("largest", [255, 40000])
def test_geotiff_where_the_picture_lies_on_earth(largest: int, tmp_path: Path) -> None:
    like, place = tmp_path / "scene.tif", {"crs": "EPSG:2193", "transform": from_origin(1570000, 5180000, 0.2, 0.2)}
    with rasterio.open(like, "w", driver="GTiff", count=3, height=2, width=3, dtype="uint8", **place) as file:
        file.write(np.zeros((3, 2, 3), np.uint8))
    path = write_mask(LABELS, like, tmp_path / "mask", {0: (0, 0, 0), 200: (1, 2, 3), largest: (250, 251, 252)})
    with rasterio.open(path) as file:
        assert path.name == "mask.tif" and file.crs == place["crs"] and file.transform == place["transform"]
        assert file.read(1).tolist() == [[0, 200, largest], [largest, largest, 0]]
        if largest == 255:
            assert file.colormap(1)[200] == (1, 2, 3, 255)


def test_a_tiff_without_a_place_has_a_png(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 3), np.uint8)).save(tmp_path / "a.tif")
    assert write_mask(LABELS, tmp_path / "a.tif", tmp_path / "mask", COLORS).name == "mask.png"


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 2)])
def test_nifti_on_the_image_s_grid(shape: tuple[int, ...], tmp_path: Path) -> None:
    """Of a file of several modalities, and of one whose intensities are scaled, the mask is neither."""
    affine = np.array([[0, -1.5, 0, 10], [2.0, 0, 0, -20], [0, 0, 5, 7], [0, 0, 0, 1]])
    image = nib.Nifti1Image(np.arange(np.prod(shape), dtype=np.int16).reshape(shape), affine)
    image.header["cal_max"] = 900
    image.header.set_slope_inter(2.0, -100)
    nib.save(image, tmp_path / "image.nii.gz")
    labels = np.random.default_rng(0).integers(0, 3, (2, 3, 4)).astype(np.uint8)
    path = write_mask(labels, tmp_path / "image.nii.gz", tmp_path / "mask", COLORS)
    mask = nib.load(path)
    assert path.name == "mask.nii.gz" and mask.shape == (2, 3, 4) and mask.get_data_dtype() == np.uint8
    assert np.array_equal(mask.get_fdata(), np.array([0.0, 200, 255])[labels])
    assert np.array_equal(mask.affine, affine) and mask.header["cal_max"] == 0
