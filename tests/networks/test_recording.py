"""Inputs and outputs of a part, and no trace of the looking."""

from __future__ import annotations

import torch
from torch import nn

from diffmatch.networks.recording import recorded


def test_what_enters_and_what_leaves() -> None:
    layers = nn.Sequential(nn.Linear(2, 3), nn.ReLU(inplace=True), nn.Linear(3, 2))
    x = torch.randn(4, 2)
    with recorded(layers[0], layers[1]) as seen:
        layers(x)
        layers(2 * x)
    assert len(seen) == 4 and seen[0] is x and torch.equal(seen[2], 2 * x)
    torch.testing.assert_close(seen[3], layers[0](2 * x).relu())
    layers(x)
    assert len(seen) == 4
    with recorded(layers[2]) as seen:
        z = layers(x)
    assert torch.equal(seen[1], z) and seen[1].requires_grad
