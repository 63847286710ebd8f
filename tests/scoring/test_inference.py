"""Predicting whole items: windows, padding and resizing, volumes slice by slice."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffmatch.domain import Item, Protocol
from diffmatch.scoring.inference import batches, framed, predict_images, predict_item, sliding, starts
from diffmatch.settings import Data

WHOLE = Protocol(name="whole", title="", mode="image")


def data(**changes) -> Data:
    return Data(**({"crop": 8, "mean": (0.0,), "std": (1.0,)} | changes))


def pointwise(images, keys, offset):
    """Two probabilities that depend on the pixel alone."""
    p = images[:, 0, :1].sigmoid()
    return torch.cat([p, 1 - p], 1)


# -- windows -----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 60), st.integers(1, 30), st.integers(1, 30))
def test_windows_cover_an_axis_and_end_at_its_border(length, window, stride):
    stride = min(stride, window)
    first = starts(length, window, stride)
    assert first[0] == 0
    if length <= window:
        assert first == [0]
        return
    assert first == sorted(set(first))
    assert first[-1] + window == length
    assert all(b - a <= stride for a, b in pairwise(first))
    assert {i for start in first for i in range(start, start + window)} == set(range(length))


def test_the_last_window_is_shifted_to_the_border():
    assert starts(10, 4, 3) == [0, 3, 6]
    assert starts(11, 4, 3) == [0, 3, 6, 7]
    assert starts(4, 4, 2) == [0]
    assert starts(2048, 801, 534) == [0, 534, 1068, 1247]
    assert starts(2048, 801, 534, cut=True) == [0, 534, 1068, 1602], "UniMatch's windows: the last is cut at the border"
    assert starts(1024, 801, 534, cut=True) == [0, 534]


def test_cut_windows_are_smaller_at_the_border():
    seen = []

    def predict(images, keys, offset):
        seen.append((*offset, *images.shape[-2:]))
        return torch.ones(1, 2, *images.shape[-2:]) / 2

    found = sliding(predict, torch.zeros(1, 1, 1, 4, 7), ["scene"], 4, 3, cut=True)
    assert seen == [(0, 0, 4, 4), (0, 3, 4, 4), (0, 6, 4, 1), (3, 0, 1, 4), (3, 3, 1, 4), (3, 6, 1, 1)]
    assert torch.equal(found, torch.full((1, 2, 4, 7), 0.5))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 9), st.integers(1, 9))
def test_a_pointwise_predictor_gives_the_same_in_windows_as_on_the_whole(height, width, window, stride):
    images = torch.randn(2, 1, 1, height, width, generator=torch.Generator().manual_seed(0))
    found = sliding(pointwise, images, ["a", "b"], window, min(stride, window))
    torch.testing.assert_close(found, pointwise(images, ["a", "b"], (0, 0)), atol=1e-6, rtol=0)


def test_windows_get_their_keys_and_offsets_and_overlaps_are_averaged():
    calls = []

    def predict(images, keys, offset):
        calls.append((offset, tuple(keys), tuple(images.shape[-2:])))
        return torch.full((1, 1, *images.shape[-2:]), float(offset[1]))

    found = sliding(predict, torch.zeros(1, 1, 1, 4, 7), ["scene"], 4, 3)
    assert calls == [((0, 0), ("scene",), (4, 4)), ((0, 3), ("scene",), (4, 4))]
    assert found[0, 0, 0].tolist() == [0, 0, 0, 1.5, 3, 3, 3]


# -- framing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(8, 8), (5, 6), (5, 11), (13, 20)])
@pytest.mark.parametrize("dates", [1, 2])
def test_there_and_back_without_a_resize_is_exact(height, width, dates):
    images = torch.rand(3, dates, 1, height, width)
    ready, back = framed(images, data())
    assert ready.shape == (3, dates, 1, max(8, height), max(8, width))
    assert torch.equal(back(ready[:, 0]), images[:, 0])
    assert ready.sum() == pytest.approx(float(images.sum()), rel=1e-5), "padded with zeros"


def test_padding_is_zero_before_normalisation_and_about_the_centre():
    ready, _ = framed(torch.full((1, 1, 1, 5, 8), 0.5), data(mean=(0.5,), std=(0.25,)))
    assert ready[0, 0, 0, :, 0].tolist() == [-2, 0, 0, 0, 0, 0, -2, -2]


def test_there_and_back_with_a_resize_keeps_grid_and_picture():
    y, x = torch.meshgrid(torch.linspace(0, 1, 30), torch.linspace(0, 1, 21), indexing="ij")
    images = torch.stack([x, y])[:, None, None]
    ready, back = framed(images, data(resize=24))
    assert ready.shape[-2:] == (24, 24)
    maps = back(ready[:, 0])
    assert maps.shape == (2, 1, 30, 21)
    torch.testing.assert_close(maps, images[:, 0], atol=0.03, rtol=0)


def test_resized_pairs_and_channels_are_not_mixed():
    images = torch.rand(2, 2, 3, 10, 12)
    how = data(resize=9, crop=9, mean=(0.0,) * 3, std=(1.0,) * 3)
    ready, _ = framed(images, how)
    for n in range(2):
        for d in range(2):
            torch.testing.assert_close(framed(images[n : n + 1, d : d + 1], how)[0][0, 0], ready[n, d])


def test_label_maps_go_back_without_new_labels():
    _, back = framed(torch.zeros(1, 1, 1, 20, 30), data(resize=8))
    labels = torch.randint(0, 2, (1, 1, 8, 8)).float() * 3
    assert set(back(labels, "nearest").unique().tolist()) <= {0, 3}
    assert back(labels, "nearest").shape == (1, 1, 20, 30)


@pytest.mark.parametrize("resize", [None, 12])
def test_probabilities_come_back_on_the_own_grid_and_sum_to_one(resize):
    images = torch.randn(2, 1, 1, 6, 17)
    for protocol in (WHOLE, Protocol(name="w", title="", mode="window", window=8, stride=5)):
        found = predict_images(pointwise, images, ["a", "b"], data(resize=resize), protocol)
        assert found.shape == (2, 2, 6, 17)
        torch.testing.assert_close(found.sum(1), torch.ones(2, 6, 17))
        if resize is None:
            torch.testing.assert_close(found, pointwise(images, ["a", "b"], (0, 0)), atol=1e-6, rtol=0)


# -- items -------------------------------------------------------------------------------------------------------------


class Recorder:
    """A method as far as prediction needs one: pointwise, and remembers the keys."""

    def __init__(self):
        self.keys = []

    def probabilities(self, images, keys, offset=(0, 0)):
        assert len(images) == len(keys)
        self.keys += keys
        return pointwise(images, keys, offset)


@pytest.mark.parametrize("batch", [1, 2, 5, 8])
def test_a_volume_is_predicted_slice_by_slice_and_stacked_in_order(batch):
    image = np.random.default_rng(0).normal(size=(1, 1, 5, 6, 9)).astype(np.float32)
    method = Recorder()
    found = predict_item(
        method, Item("p1", "p1"), image, data(), Protocol(name="v", title="", mode="volume"), batch, torch.device("cpu")
    )
    assert found.probabilities.shape == (2, 5, 6, 9)
    np.testing.assert_allclose(found.probabilities[0], 1 / (1 + np.exp(-image[0, 0])), rtol=1e-5)
    assert found.labels.dtype == np.uint8
    np.testing.assert_array_equal(found.labels, (image[0, 0] < 0).astype(np.uint8))
    assert method.keys == [f"p1/{z}" for z in range(5)]


def test_an_image_is_one_slice_and_may_be_read_only():
    image = np.zeros((2, 1, 6, 9), np.float32)
    image.flags.writeable = False
    found = predict_item(Recorder(), Item("i", "i"), image, data(), WHOLE, 4, torch.device("cpu"))
    assert found.probabilities.shape == (2, 6, 9)


def test_groups_hold_equal_sizes_in_order():
    sizes = [4, 4, 4, 5, 4, 4]
    items = [(Item(str(k), str(k)), np.zeros((1, 1, s, s), np.float32)) for k, s in enumerate(sizes)]
    assert [[item.id for item, _ in group] for group in batches(iter(items), 2)] == [
        ["0", "1"],
        ["2"],
        ["3"],
        ["4", "5"],
    ]
    assert list(batches([], 3)) == []
