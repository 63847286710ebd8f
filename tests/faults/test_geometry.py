"""Where files say that they lie: held against each other, and followed."""

from __future__ import annotations

import json
import warnings

import nibabel as nib
import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from diffmatch.domain import InputError
from diffmatch.readers import nifti, outside
from diffmatch.readers.places import same_place
from diffmatch_msd import MSD

A = np.diag([1.0, 1.0, 3.0, 1.0])
ORDERS = {
    "Z Y X": [(2, 1), (1, 1), (0, 1)],
    "mirrored": [(0, -1), (1, -1), (2, 1)],
    "Y Z X, upside down": [(1, 1), (2, -1), (0, 1)],
}


def volume(seed):
    rng = np.random.default_rng(seed)
    mask = np.zeros((20, 18, 6), np.uint8)
    mask[3:9, 5:14, 1:4] = 1
    return (100 + 200 * mask + rng.normal(0, 10, mask.shape)).astype(np.int16), mask


def task(root, change, count=7):
    """A task whose cases `change(array, number)` turns into NIfTI images."""
    for name in ("imagesTr", "labelsTr"):
        (root / name).mkdir(parents=True)
    entries = []
    for n in range(count):
        for array, name in zip(volume(n), ("imagesTr", "labelsTr"), strict=True):
            nib.save(change(array, n, name), root / name / f"case_{n}.nii.gz")
        entries.append({"image": f"./imagesTr/case_{n}.nii.gz", "label": f"./labelsTr/case_{n}.nii.gz"})
    about = {"name": "t", "labels": {"0": "background", "1": "tumour"}, "modality": {"0": "MRI"}, "training": entries}
    (root / "dataset.json").write_text(json.dumps(about))
    return root


def plain(array, n, name):
    return nib.Nifti1Image(array, A)


def read_all(domain):
    return {i.id: domain.read(i) for part in ("train", "val", "test") for i in domain.index(part)}


@pytest.mark.parametrize("order", ORDERS)
def test_files_in_another_order_read_as_if_they_were_in_the_others(tmp_path, order):
    def mixed(array, n, name):
        image = nib.Nifti1Image(array, A)
        return image.as_reoriented(np.array(ORDERS[order], float)) if n % 3 == 1 else image

    wanted, found = read_all(MSD(task(tmp_path / "a", plain))), read_all(MSD(task(tmp_path / "b", mixed)))
    assert wanted.keys() == found.keys()
    for name, sample in found.items():
        assert np.array_equal(sample.image, wanted[name].image) and np.array_equal(sample.mask, wanted[name].mask)
        assert sample.spacing == wanted[name].spacing


@pytest.mark.parametrize("order", ORDERS)
def test_what_is_predicted_goes_back_along_the_file_s_own_axes(tmp_path, order):
    domain = MSD(task(tmp_path / "set", plain))
    image, mask = volume(0)
    turn = np.array(ORDERS[order], float)
    stored = {"image": nib.Nifti1Image(image, A), "mask": nib.Nifti1Image(mask, A)}
    for name, content in stored.items():
        nib.save(content, tmp_path / f"{name}.nii.gz")
        nib.save(content.as_reoriented(turn), tmp_path / f"{name}_turned.nii.gz")
    read = [outside.of_file(tmp_path / f"image{end}.nii.gz", domain.card, domain.reading) for end in ("", "_turned")]
    assert np.array_equal(*read)
    ordered = nifti.ordered(nifti.volume(tmp_path / "mask.nii.gz"), tmp_path / "mask.nii.gz", domain.reading.axes)
    back = outside.own_axes(ordered, tmp_path / "image_turned.nii.gz", domain.reading)
    assert np.array_equal(back, np.asarray(nib.load(tmp_path / "mask_turned.nii.gz").dataobj))


def test_the_mask_may_be_stored_otherwise_only_with_its_image(tmp_path):
    def one_alone(array, n, name):
        image = nib.Nifti1Image(array, A)
        return image.as_reoriented(np.array(ORDERS["mirrored"], float)) if name == "labelsTr" else image

    with pytest.raises(InputError, match="lies elsewhere"):
        read_all(MSD(task(tmp_path, one_alone)))


@pytest.mark.parametrize("extra", [1, 2])
@pytest.mark.parametrize("which", [("imagesTr",), ("labelsTr",), ("imagesTr", "labelsTr")])
def test_axes_of_length_1_are_dropped(tmp_path, extra, which):
    def longer(array, n, name):
        return nib.Nifti1Image(array[(..., *[None] * extra)] if name in which else array, A)

    wanted, found = read_all(MSD(task(tmp_path / "a", plain))), read_all(MSD(task(tmp_path / "b", longer)))
    for name, sample in found.items():
        assert np.array_equal(sample.image, wanted[name].image) and np.array_equal(sample.mask, wanted[name].mask)


