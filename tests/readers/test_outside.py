"""Files and arrays that no set holds: the same pixels from either, on the file's own axes, and refusals by name."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pillow

import diffmatch.readers
from diffmatch.domain import Card, InputError, MinMax, Percentiles, Reading, Scene, Window
from diffmatch.readers import pictures
from diffmatch.readers.image import photograph
from diffmatch.readers.outside import both, endings_of, is_slice, of_array, of_file, of_pair, own_axes

SHAPE = (12, 16)
RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (*SHAPE, 3), np.uint8)
GREY = COLOUR[..., 0]
DEEP = RNG.integers(0, 65536, SHAPE, np.uint16)
PHOTOGRAPH, PICTURE = (Reading(kind=kind, values=(0, 1)) for kind in ("photograph", "picture"))
Array = NDArray[Any]


def card(channels: int = 3, dates: int = 1) -> Card:
    about = {"name": "toy", "title": "Toys", "classes": ("a", "b"), "licence": "", "citation": "", "source": ""}
    return Card(channels=channels, dates=dates, **about)


def volume(*scaling: Any, **more: Any) -> Reading:
    return Reading(kind="volume", values=(0, 1), scaling=scaling or (MinMax(),), **more)


def save(path: Path, pixels: Any, **options: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    (pixels if isinstance(pixels, Pillow.Image) else Pillow.fromarray(pixels)).save(path, **options)
    return path


def geotiff(path: Path, bands: Array, photometric: str = "minisblack", **options: Any) -> Path:
    """(bands, H, W) as a GeoTIFF."""
    rasterio = pytest.importorskip("rasterio")
    shape = dict(zip(("count", "height", "width"), bands.shape, strict=True))
    form = {"driver": "GTiff", "dtype": bands.dtype, "photometric": photometric}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path, "w", **form, **shape, **options) as file:
            file.write(bands)
    return path


def nifti(path: Path, values: Array, affine: Array | None = None) -> Path:
    nib.save(nib.Nifti1Image(values, np.diag([1.0, 1, 3, 1]) if affine is None else affine), path)
    return path


# -- photographs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("rgb.png", COLOUR),
        ("grey.jpg", GREY),
        ("bit.png", GREY > 127),
        ("palette.png", Pillow.fromarray(COLOUR).quantize(4)),
        ("cmyk.tif", Pillow.fromarray(COLOUR).convert("CMYK")),
        ("transparent.png", np.dstack([COLOUR, GREY])),
        ("transparent.tif", np.dstack([COLOUR, GREY])),
        ("grey_transparent.png", np.dstack([GREY, GREY])),
        ("grey_transparent.tif", np.dstack([GREY, GREY])),
    ],
)
def test_a_photograph_is_read_as_a_set_of_photographs_reads_it(tmp_path: Path, name: str, pixels: Any) -> None:
    path = save(tmp_path / name, pixels)
    found = of_file(path, card(), PHOTOGRAPH)
    assert isinstance(found, np.ndarray) and found.dtype == np.float32
    assert np.array_equal(found, photograph(path)[None])


def test_a_photograph_of_16_bit_or_float_is_scaled_by_its_range(tmp_path: Path) -> None:
    expected = np.broadcast_to(DEEP / np.float32(65535), (1, 3, *SHAPE))
    deep, unit = save(tmp_path / "deep.png", DEEP), save(tmp_path / "float.tif", DEEP / np.float32(65535))
    assert np.array_equal(of_file(deep, card(), PHOTOGRAPH), expected)
    assert np.array_equal(of_file(unit, card(), PHOTOGRAPH), expected)
    colours = RNG.integers(0, 65536, (3, *SHAPE), np.uint16)
    path = geotiff(tmp_path / "rgb.tif", colours, "rgb")
    np.testing.assert_allclose(of_file(path, card(), PHOTOGRAPH)[0], colours / 65535, rtol=1e-6)


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_a_large_photograph_is_the_same_by_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bands: int) -> None:
    """Grey is repeated and transparency left out there too."""
    values = RNG.integers(0, 256, (bands, *SHAPE), np.uint8)
    options = {"alpha": "yes"} if bands in (2, 4) else {}
    path = geotiff(tmp_path / "a.tif", values, "rgb" if bands > 2 else "minisblack", **options)
    whole = of_file(path, card(), PHOTOGRAPH)
    assert np.array_equal(whole[0], np.broadcast_to(values[: bands - len(options)] / np.float32(255), (3, *SHAPE)))
    monkeypatch.setattr(pictures, "LARGE", 0)
    scene = of_file(path, card(), PHOTOGRAPH)
    assert isinstance(scene, Scene) and scene.shape == (1, 3, *SHAPE)
    assert np.array_equal(scene.read(2, 3, 7, 13), whole[..., 2:9, 3:16])


# -- two dates ---------------------------------------------------------------------------------------------------------


def test_two_dates_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole, by windows, and where one is a large TIFF and the other is not."""
    before, after = save(tmp_path / "before.png", COLOUR), save(tmp_path / "after.tif", 255 - COLOUR)
    expected = np.stack([COLOUR, 255 - COLOUR]).transpose(0, 3, 1, 2) / np.float32(255)
    found = of_pair(before, after, card(dates=2), PHOTOGRAPH)
    assert isinstance(found, np.ndarray) and np.array_equal(found, expected)
    monkeypatch.setattr(pictures, "LARGE", 0)
    for first in (before, geotiff(tmp_path / "before.tif", COLOUR.transpose(2, 0, 1), "rgb")):
        scene = of_pair(first, after, card(dates=2), PHOTOGRAPH)
        assert isinstance(scene, Scene) and scene.shape == (2, 3, *SHAPE)
        assert np.array_equal(scene.read(1, 2, 5, 6), expected[..., 1:6, 2:8])


