"""Maps on another grid."""

from __future__ import annotations

import torch

from diffmatch.domain import VOID
from diffmatch.learning.grids import nearest


def test_a_map_goes_to_a_grid_and_back() -> None:
    labels = torch.tensor([[[0, 1, 2, VOID], [3, 4, 5, 6]]], dtype=torch.uint8)
    large = nearest(labels, (4, 8))
    assert torch.equal(large, labels.repeat_interleave(2, 1).repeat_interleave(2, 2))
    assert torch.equal(nearest(large, (2, 4)), labels)
    assert nearest(labels > 2, (3, 5)).dtype == torch.bool
    assert nearest(labels, (1, 2)).tolist() == [[[4, 6]]]  # of several positions the one beside the middle
