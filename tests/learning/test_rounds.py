"""The round of a step, and lots that a key alone decides."""

from __future__ import annotations

import torch

from diffmatch.learning.batch import Progress
from diffmatch.learning.rounds import lots, place


def test_rounds_are_equal_parts_of_the_training() -> None:
    assert [place(Progress(step, 7), 3) for step in range(7)] == [*[(0, 0)] * 3, *[(1, 3)] * 2, *[(2, 5)] * 2]
    assert [place(Progress(step, 2), 3) for step in range(2)] == [(0, 0), (1, 1)]  # the last round has no step
    assert [place(Progress(step, 2), 5) for step in range(2)] == [(0, 0), (2, 1)]
    assert all(place(Progress(step, 5), 1) == (0, 0) for step in range(5))
    assert place(Progress(0, 0), 3) == (0, 0)


def test_a_lot_belongs_to_its_key() -> None:
    pixels = torch.zeros(3, 40, 50)
    drawn = lots("one", ["a", "b", "c"], pixels)
    assert drawn.shape == pixels.shape and drawn.min() >= 0 and drawn.max() < 1
    assert abs(drawn.mean() - 0.5) < 0.02
    assert torch.equal(lots("one", ["c", "a"], pixels[:2]), drawn[[2, 0]])
    assert not torch.equal(lots("two", ["a", "b", "c"], pixels), drawn)
