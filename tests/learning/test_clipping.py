"""The gradient of a loss is held to a norm, its value is not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from diffmatch.learning.clipping import with_clipped_gradient


@pytest.mark.parametrize("limit", [1.0, 1e6])
def test_it_is_what_torch_clips_to(limit: float) -> None:
    """`clip_grad_norm_` over all parameters together, and the loss itself where the norm is smaller."""
    torch.manual_seed(0)
    layers, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)), 10 * torch.randn(5, 3)
    loss = layers(x).square().sum()
    loss.backward(retain_graph=True)
    norm = nn.utils.clip_grad_norm_(layers.parameters(), limit)
    assert norm > 1
    expected = [p.grad.clone() for p in layers.parameters()]
    layers.zero_grad()
    found = with_clipped_gradient(loss, layers.parameters(), limit)
    torch.testing.assert_close(found, loss)
    (2 * found).backward()
    for parameter, gradient in zip(layers.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * gradient)


def test_nothing_but_the_parameters_learns_and_no_gradient_is_no_error() -> None:
    weight, other = nn.Parameter(torch.tensor([2.0])), nn.Parameter(torch.tensor([3.0]))
    with_clipped_gradient((weight * other).sum(), [weight], 1.0).backward()
    assert weight.grad == 1 and other.grad is None
    with_clipped_gradient((0 * weight).sum(), [weight], 1.0).backward()
    assert weight.grad == 1