def test_two_dates_of_two_sizes_are_told_with_both_names(tmp_path: Path) -> None:
    before, after = save(tmp_path / "before.png", COLOUR), save(tmp_path / "after.png", COLOUR[:3])
    with pytest.raises(InputError, match=r"after\.png: 16 x 3 pixels, but .*before\.png has 16 x 12"):
        of_pair(before, after, card(dates=2), PHOTOGRAPH)
    images = [of_array(pixels, card(), PICTURE, channels_first=False, name="") for pixels in (COLOUR, COLOUR[:, :4])]
    with pytest.raises(InputError, match="later: 4 x 12 pixels, but earlier has 16 x 12"):
        both(*images, ("earlier", "later"))


# -- volumes -----------------------------------------------------------------------------------------------------------

VOXELS = RNG.normal(50, 200, (4, 5, 6)).astype(np.float32)
STORED = [
    np.eye(4),
    np.diag([-1.0, 2, 3, 1]),
    np.array([[0, 0, -2.0, 5], [-1, 0, 0, 7], [0, 3, 0, 1], [0, 0, 0, 1]]),
    np.array([[0.1, 2, 0, 0], [-1, 0.1, 0, 0], [0, 0.2, -3, 0], [0, 0, 0, 1.0]]),
]


@pytest.mark.parametrize("affine", STORED, ids=["RAS", "LAS", "PSL", "tilted"])
@pytest.mark.parametrize("axes", ["SPL", "RAS", "ILA"])
def test_directions_lead_to_the_same_place_however_a_file_is_stored(tmp_path: Path, affine: Array, axes: str) -> None:
    """The voxel (slice, row, column) lies where nibabel's affine of the turned volume puts it; labels lie there too."""
    path = nifti(tmp_path / "a.nii.gz", VOXELS, affine)
    reading = volume(axes=axes)
    found = of_file(path, card(1), reading)
    stored = nib.io_orientation(affine)
    turn = nib.orientations.ornt_transform(stored, nib.orientations.axcodes2ornt(axes))
    expected = nib.Nifti1Image(VOXELS, affine).as_reoriented(turn)
    assert "".join(nib.aff2axcodes(expected.affine)) == axes
    values = np.asarray(expected.dataobj)
    assert np.array_equal(found[0, 0], (values - values.min()) / (values.max() - values.min()))
    back = own_axes(np.stack([values, -values]), path, reading)
    assert np.array_equal(back, [VOXELS, -VOXELS])


@pytest.mark.parametrize("axes", [(2, 1, 0), (0, 2, 1), (1, 0, 2)])
def test_axes_by_number_and_back(tmp_path: Path, axes: tuple[int, int, int]) -> None:
    path, reading = nifti(tmp_path / "a.nii", VOXELS, STORED[1]), volume(Window(low=0, high=100), axes=axes)
    found = of_file(path, card(1), reading)
    np.testing.assert_allclose(found[0, 0], (VOXELS.transpose(axes) / 100).clip(0, 1), atol=1e-6)
    labels = np.arange(VOXELS.size).reshape(VOXELS.shape).transpose(axes)
    back = own_axes(labels, path, reading)
    assert np.array_equal(back, np.arange(VOXELS.size).reshape(VOXELS.shape)) and np.shares_memory(back, labels)
    picture = np.zeros(SHAPE)
    assert own_axes(picture, tmp_path / "nowhere.png", PICTURE) is picture


