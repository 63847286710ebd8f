"""What is shown of pictures, volumes and scenes, and at which size."""

from __future__ import annotations

import numpy as np
import pytest

from diffmatch.domain import Scene
from diffmatch.model import blocks, display
from diffmatch.model.display import panels

RNG = np.random.default_rng(0)


def eight_bit(*shape: int) -> np.ndarray:
    return (RNG.integers(0, 256, shape) / 255).astype(np.float32)


def as_bytes(image: np.ndarray) -> np.ndarray:
    return np.round(image * 255).astype(np.uint8)


def test_a_picture_of_eight_bit_is_shown_as_it_is() -> None:
    image, labels = eight_bit(1, 3, 520, 600) * np.float32(0), RNG.integers(0, 3, (520, 600)).astype(np.uint8)
    image[...] = np.round(eight_bit(1, 3, 520, 600) * 60) / 255  # dark, and left so
    (panel,) = panels(image, labels, True)
    assert np.array_equal(panel.pixels, as_bytes(image[0]).transpose(1, 2, 0))
    assert np.array_equal(panel.labels, labels) and panel.caption == ""


@pytest.mark.parametrize(("channels", "expected"), [(1, [0, 0, 0]), (2, None), (3, [0, 1, 2]), (5, [0, 1, 2])])
def test_channels(channels: int, expected: list[int] | None) -> None:
    image = eight_bit(1, channels, 512, 20)
    (panel,) = panels(image, np.zeros((512, 20), np.uint8), True)
    shown = image[0, expected] if expected else np.repeat(image[0].mean(0)[None], 3, 0)
    assert np.array_equal(panel.pixels, as_bytes(shown).transpose(1, 2, 0))


def test_values_finer_than_eight_bit_that_use_little_of_their_range_are_stretched() -> None:
    image = RNG.random((1, 1, 512, 50), np.float32) * np.float32(0.03)
    (panel,) = panels(image, np.zeros((512, 50), np.uint8), True)
    assert panel.pixels.min() == 0 and panel.pixels.max() == 255
    (wide,) = panels(image * 30, np.zeros((512, 50), np.uint8), True)
    assert np.array_equal(wide.pixels[..., 0], as_bytes(image[0, 0] * 30))


@pytest.mark.parametrize(
    ("side", "shown"), [(64, 512), (300, 600), (512, 512), (2048, 2048), (2049, 1025), (6000, 2000)]
)
def test_sizes_of_pictures(side: int, shown: int) -> None:
    (panel,) = panels(np.zeros((1, 1, side, 4), np.float32), np.zeros((side, 4), np.uint8), True)
    assert len(panel.pixels) == len(panel.labels) == shown


def test_two_dates_stand_side_by_side_within_the_largest_size() -> None:
    image = eight_bit(2, 3, 30, 1500)
    first, second = panels(image, np.zeros((30, 1500), np.uint8), True)
    assert (first.caption, second.caption) == ("date 1", "date 2")
    assert first.pixels.shape == (15, 750, 3) and not np.array_equal(first.pixels, second.pixels)


@pytest.mark.parametrize("block", [1, 2**24])
def test_a_scene_is_averaged_and_its_classes_are_those_of_most_pixels(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By blocks of rows, and equal to the whole in plain loops; 7 does not divide the sides."""
    monkeypatch.setattr(display, "LARGEST", 20)
    monkeypatch.setattr(display, "SMALLEST", 1)
    monkeypatch.setattr(blocks, "BLOCK", block)
    image, labels = eight_bit(1, 3, 95, 134), RNG.integers(0, 3, (95, 134)).astype(np.uint8)
    asked = []

    def read(top: int, left: int, height: int, width: int) -> np.ndarray:
        asked.append(height)
        return image[..., top : top + height, left : left + width]

    (panel,) = panels(Scene(image.shape, read), labels, True)
    padded = np.pad(image, [(0, 0), (0, 0), (0, 3), (0, 6)], mode="edge")
    classes = np.pad(labels, [(0, 3), (0, 6)], mode="edge")
    assert panel.labels.shape == (14, 20) and (max(asked) == 7) == (block == 1)
    for y in range(14):
        for x in range(20):
            cell = np.s_[7 * y : 7 * y + 7, 7 * x : 7 * x + 7]
            assert panel.labels[y, x] == np.bincount(classes[cell].ravel()).argmax()
            assert np.abs(panel.pixels[y, x] - 255 * padded[0][(slice(None), *cell)].mean((1, 2))).max() < 0.51


def test_slices_that_hold_foreground() -> None:
    labels = np.zeros((40, 16, 8), np.uint8)
    labels[5:35, 3] = 2
    image = eight_bit(1, 2, 40, 16, 8)
    shown = panels(image, labels, True)
    assert [panel.caption for panel in shown][::11] == ["slice 6 of 40", "slice 35 of 40"]
    assert len(shown) == 12 and all(panel.pixels.shape == (512, 256, 3) and panel.labels.any() for panel in shown)


def test_slices_over_all_where_none_holds_foreground() -> None:
    shown = panels(eight_bit(1, 1, 5, 16, 8), np.zeros((5, 16, 8), np.uint8), True)
    assert [panel.caption for panel in shown] == [f"slice {z} of 5" for z in range(1, 6)]
    shown = panels(eight_bit(1, 1, 30, 16, 8), np.eye(30, 8, dtype=np.uint8)[:, None].repeat(16, 1), False)
    assert (shown[0].caption, shown[-1].caption) == ("slice 1 of 30", "slice 30 of 30")


def test_a_volume_of_two_dates() -> None:
    shown = panels(eight_bit(2, 1, 2, 16, 8), np.zeros((2, 16, 8), np.uint8), True)
    assert [panel.caption for panel in shown][:3] == [
        "slice 1 of 2, date 1",
        "slice 1 of 2, date 2",
        "slice 2 of 2, date 1",
    ]
