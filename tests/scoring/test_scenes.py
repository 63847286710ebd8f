"""Scenes strip by strip give what windows over the whole image give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffmatch.data.augment import normalised
from diffmatch.scoring.inference import sliding
from diffmatch.scoring.scenes import predict_scene
from diffmatch.settings import Data

DATA = Data(crop=8, mean=(0.5,), std=(0.5,))


def predict(images, keys, offset):
    """Three classes whose probabilities depend on the pixel, the window's place and the key."""
    y = torch.arange(images.shape[-2])[:, None] + offset[0]
    x = torch.arange(images.shape[-1])[None] + offset[1]
    field = torch.sin(y * 0.3 + x * 0.7 + len(keys[0]) + offset[0] * 0.01)
    scores = torch.stack([images[0, :, 0].sum(0), field.float(), images[0, 0, 0] * field])
    return scores.softmax(0)[None]


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(4, 12),
    st.integers(1, 12),
    st.integers(5, 50),
    st.integers(0, 2**31),
)
def test_strips_equal_the_whole(height, width, window, stride, strip, seed):
    stride = min(stride, window)
    scene = np.random.default_rng(seed).random((2, 1, height, width), np.float32)
    whole = sliding(predict, normalised(torch.from_numpy(scene)[None], DATA), ["key"], window, stride)[0].numpy()
    blocks = predict_scene(
        predict,
        lambda top, left, h, w: np.ascontiguousarray(scene[:, :, top : top + h, left : left + w]),
        (height, width),
        key="key",
        data=DATA,
        window=window,
        stride=stride,
        strip=strip,
    )
    found = np.full_like(whole, np.nan)
    for block in blocks:
        _, h, w = block.probabilities.shape
        part = found[:, block.top : block.top + h, block.left : block.left + w]
        assert np.isnan(part).all(), "two blocks overlap"
        part[:] = block.probabilities
    np.testing.assert_allclose(found, whole, atol=1e-6)


def test_no_window_is_larger_than_asked_for():
    asked = []

    def read(top, left, h, w):
        asked.append((h, w))
        return np.zeros((2, 1, h, w), np.float32)

    sizes = [
        b.probabilities.shape
        for b in predict_scene(predict, read, (100, 90), key="k", data=DATA, window=16, stride=8, strip=32)
    ]
    assert set(asked) == {(16, 16)}
    assert max(h for _, h, _ in sizes) <= 16
    assert max(w for *_, w in sizes) <= 32


@pytest.mark.parametrize("size", [(5, 7), (16, 3)])
def test_a_scene_smaller_than_a_window_is_one_block(size):
    blocks = list(
        predict_scene(
            predict, lambda *a: np.zeros((2, 1, *a[2:]), np.float32), size, key="k", data=DATA, window=16, stride=8
        )
    )
    assert [b.probabilities.shape for b in blocks] == [(3, *size)]
