"""Pairs of files that no set holds: the later date is found beside the earlier one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffmatch.domain import InputError
from diffmatch.readers.pairs import beside


def write(path: Path, value: int, side: int = 4) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.full((side, 5, 3), value, np.uint8)).save(path)
    return path


def test_both_dates_in_their_order(tmp_path: Path) -> None:
    before = write(tmp_path / "A" / "x.png", 51)
    write(tmp_path / "B" / "x.tif", 255)
    image = beside(before)
    assert image.shape == (2, 3, 4, 5) and image.dtype == np.float32
    assert np.allclose(image[0], 0.2) and np.allclose(image[1], 1)


def test_a_date_that_is_missing_or_of_another_size_is_told(tmp_path: Path) -> None:
    before, after = write(tmp_path / "A" / "x.png", 0), write(tmp_path / "B" / "y.png", 0)
    for path in (before, after):
        with pytest.raises(InputError, match=f"{path.name}: two dates are needed"):
            beside(path)
    write(tmp_path / "B" / "x.png", 0, side=3)
    with pytest.raises(InputError, match=r"B/x\.png: 5 x 3 pixels"):
        beside(before)


def test_a_date_of_16_bit_is_refused(tmp_path: Path) -> None:
    before, after = write(tmp_path / "A" / "x.png", 0), write(tmp_path / "B" / "x.png", 0)
    Image.fromarray(np.full((4, 5), 40_000, np.uint16)).save(after)
    with pytest.raises(InputError, match=r"B/x\.png: .*convert it to 8 bit"):
        beside(before)
