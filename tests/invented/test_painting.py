"""Invented photographs: repeatable, in range, with looks that differ."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffmatch.invented.painting import look, outline, photograph, surroundings, texture

CLASSES = 81


def test_no_two_classes_look_the_same():
    looks = [look(c) for c in range(CLASSES)]
    assert len({(tuple(np.round(a.color, 3)), a.pattern, a.angle, a.period, a.lobes) for a in looks}) == CLASSES
    for a, b in ((a, b) for i, a in enumerate(looks) for b in looks[:i]):
        near = np.abs(np.subtract(a.color, b.color)).max() < 0.04
        assert not near or (a.pattern, a.angle, a.period, a.lobes) != (b.pattern, b.angle, b.period, b.lobes)


@pytest.mark.parametrize("klass", [0, 1, 2, 40])
def test_the_same_seed_paints_the_same(klass):
    a, b, c = (texture(np.random.default_rng(seed), (8, 9), klass) for seed in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


@given(st.integers(0, 80), st.floats(0.1, 12), st.integers(0, 31), st.integers(0, 23), st.integers(0, 2**31))
def test_an_outline_holds_its_centre_and_is_no_larger_than_told(klass, radius, row, column, seed):
    inside = outline(np.random.default_rng(seed), (32, 24), (row, column), radius, klass)
    assert inside[row, column]
    rows, columns = np.nonzero(inside)
    assert np.hypot(rows - row, columns - column).max() <= max(1.22 * radius, 0.75) + 1e-9


def test_a_photograph_uses_its_range_and_single_pixels_say_little():
    """Light, tint and noise move a pixel by more than classes lie apart."""
    rng = np.random.default_rng(0)
    scene = surroundings(rng, (64, 64))
    shots = np.stack([photograph(rng, scene) for _ in range(20)]).astype(float)
    assert shots.dtype == float
    assert shots.min() >= 0
    assert 30 < shots.mean() < 200
    assert shots.std(0).mean() > 12
