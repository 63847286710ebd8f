"""What cross teaching has beyond CPS: a network without convolutions, and a weight that rises."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from diffmatch.learning.batch import Progress
from diffmatch.networks.transformer import TransformerNetwork


def test_one_network_convolves_and_the_other_does_not(planned: Any) -> None:
    method = planned("cross_teaching").build()
    convolutions = [
        [m for m in network.modules() if isinstance(m, nn.modules.conv._ConvNd)]
        for network in (method.network, method.second)
    ]
    assert convolutions[0] and not convolutions[1]
    assert sum(q.numel() for q in method.second.parameters()) < 40_000  # it shrinks with network.dim


def test_weight_ramps_up(planned: Any, draw: Any) -> None:
    p = planned("cross_teaching")
    method, batch = p.build().train(), draw(p)
    start, end = (method.losses(batch, Progress(step, 10)).terms["unsup"] for step in (0, 10))
    # labels come from eval mode, whose statistics the first call has moved for the CNN: the second is asked twice at
    # the end
    again = planned("cross_teaching").build().train().losses(batch, Progress(10, 10)).terms["unsup"]
    torch.testing.assert_close(start, again * math.exp(-5))
    assert end > start


@pytest.mark.parametrize("dates, channels", [(1, 1), (1, 3), (2, 3)])
@pytest.mark.parametrize("size", [(32, 32), (37, 51), (7, 90)])
def test_any_size_channels_and_dates(dates: int, channels: int, size: tuple[int, int], planned: Any) -> None:
    p = planned("cross_teaching", network__dim=10)  # not a multiple of what heads and positions ask for
    network = TransformerNetwork(p.card.model_copy(update={"dates": dates, "channels": channels}), p.settings, 2).eval()
    images = torch.randn(2, dates, channels, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        scores = network(images)
        assert scores.shape == (2, 4, *size) and scores.dtype == torch.float32 and scores.isfinite().all()
        torch.testing.assert_close(network(images[:1]), scores[:1])
        if dates == 2:
            torch.testing.assert_close(network(images.flip(1)), scores)  # an absolute difference
            assert not torch.allclose(network(images[:, :1].expand_as(images)), scores)


def test_tokens_know_where_they_are(planned: Any) -> None:
    """Positions differ from token to token; an image larger than the crop stretches the crop's positions, a smaller one
    has its first."""
    p = planned("cross_teaching")
    network = TransformerNetwork(p.card, p.settings, 1)
    crop = network.positions(4, 4, torch.empty(0))[0]
    assert crop.shape == (16, network.width) and len(crop.unique(dim=0)) == 16
    torch.testing.assert_close(network.positions(4, 2, torch.empty(0))[0].view(4, 2, -1), crop.view(4, 4, -1)[:, :2])
    large = network.positions(8, 4, torch.empty(0))[0].view(8, 4, -1)
    torch.testing.assert_close(large[[0, -1]], crop.view(4, 4, -1)[[0, -1]])
    with torch.no_grad():
        blank = network(torch.zeros(1, 1, 1, 32, 32))[0]
    assert not torch.allclose(
        blank[:, 2:6, 2:6], blank[:, 10:14, 18:22], atol=1e-3
    )  # two patches, away from their edges


def test_scores_lie_where_the_pixels_are(planned: Any) -> None:
    """It learns to copy a fine random pattern of an oblong image, which it could not if patches came back in another
    order."""
    p = planned("cross_teaching")
    torch.manual_seed(0)
    network = TransformerNetwork(p.card, p.settings, 2)
    descent = torch.optim.AdamW(network.parameters(), 1e-2)

    def toy() -> tuple[torch.Tensor, torch.Tensor]:
        mask = torch.randint(0, 4, (4, 8, 12)).repeat_interleave(4, 1).repeat_interleave(4, 2)
        return mask[:, None, None] - 1.5, mask

    for _ in range(150):
        x, y = toy()
        descent.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        descent.step()
    x, y = toy()
    with torch.no_grad():
        assert (network(x).argmax(1) == y).float().mean() > 0.8