def test_a_fourth_axis_holds_the_channels(tmp_path: Path) -> None:
    values = np.stack([VOXELS, VOXELS * 7 + 3], -1)
    reading = volume(Window(low=-125, high=275), Percentiles(low=0.5, high=99.5), half=True)
    found = of_file(nifti(tmp_path / "a.nii", values), card(2), reading)
    assert found.shape == (1, 2, 6, 5, 4) and np.array_equal(found, found.astype(np.float16))
    np.testing.assert_allclose(found[0, 0], ((VOXELS.T + 125) / 400).clip(0, 1), atol=1e-3)
    low, high = np.percentile(values[..., 1], (0.5, 99.5))
    np.testing.assert_allclose(found[0, 1], ((values[..., 1].T - low) / (high - low)).clip(0, 1), atol=1e-3)
    one = of_file(nifti(tmp_path / "b.nii", VOXELS[..., None]), card(1), volume())
    assert np.array_equal(one, of_file(nifti(tmp_path / "c.nii", VOXELS), card(1), volume()))


# -- arrays ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "pixels"),
    [("png", COLOUR), ("png", GREY), ("png", DEEP), ("png", GREY > 99), ("tif", DEEP / np.float32(65535))],
)
@pytest.mark.parametrize("reading", [PHOTOGRAPH, PICTURE], ids=["photograph", "picture"])
def test_an_array_is_read_as_the_file_that_holds_it(
    tmp_path: Path, ending: str, pixels: Array, reading: Reading
) -> None:
    about = card(3 if reading is PHOTOGRAPH or pixels.ndim == 3 else 1)
    expected = of_file(save(tmp_path / f"a.{ending}", pixels), about, reading)
    assert np.array_equal(of_array(pixels, about, reading, channels_first=False, name="a"), expected)
    first = pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels[None]
    found = of_array(first, about, reading, channels_first=True, name="a")
    assert found.dtype == np.float32 and np.array_equal(found, expected)


@pytest.mark.parametrize("kind", ["int16", "uint8", "float32", "float64"])
@pytest.mark.parametrize("scaling", [Window(low=-125, high=275), Percentiles(low=0.5, high=99.5), MinMax()])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_volume_is_read_as_the_file_that_holds_it(tmp_path: Path, kind: str, scaling: Any, channels: int) -> None:
    values = RNG.normal(100, 30, (channels, 6, 5, 4)).astype(kind)  # (channels, slices, rows, columns)
    reading, about = volume(scaling, half=True), card(channels)
    expected = of_file(nifti(tmp_path / "a.nii", values.T if channels > 1 else values[0].T), about, reading)
    shapes = [(values, True), (np.moveaxis(values, 0, -1), False)]
    if channels == 1:
        shapes += [(values[0], True), (values[0], False)]
    for array, first in shapes:
        found = of_array(array, about, reading, channels_first=first, name="a")
        assert found.dtype == np.float32 and np.array_equal(found, expected)


def test_one_slice_is_a_volume_of_one(tmp_path: Path) -> None:
    plane = VOXELS[0]
    expected = of_array(plane[None], card(1), volume(), channels_first=False, name="a")
    assert expected.shape == (1, 1, 1, 5, 6)
    for array, first in ((plane, False), (plane, True), (plane[..., None], False), (plane[None], True)):
        assert is_slice(array, card(1), volume(), channels_first=first) == (array.shape[0] != 1)
        assert np.array_equal(of_array(array, card(1), volume(), channels_first=first, name="a"), expected)
    two = np.stack([plane, -plane])
    for array, first in ((two, True), (two.transpose(1, 2, 0), False)):
        assert of_array(array, card(2), volume(), channels_first=first, name="a").shape == (1, 2, 1, 5, 6)


