"""Masks of class numbers: what the file stores decides, not its ending."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import rasterio
from PIL import Image as Pillow

from diffmatch.domain import InputError
from diffmatch.readers.masks import read

VALUES = np.array([[0, 1, 2], [15, 255, 1]], np.uint8)


def index_mask(path):
    return read(path).values


def save(path, pixels, **options):
    (pixels if isinstance(pixels, Pillow.Image) else Pillow.fromarray(pixels)).save(path, **options)
    return path


def geotiff(path, values, **options):
    """(H, W) as a TIFF by GDAL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shape = {"count": 1, "height": values.shape[0], "width": values.shape[1], "dtype": values.dtype}
        with rasterio.open(path, "w", driver="GTiff", **shape, **options) as file:
            file.write(values, 1)
    return path


def palette(path, values=VALUES):
    """A palette image whose colours say something else than its indices."""
    image = Pillow.fromarray(values, "P")
    image.putpalette([(i * 37) % 256 for i in range(768)])
    image.save(path)


def test_a_palette_is_not_looked_through(tmp_path):
    palette(tmp_path / "p.png")
    assert Pillow.open(tmp_path / "p.png").mode == "P"
    assert index_mask(tmp_path / "p.png").tolist() == VALUES.tolist()


@pytest.mark.parametrize(
    ("mode", "values"),
    [
        ("L", VALUES),
        ("I;16", np.array([[0, 65_535], [7, 256]], np.uint16)),
        ("I", np.array([[-1, 33], [0, 70_000]], np.int32)),
    ],
)
def test_gray_values_are_read_as_they_are(tmp_path, mode, values):
    path = tmp_path / ("mask.tif" if mode == "I" else "mask.png")
    Pillow.fromarray(values).save(path)
    assert Pillow.open(path).mode == mode
    assert index_mask(path).tolist() == values.tolist()


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_one_bit_becomes_zero_and_one(tmp_path, ending):
    bits = np.array([[True, False], [False, True]])
    Pillow.fromarray(bits).save(tmp_path / f"m.{ending}")
    assert index_mask(tmp_path / f"m.{ending}").tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "CMYK"])
def test_colours_where_indices_should_be_are_refused_with_the_way_out(tmp_path, mode):
    path = tmp_path / f"m.{'tif' if mode == 'CMYK' else 'png'}"
    Pillow.new(mode, (2, 2)).save(path)
    with pytest.raises(InputError, match=r"numpy\.select") as told:
        index_mask(path)
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)


def test_kinds_of_masks(tmp_path):
    raw = np.random.default_rng(0).choice([0, 1, 2, 255], (12, 16)).astype(np.uint8)
    indexed = Pillow.fromarray(raw).convert("P")
    indexed.putdata(raw.ravel().tolist())
    indexed.putpalette([255, 0, 0] * 256)
    paths = [
        save(tmp_path / "l.png", raw),
        save(tmp_path / "p.png", indexed),
        save(tmp_path / "deep.png", raw.astype(np.uint16)),
    ]
    paths += [save(tmp_path / "l.bmp", raw), geotiff(tmp_path / "8.tif", raw, compress="deflate")]
    paths += [geotiff(tmp_path / f"{kind}.tif", raw.astype(kind)) for kind in ("uint16", "int16", "int32")]
    for path in paths:
        assert np.array_equal(index_mask(path), raw), path.name
    assert np.array_equal(index_mask(save(tmp_path / "bit.png", raw > 0)), raw > 0)
