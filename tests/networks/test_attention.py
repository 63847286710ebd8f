"""Deformable attention against a reference that visits one position, head, point and pixel after the other."""

from __future__ import annotations

import math

import pytest
import torch

from diffmatch.domain import InputError
from diffmatch.networks.attention import DeformableAttention, deformable_sampling


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def bilinear(value, x, y):
    """value (d, H, W) at pixel coordinates x, y (pixel centres are whole numbers), 0 outside."""
    total = torch.zeros(value.shape[0])
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < value.shape[1] and 0 <= column < value.shape[2]:
                total += (1 - abs(x - column)) * (1 - abs(y - row)) * value[:, row, column]
    return total


def naive(attention, x, height, width):
    """Zhu et al. 2020, Eq. 2, position by position."""
    n, positions, dim = x.shape
    heads, points, d = attention.heads, attention.points, dim // attention.heads
    value = attention.value(x)
    offsets = attention.offsets(x).view(n, positions, heads, points, 2)
    weights = attention.weights(x).view(n, positions, heads, points).softmax(-1)
    found = torch.zeros(n, positions, dim)
    for b in range(n):
        for q in range(positions):
            for h in range(heads):
                maps = value[b, :, h * d : (h + 1) * d].T.view(d, height, width)
                for k in range(points):
                    dx, dy = offsets[b, q, h, k].tolist()
                    found[b, q, h * d : (h + 1) * d] += weights[b, q, h, k] * bilinear(
                        maps, q % width + dx, q // width + dy
                    )
    return attention.output(found)


@pytest.mark.parametrize(("height", "width"), [(4, 5), (1, 3), (5, 2)])
def test_equals_the_reference(height, width):
    attention = DeformableAttention(12, 3, 2)
    with torch.no_grad():
        for linear in (attention.offsets, attention.weights):
            linear.weight.normal_(0, 0.5)
        x = torch.randn(2, height * width, 12)
        torch.testing.assert_close(
            attention(x, height, width), naive(attention, x, height, width), atol=1e-5, rtol=1e-5
        )


def test_points_outside_the_map_give_zero():
    value = torch.ones(1, 1, 2, 3, 3)
    locations = torch.tensor([[-3.0, 0.0], [0.0, 2.5], [0.0, 0.0]]).view(1, 1, 1, 3, 2)
    found = deformable_sampling(value, locations, torch.ones(1, 1, 1, 3))
    assert found.tolist() == [[[0, 0, 1], [0, 0, 1]]]


def test_points_half_outside_fade():
    value, edge = torch.ones(1, 1, 1, 2, 2), torch.tensor([-1.0, -0.5]).view(1, 1, 1, 1, 2)
    assert deformable_sampling(value, edge, torch.ones(1, 1, 1, 1)).item() == pytest.approx(0.5)


def test_weights_are_summed_over_points_and_heads_stay_apart():
    value = torch.arange(2.0).view(1, 2, 1, 1, 1).expand(1, 2, 3, 4, 4) + 1
    locations, weights = torch.zeros(1, 2, 2, 5, 2), torch.tensor([0.25, 0.5]).view(1, 1, 2, 1).expand(1, 2, 2, 5)
    found = deformable_sampling(value, locations, weights)
    assert found.shape == (1, 6, 5)
    torch.testing.assert_close(found[0, :, 0], torch.tensor([0.75] * 3 + [1.5] * 3))


def test_each_head_starts_in_its_own_direction_one_pixel_further_per_point():
    bias = DeformableAttention(16, 8, 4).offsets.bias.detach().view(8, 4, 2)
    torch.testing.assert_close(bias[0], torch.tensor([[1.0, 0], [2, 0], [3, 0], [4, 0]]))
    torch.testing.assert_close(bias[2], torch.tensor([[0.0, 1], [0, 2], [0, 3], [0, 4]]), atol=1e-6, rtol=0)
    torch.testing.assert_close(bias[5, 0], torch.tensor([-1.0, -1]))
    assert len(bias[:, 0].unique(dim=0)) == 8


def test_gradient_reaches_offsets_and_weights():
    attention = DeformableAttention(8, 2, 2)
    attention(torch.randn(1, 12, 8), 3, 4).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in attention.parameters())


def test_dim_must_be_a_multiple_of_heads():
    with pytest.raises(InputError, match="multiple"):
        DeformableAttention(10, 4, 1)
