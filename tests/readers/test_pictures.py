"""Every kind of picture.

No channel lost, no depth lost unsaid, white is 1, and what is unclear is refused by name.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from diffmatch.domain import InputError
from diffmatch.readers import pictures
from diffmatch.readers.pictures import Header, header, picture, scene

SHAPE = (12, 16)
COLOUR = np.full((*SHAPE, 3), (200, 90, 30), np.uint8)
GREY = COLOUR[..., 0]
Array = NDArray[Any]


def save(path: Path, pixels: Any, **options: Any) -> Path:
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path, **options)
    return path


def geotiff(path: Path, bands: Array, **options: Any) -> Path:
    """(bands, H, W) as a GeoTIFF."""
    rasterio = pytest.importorskip("rasterio")
    shape = dict(zip(("count", "height", "width"), bands.shape, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(
            path, "w", driver="GTiff", dtype=bands.dtype, **shape, **({"photometric": "minisblack"} | options)
        ) as file:
            file.write(bands)
    return path


@pytest.mark.parametrize(
    ("name", "pixels", "first"),
    [
        ("grey.png", GREY, [200 / 255]),
        ("colour.png", COLOUR, [200 / 255, 90 / 255, 30 / 255]),
        ("colour.BMP", COLOUR, [200 / 255, 90 / 255, 30 / 255]),
        ("colour.tif", COLOUR, [200 / 255, 90 / 255, 30 / 255]),
        ("colour.jpg", COLOUR, [200 / 255, 90 / 255, 30 / 255]),
        ("cmyk.jpg", Image.fromarray(COLOUR).convert("CMYK"), [200 / 255, 90 / 255, 30 / 255]),
        ("palette.png", Image.fromarray(COLOUR).quantize(4), [200 / 255, 90 / 255, 30 / 255]),
        ("transparent.png", np.dstack([COLOUR, GREY]), [200 / 255, 90 / 255, 30 / 255]),
        ("grey_transparent.png", np.dstack([GREY, GREY]), [200 / 255]),
        ("deep.png", GREY.astype(np.uint16) * 200, [40000 / 65535]),
        ("deep.tif", GREY.astype(np.uint16) * 200, [40000 / 65535]),
        ("float.tif", np.full(SHAPE, 0.25, np.float32), [0.25]),
        ("bit.png", GREY > 127, [1]),
    ],
)
def test_kinds_of_pictures(tmp_path: Path, name: str, pixels: Any, first: list[float]) -> None:
    path = save(tmp_path / name, pixels)
    found = picture(path)
    assert (
        found.dtype == np.float32 and found.shape == (len(first), *SHAPE) and header(path) == Header(len(first), *SHAPE)
    )
    np.testing.assert_allclose(found[:, 5, 5], first, atol=0.02 if name.endswith("jpg") else 1e-6)


@pytest.mark.parametrize(
    ("kind", "channels", "options"),
    [
        ("uint16", 4, {}),
        ("uint16", 3, {"photometric": "rgb"}),
        ("uint8", 2, {}),
        ("uint8", 4, {"photometric": "rgb"}),
        ("uint8", 7, {"compress": "deflate", "tiled": True, "blockxsize": 16, "blockysize": 16}),
        ("float32", 5, {}),
        ("uint32", 1, {}),
    ],
)
def test_a_tiff_keeps_all_channels_and_bits(tmp_path: Path, kind: str, channels: int, options: dict[str, Any]) -> None:
    white = 1.0 if kind == "float32" else float(np.iinfo(kind).max)
    bands = (np.random.default_rng(0).random((channels, *SHAPE)) * white).astype(kind)
    path = geotiff(tmp_path / "a.tif", bands, **options)
    assert header(path) == Header(channels, *SHAPE)
    np.testing.assert_allclose(picture(path), bands / white, atol=1e-6)


@pytest.mark.parametrize(("kind", "channels"), [("uint8", 1), ("uint8", 3), ("uint16", 4), ("float32", 2)])
def test_windows_of_a_large_tiff_are_parts_of_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, channels: int
) -> None:
    white = 1.0 if kind == "float32" else float(np.iinfo(kind).max)
    path = geotiff(tmp_path / "a.tif", (np.random.default_rng(0).random((channels, *SHAPE)) * white).astype(kind))
    assert scene(path) is None
    monkeypatch.setattr(pictures, "LARGE", 0)
    large = scene(path)
    assert large is not None and large.shape == (1, channels, *SHAPE)
    assert np.array_equal(large.read(2, 3, 7, 13), picture(path)[None, :, 2:9, 3:16])
    assert np.array_equal(large.read(0, 0, *SHAPE), picture(path)[None])


def test_what_windows_would_read_otherwise_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "LARGE", 0)
    palette, bits = Image.fromarray(COLOUR).quantize(4), Image.fromarray(GREY > 127)
    assert [
        scene(save(tmp_path / name, pixels))
        for name, pixels in (("a.png", COLOUR), ("p.tif", palette), ("b.tif", bits))
    ] == [None] * 3
    assert scene(save(tmp_path / "cmyk.tif", Image.fromarray(COLOUR).convert("CMYK"))) is None
    assert scene(geotiff(tmp_path / "white.tif", GREY[None], photometric="miniswhite")) is None
    pages = save(tmp_path / "pages.tif", COLOUR, save_all=True, append_images=[Image.fromarray(COLOUR)])
    grey = geotiff(tmp_path / "grey.tif", GREY[None])
    assert scene(pages) is None and scene(grey) is not None
    monkeypatch.setitem(sys.modules, "rasterio", None)
    assert scene(grey) is None


@pytest.mark.parametrize("kind", ["png", "jpeg", "bmp"])
def test_another_format_under_a_tiff_s_name_is_read_as_what_it_is(tmp_path: Path, kind: str) -> None:
    path = save(tmp_path / "a.tif", COLOUR, format=kind)
    assert header(path) == Header(3, *SHAPE)
    np.testing.assert_allclose(picture(path)[:, 5, 5], COLOUR[5, 5] / 255, atol=0.02 if kind == "jpeg" else 1e-6)


def test_pages_under_a_tiff_s_name_that_are_no_tiff(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", GREY, format="gif", save_all=True, append_images=[Image.fromarray(255 - GREY)])
    assert header(path).height == SHAPE[0]


def test_without_rasterio_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = geotiff(tmp_path / "a.tif", np.zeros((4, *SHAPE), np.uint16))
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(InputError, match=r"a\.tif: .*pip install rasterio"):
        picture(path)


def turned() -> dict[str, Any]:
    exif = Image.Exif()
    exif[274] = 6
    return {"exif": exif}


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "turned.jpg": (lambda p: header(save(p, COLOUR, **turned())), "stored turned"),
    "pages.tif": (
        lambda p: header(save(p, COLOUR, save_all=True, append_images=[Image.fromarray(COLOUR)])),
        "holds several pages",
    ),
    "float.tif": (lambda p: picture(save(p, np.full(SHAPE, 3.5, np.float32))), "float values from 3.5 to 3.5; divide"),
    "nan.tif": (lambda p: picture(save(p, np.full(SHAPE, np.nan, np.float32))), "not finite on 192 pixels of 192"),
    "signed.tif": (lambda p: picture(geotiff(p, np.zeros((1, *SHAPE), np.int16))), "int16 values"),
    "no.tif": (lambda p: picture(p), "no such file"),
    "text.tif": (lambda p: [p.write_text("hello"), picture(p)], "cannot be read as an image"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_unclear_is_refused_by_name(tmp_path: Path, name: str) -> None:
    action, message = BAD[name]
    with pytest.raises(InputError) as caught:
        action(tmp_path / name)
    assert name in str(caught.value) and message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
def test_a_tiff_cut_anywhere_is_told_by_name(tmp_path: Path, kind: str) -> None:
    whole = geotiff(
        tmp_path / "whole.tif", (np.random.default_rng(0).random((4, 64, 64)) * 255).astype(kind)
    ).read_bytes()
    for share in (0, 0.1, 0.5, 0.95):
        (tmp_path / "cut.tif").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(InputError, match=r"cut\.tif: "):
            picture(tmp_path / "cut.tif")


def test_overviews_are_no_pages(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    path = geotiff(tmp_path / "a.tif", np.full((3, 64, 64), 51, np.uint8), photometric="rgb")
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4])
    assert header(path) == Header(3, 64, 64) and np.allclose(picture(path), 0.2)
