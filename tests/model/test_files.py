"""Files lie where their input lies, hold what was predicted, and are written whole or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import nibabel as nib
import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from diffmatch.model import blocks, files
from diffmatch.model.files import Saved, outputs, write, write_labels
from diffmatch.model.look import Look
from diffmatch.model.prediction import Prediction

LABELS = np.array([[0, 1, 2], [2, 2, 0]], np.uint8)
LOOK = Look(("background", "boat", "quay"), ((0, 0, 0), (1, 2, 3), (250, 251, 252)), (0, 200, 255), True)
ALL = get_args(Saved)
AFFINE = np.array([[0, -1.5, 0, 10], [2.0, 0, 0, -20], [0, 0, 5, 7], [0, 0, 0, 1]])


def valued(*values: int) -> Look:
    return replace(LOOK, values=values)


def predicted(*grid: int) -> Prediction:
    """Random probabilities of three classes, and what follows from them."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), grid).astype(np.float32)
    entropy = -(probabilities * np.log(probabilities)).sum(-1)
    disagreement = rng.random(grid, np.float32)
    labels = probabilities.argmax(-1).astype(np.uint8)
    return Prediction(labels, np.moveaxis(probabilities, -1, 0), entropy, disagreement)


def test_png_in_colours(tmp_path: Path) -> None:
    path = write_labels(LABELS, tmp_path / "a.v2.jpg", tmp_path / "deep" / "a.v2", LOOK)
    assert path == tmp_path / "deep" / "a.v2.png"
    with Image.open(path) as image:
        assert image.mode == "P"
        assert np.asarray(image).tolist() == [[0, 200, 255], [255, 255, 0]]
        assert image.convert("RGB").getpixel((1, 0)) == (1, 2, 3)
    assert [*path.parent.iterdir()] == [path]


def test_numbers_beyond_eight_bits(tmp_path: Path) -> None:
    path = write_labels(LABELS, tmp_path / "a.png", tmp_path / "a", valued(0, 7, 40000))
    assert np.asarray(Image.open(path)).tolist() == [[0, 7, 40000], [40000, 40000, 0]]


@pytest.mark.parametrize("largest", [255, 40000])
def test_geotiff_where_the_picture_lies_on_earth(largest: int, tmp_path: Path) -> None:
    like, place = tmp_path / "scene.tif", {"crs": "EPSG:2193", "transform": from_origin(1570000, 5180000, 0.2, 0.2)}
    with rasterio.open(like, "w", driver="GTiff", count=3, height=2, width=3, dtype="uint8", **place) as file:
        file.write(np.zeros((3, 2, 3), np.uint8))
    path = write_labels(LABELS, like, tmp_path / "mask", valued(0, 200, largest))
    with rasterio.open(path) as file:
        assert path.name == "mask.tif" and file.crs == place["crs"] and file.transform == place["transform"]
        assert file.read(1).tolist() == [[0, 200, largest], [largest, largest, 0]]
        if largest == 255:
            assert file.colormap(1)[200] == (1, 2, 3, 255)


def test_a_tiff_without_a_place_has_a_png(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 3), np.uint8)).save(tmp_path / "a.tif")
    assert write_labels(LABELS, tmp_path / "a.tif", tmp_path / "mask", LOOK).name == "mask.png"


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 2)])
def test_nifti_on_the_image_s_grid(shape: tuple[int, ...], tmp_path: Path) -> None:
    """Of a file of several modalities, and of one whose intensities are scaled, the mask is neither."""
    image = nib.Nifti1Image(np.arange(np.prod(shape), dtype=np.int16).reshape(shape), AFFINE)
    image.header["cal_max"] = 900
    image.header.set_slope_inter(2.0, -100)
    nib.save(image, tmp_path / "image.nii.gz")
    labels = np.random.default_rng(0).integers(0, 3, (2, 3, 4)).astype(np.uint8)
    path = write_labels(labels, tmp_path / "image.nii.gz", tmp_path / "mask", LOOK)
    mask = nib.load(path)
    assert path.name == "mask.nii.gz" and mask.shape == (2, 3, 4) and mask.get_data_dtype() == np.uint8
    assert np.array_equal(mask.get_fdata(), np.array([0.0, 200, 255])[labels])
    assert np.array_equal(mask.affine, AFFINE) and mask.header["cal_max"] == 0


def test_all_of_a_nifti_volume(tmp_path: Path) -> None:
    like, prediction = tmp_path / "heart.nii", predicted(9, 8, 4)
    nib.save(nib.Nifti1Image(np.zeros((9, 8, 4), np.int16), AFFINE), like)
    image = np.zeros((1, 1, 4, 8, 9), np.float32)
    paths = write(prediction, image, like, tmp_path / "out" / "heart", LOOK, ALL, prediction.labels.T)
    assert paths == outputs(like, tmp_path / "out" / "heart", ALL, volume=True)
    assert {path.name for path in paths.values()} == {path.name for path in (tmp_path / "out").iterdir()}
    assert [path.name for path in paths.values()] == [
        "heart.nii.gz",
        "heart_probabilities.nii.gz",
        "heart_overlay.png",
        "heart_uncertainty.nii.gz",
    ]
    probabilities, uncertainty = (nib.load(paths[what]) for what in ("probabilities", "uncertainty"))
    assert probabilities.get_data_dtype() == uncertainty.get_data_dtype() == np.float32
    assert np.array_equal(np.asarray(probabilities.dataobj), np.moveaxis(prediction.probabilities, 0, -1))
    assert np.array_equal(np.asarray(uncertainty.dataobj), np.stack([prediction.entropy, prediction.disagreement], -1))
    for written in (probabilities, uncertainty):
        assert np.array_equal(written.affine, AFFINE)
        assert written.header.get_zooms()[:3] == nib.load(like).header.get_zooms()
    assert uncertainty.header["descrip"] == b"entropy, disagreement"