@given(st.sampled_from(["uint8", "uint16", "uint32"]), st.data())
def test_integers_go_over_the_range_of_their_type(kind: str, data: st.DataObject) -> None:
    most = np.iinfo(kind).max
    values = data.draw(st.lists(st.integers(0, most), min_size=1, max_size=6))
    found = of_array(np.array([values], kind), card(1), PICTURE, channels_first=False, name="a")
    np.testing.assert_allclose(found[0, 0, 0], np.array(values) / most, rtol=1e-6)


# -- refusals ----------------------------------------------------------------------------------------------------------


def array(values: Any, reading: Reading = PICTURE, channels: int = 3, first: bool = False) -> Callable[[Path], object]:
    return lambda path: of_array(np.asarray(values), card(channels), reading, channels_first=first, name=path.name)


def placeless(path: Path) -> Path:
    image = nib.Nifti1Image(VOXELS, None)
    image.header.set_sform(np.diag([1.0, 1, 0, 1]), 1)
    nib.save(image, path)
    return path


def turned() -> dict[str, Any]:
    exif = Pillow.Exif()
    exif[274] = 6
    return {"exif": exif}


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "four.tif": (
        lambda p: of_file(geotiff(p, np.zeros((4, *SHAPE), np.uint8)), card(), PHOTOGRAPH),
        "4 channels, the model was trained on 3 (Toys)",
    ),
    "grey.png": (lambda p: of_file(save(p, GREY), card(), PICTURE), "1 channel, the model was trained on 3 (Toys)"),
    "turned.jpg": (lambda p: of_file(save(p, COLOUR, **turned()), card(), PHOTOGRAPH), "stored turned"),
    "signed.tif": (lambda p: of_file(geotiff(p, np.zeros((1, *SHAPE), np.int16)), card(1), PICTURE), "int16 values"),
    "cine.nii": (
        lambda p: of_file(nifti(p, np.zeros((2, 2, 2, 30))), card(1), volume()),
        "30 channels, the model was trained on 1",
    ),
    "flat.nii": (lambda p: of_file(nifti(p, np.zeros((2, 2))), card(1), volume()), "shape (2, 2), a volume has 3 axes"),
    "complex.nii": (
        lambda p: of_file(nifti(p, np.zeros((2, 2, 2), np.complex64)), card(1), volume()),
        "holds complex64 values",
    ),
    "nowhere.nii": (
        lambda p: of_file(placeless(p), card(1), volume(axes="SPL")),
        "does not say how the volume lies",
    ),
    "axes": (array(np.zeros(4, np.uint8)), "shape (4,); give (rows, columns) or (rows, columns, channels)"),
    "slices": (
        array(np.zeros((1, 1, 2, 2, 2)), volume(), first=True),
        "give (slices, rows, columns) or (channels, slices, rows, columns)",
    ),
    "channels": (array(np.zeros((*SHAPE, 4), np.uint8)), "4 channels, the model was trained on 3"),
    "last": (array(np.zeros((3, *SHAPE), np.uint8)), "16 channels, the model was trained on 3"),
    "modalities": (array(np.zeros((4, 5, 6)), volume()), "1 channel, the model was trained on 3"),
    "integers": (array(np.zeros(SHAPE, np.int64), channels=1), "int64 values, whose white is unknown"),
    "range": (array(np.full(SHAPE, 255.0), channels=1), "float values from 255 to 255; divide"),
    "nan": (array(np.full(SHAPE, np.nan), volume(), 1), "holds values that are not finite"),
    "complex": (array(np.zeros(SHAPE, complex)), "complex128 values"),
    "objects": (array(np.full(SHAPE, None)), "object values"),
    "empty": (array(np.zeros((0, 3), np.uint8)), "shape (0, 3) holds no pixels"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_refused_by_name(tmp_path: Path, name: str) -> None:
    action, message = BAD[name]
    with pytest.raises(InputError) as told:
        action(tmp_path / name)
    assert f"{name}: " in str(told.value) and message in str(told.value) and "\n" not in str(told.value)


def test_without_nibabel_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = nifti(tmp_path / "a.nii", VOXELS)
    monkeypatch.delattr(diffmatch.readers, "nifti", raising=False)
    monkeypatch.delitem(sys.modules, "diffmatch.readers.nifti", raising=False)
    monkeypatch.setitem(sys.modules, "nibabel", None)
    assert endings_of(volume()) == (".nii.gz", ".nii") and ".png" in endings_of(PICTURE)
    with pytest.raises(InputError, match=r"a\.nii: .*pip install nibabel"):
        of_file(path, card(1), volume())
