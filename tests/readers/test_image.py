"""Photographs in every mode that data sets come in."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image as Pillow

from diffmatch.domain import InputError
from diffmatch.readers import masks
from diffmatch.readers.image import check_upright, opened, photograph, same_size, size


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "CMYK"])
def test_every_photograph_is_rgb_in_0_1(tmp_path, mode):
    path = tmp_path / f"x.{'tif' if mode == 'CMYK' else 'png'}"
    Pillow.new("RGB", (3, 2), (255, 255, 255)).convert(mode).save(path)
    image = photograph(path)
    assert (image.shape, image.dtype) == ((3, 2, 3), np.float32)
    assert image.max() == pytest.approx(1)
    assert size(path) == (2, 3)


@pytest.mark.parametrize("flag", range(9))
def test_a_photograph_that_a_flag_turns_is_refused_from_elsewhere_only(tmp_path, flag):
    """0 and 1 leave it as it is; a set's own files are read as they are stored."""
    exif = Pillow.Exif()
    exif[274] = flag
    path = tmp_path / "phone.jpg"
    Pillow.fromarray(np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)).save(path, exif=exif)
    stored = photograph(path)
    assert stored.shape == (3, 4, 6)
    with opened(path) as image:
        if flag < 2:
            check_upright(image, path)
        else:
            with pytest.raises(InputError, match=r"phone\.jpg: stored turned"):
                check_upright(image, path)


@pytest.mark.parametrize(
    ("name", "mode", "values"),
    [
        ("deep.png", "I;16", np.full((2, 3), 40_000, np.uint16)),
        ("integers.tif", "I", np.full((2, 3), 40_000, np.int32)),
        ("float.tif", "F", np.full((2, 3), 0.5, np.float32)),
    ],
)
def test_a_photograph_of_more_than_8_bit_is_refused_with_the_way_out(tmp_path, name, mode, values):
    Pillow.fromarray(values).save(tmp_path / name)
    assert Pillow.open(tmp_path / name).mode == mode
    with pytest.raises(InputError, match=rf"{name}: .*convert it to 8 bit, or take the `folder` plugin") as told:
        photograph(tmp_path / name)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("reader", [photograph, masks.read])
def test_a_file_that_ends_early_is_named(tmp_path, ending, keep, reader):
    path = tmp_path / f"x.{ending}"
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    Pillow.fromarray(pixels).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    lossy = "|a mask as JPEG" if reader is masks.read else ""
    with pytest.raises(InputError, match=rf"x\.{ending}: (cannot be read as an image{lossy})"):
        reader(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.png: no such file"):
        photograph(tmp_path / "gone.png")


def test_sizes_are_compared_and_both_files_named(tmp_path):
    with pytest.raises(InputError, match=r"m\.png: 3 x 2 pixels, but i\.jpg has 4 x 2"):
        same_size(np.zeros((2, 3)), tmp_path / "m.png", np.zeros((3, 2, 4)), tmp_path / "i.jpg")
    same_size(np.zeros((2, 3)), tmp_path / "m.png", np.zeros((3, 2, 3)), tmp_path / "i.jpg")