@pytest.mark.parametrize("draws", ["several", "one"])
def test_all_of_a_picture(draws: str, tmp_path: Path) -> None:
    like, prediction = tmp_path / "a.jpg", predicted(6, 5)
    if draws == "one":
        prediction = replace(prediction, disagreement=None)
    paths = write(prediction, np.zeros((1, 3, 6, 5), np.float32), like, tmp_path / "a", LOOK, ALL)
    assert paths == outputs(like, tmp_path / "a", ALL, volume=False)
    with np.load(paths["probabilities"]) as file:
        assert np.array_equal(file["probabilities"], prediction.probabilities)
        assert file["probabilities"].dtype == np.float32 and file["classes"].tolist() == [*LOOK.names]
    with np.load(paths["uncertainty"]) as file:
        assert np.array_equal(file["entropy"], prediction.entropy)
        assert ("disagreement" in file) == (draws == "several")


def test_a_volume_of_another_kind(tmp_path: Path) -> None:
    like, prediction = tmp_path / "case.h5", predicted(3, 6, 5)
    paths = write(prediction, np.zeros((1, 1, 3, 6, 5), np.float32), like, tmp_path / "case", LOOK, ["labels"])
    assert paths == outputs(like, tmp_path / "case", ["labels"], volume=True) == {"labels": tmp_path / "case.npz"}
    with np.load(paths["labels"]) as file:
        assert np.array_equal(file["labels"], np.array([0, 200, 255], np.uint8)[prediction.labels])


def test_only_what_is_asked_for(tmp_path: Path) -> None:
    paths = write(predicted(6, 5), np.zeros((1, 3, 6, 5), np.float32), tmp_path / "a.png", tmp_path / "a", LOOK, [])
    assert paths == {} and not any(tmp_path.iterdir())


@pytest.mark.parametrize("georeferenced", [True, False])
def test_blocks_of_mapped_files_equal_the_whole(
    georeferenced: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, like, mapped = predicted(700, 30), tmp_path / "a.tif", {}
    form = {"crs": "EPSG:2193", "transform": from_origin(0, 0, 2, 2)} if georeferenced else {}
    with rasterio.open(like, "w", driver="GTiff", count=1, height=700, width=30, dtype="uint8", **form):
        pass
    for name in ("labels", "probabilities", "entropy", "disagreement"):
        np.save(tmp_path / f"{name}.npy", getattr(whole, name))
        mapped[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
    image = np.random.default_rng(1).random((1, 3, 700, 30), np.float32)
    once = write(whole, image, like, tmp_path / "once", LOOK, ALL)
    monkeypatch.setattr(blocks, "BLOCK", 4000)
    by_blocks = write(Prediction(**mapped), image, like, tmp_path / "blocks", LOOK, ALL)
    for what in ALL:
        assert content(once[what]) == content(by_blocks[what]), what


def content(path: Path) -> list[bytes]:
    if path.suffix == ".npz":
        with np.load(path) as file:
            return [file[name].tobytes() for name in file]
    if path.suffix == ".tif":
        with rasterio.open(path) as file:
            return [band.tobytes() for band in file.read()]
    return [np.asarray(Image.open(path)).tobytes()]


@pytest.mark.parametrize("ending", ["png", "tif", "nii.gz", "h5"])
@pytest.mark.parametrize("what", ALL)
def test_no_half_file_after_an_interruption(
    what: Saved, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call ends when the new file is complete and has not yet taken its place; the old file stays."""
    like, volume = tmp_path / f"a.{ending}", ending in ("nii.gz", "h5")
    shape = (4, 6, 5) if volume else (6, 5)
    if ending == "nii.gz":
        nib.save(nib.Nifti1Image(np.zeros(shape, np.int16), AFFINE), like)
    elif ending == "tif":
        form = {"crs": "EPSG:2193", "transform": from_origin(0, 0, 2, 2)}
        with rasterio.open(like, "w", driver="GTiff", count=1, height=6, width=5, dtype="uint8", **form):
            pass
    path = outputs(like, tmp_path / "out" / "a", [what], volume)[what]
    path.parent.mkdir()
    path.write_bytes(b"old")

    def interrupted(self: Path, target: Path) -> None:
        assert self.stat().st_size > 0
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(predicted(*shape), np.zeros((1, 1, *shape), np.float32), like, tmp_path / "out" / "a", LOOK, [what])
    assert [*path.parent.iterdir()] == [path] and path.read_bytes() == b"old"


def test_names_alone_open_no_volume(tmp_path: Path) -> None:
    assert outputs(tmp_path / "absent.NII", tmp_path / "b", ["labels"], volume=True)["labels"].name == "b.nii.gz"
    assert files.outputs(tmp_path / "absent.jpg", tmp_path / "b", ["overlay"], volume=False) == {
        "overlay": tmp_path / "b_overlay.png"
    }
