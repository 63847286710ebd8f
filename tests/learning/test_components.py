"""Components without data-dependent shapes, against scipy's, and the boxes around them against AEL's code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from diffmatch.learning.components import bounding_box, components, random_component


def snake(side: int) -> Tensor:
    """One component that fills the map row by row."""
    flags = torch.zeros(side, side, dtype=torch.bool)
    flags[::2] = True
    flags[1::4, -1] = True
    flags[3::4, 0] = True
    return flags


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6])
def test_the_same_components_as_scipy(share: float) -> None:
    flags = torch.rand(2, 64, 48, generator=torch.Generator().manual_seed(0)) < share
    for own, found in zip(flags, components(flags), strict=True):
        labels, count = ndimage.label(own.numpy(), np.ones((3, 3)))
        assert (found >= 0).equal(own)
        pairs = {(a, b) for a, b in zip(labels.flat, found.flatten().tolist(), strict=True) if a}
        assert len(pairs) == count == len({b for _, b in pairs})


def test_long_ways_are_one_component() -> None:
    (found,) = components(snake(257)[None])
    assert found.unique().tolist() == [-1, 257 * 257 - 1]


def test_boxes_of_aels_code() -> None:
    """hzhupku/SemiSeg-AEL 747c797, utils.py 180-208 with `no_pad` and `no_slim`, 200 draws each: the same set of
    boxes."""
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[2:6, 3:9], mask[10, 10], mask[12:15, 1:4], mask[6, 9] = True, True, True, True
    for area, expected in (
        (0.03, {(2, 3, 7, 10), (12, 1, 15, 4)}),
        (0.0, {(2, 3, 7, 10), (10, 10, 11, 11), (12, 1, 15, 4)}),
    ):
        torch.manual_seed(0)
        boxes = bounding_box(random_component(mask.expand(60, -1, -1), area))
        corners = []
        for box in boxes:
            y, x = box.nonzero(as_tuple=True)
            assert len(y) == (y.max() - y.min() + 1) * (x.max() - x.min() + 1)
            corners.append((int(y.min()), int(x.min()), int(y.max()) + 1, int(x.max()) + 1))
        assert set(corners) == expected
        assert min(map(corners.count, expected)) > 60 / len(expected) / 2, "components are not drawn evenly"


def test_nothing_gives_nothing() -> None:
    flags = torch.zeros(2, 5, 7, dtype=torch.bool)
    flags[1, 2, 2] = True
    assert (components(flags[:1]) == -1).all()
    assert not random_component(flags, 0.1).any() and not bounding_box(flags[:1]).any()