@pytest.mark.parametrize("which", ["imagesTr", "labelsTr"])
@pytest.mark.parametrize("kind", [[("R", "u1"), ("G", "u1"), ("B", "u1")], np.complex64], ids=["colour", "complex"])
def test_values_that_are_no_numbers_are_named(tmp_path, which, kind):
    def odd(array, n, name):
        return nib.Nifti1Image(np.zeros(array.shape, kind) if name == which else array, A)

    with pytest.raises(InputError, match=rf"{which}/case_\d\.nii\.gz: holds .* values; save it") as told:
        read_all(MSD(task(tmp_path, odd)))
    assert "\n" not in str(told.value)


def test_a_header_that_contradicts_its_affine_is_refused(tmp_path):
    def stale(array, n, name):
        image = nib.Nifti1Image(array, A)
        image.header["pixdim"][3] = 1.0 if n == 4 else 3.0
        return image

    with pytest.raises(InputError, match=r"case_4\.nii\.gz: voxels of 1 x 1 x 3 mm by its affine, 1 x 1 x 1 mm by its"):
        read_all(MSD(task(tmp_path, stale)))


@pytest.mark.parametrize("affine", [np.diag([0.0, 1, 3, 1]), np.diag([np.nan, 1, 3, 1])], ids=["flat", "nan"])
def test_a_degenerate_affine_is_refused(tmp_path, affine):
    def bad(array, n, name):
        image = nib.Nifti1Image(array, A)
        if n == 2:
            image.header["srow_x"] = affine[0]
            image = nib.Nifti1Image(array, None, image.header)
        return image

    with pytest.raises(InputError, match=r"case_2\.nii\.gz: its affine"):
        read_all(MSD(task(tmp_path, bad)))


def test_oblique_volumes_go_to_the_nearest_axis(tmp_path):
    a = np.radians(20)
    turn = np.array([[np.cos(a), -np.sin(a), 0, 0], [np.sin(a), np.cos(a), 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])

    def oblique(array, n, name):
        return nib.Nifti1Image(array, turn @ A)

    wanted, found = read_all(MSD(task(tmp_path / "a", plain))), read_all(MSD(task(tmp_path / "b", oblique)))
    assert all(np.array_equal(found[name].image, wanted[name].image) for name in wanted)


def test_a_silent_header_among_others_is_refused(tmp_path):
    def silent(array, n, name):
        image = nib.Nifti1Image(array, A)
        if n == 3:
            image.header["sform_code"] = image.header["qform_code"] = 0
            image = nib.Nifti1Image(array, None, image.header)
        return image

    with pytest.raises(InputError, match=r"case_3\.nii\.gz: does not say how it lies"):
        read_all(MSD(task(tmp_path, silent)))


# -- GeoTIFF -----------------------------------------------------------------------------------------------------------


def geotiff(path, left=1000.0, top=2000.0, size=2.0, crs="EPSG:32633"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        place = {} if left is None else {"transform": from_origin(left, top, size, size), "crs": crs}
        with rasterio.open(path, "w", driver="GTiff", count=1, height=6, width=8, dtype="uint8", **place) as file:
            file.write(np.zeros((1, 6, 8), np.uint8))
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"left": 1002.0}, "lies elsewhere"),
        ({"top": 1998.5}, "lies elsewhere"),
        ({"size": 2.5}, "lies elsewhere"),
        ({"crs": "EPSG:32634"}, "its coordinates are in EPSG:32634"),
    ],
    ids=str,
)
def test_a_tiff_that_lies_elsewhere_is_refused_and_both_are_named(tmp_path, change, words):
    image, mask = geotiff(tmp_path / "image.tif"), geotiff(tmp_path / "mask.tif", **change)
    with pytest.raises(InputError, match=rf"mask\.tif: {words}.*image\.tif"):
        same_place(mask, image)


@pytest.mark.parametrize("change", [{}, {"left": 1000.9}, {"left": None}], ids=str)
def test_half_a_pixel_and_silence_are_accepted(tmp_path, change):
    same_place(geotiff(tmp_path / "mask.tif", **change), geotiff(tmp_path / "image.tif"))
    Image.new("L", (8, 6)).save(tmp_path / "mask.png")
    same_place(tmp_path / "mask.png", tmp_path / "image.tif")
