"""Landmarks, the relation to them, and the divergence of its orders, against the authors' numbers."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from diffmatch.learning import ranking
from diffmatch.learning.ranking import at_corners, landmarks, order_probabilities, rank_loss, relation


def waves(scale: float, shift: float) -> torch.Tensor:
    i = torch.arange(2 * 5 * 8 * 9).float()
    return (scale * torch.sin(1.7 * i + 0.01 * i * i + shift)).view(2, 5, 8, 9)


@pytest.fixture
def from_position(monkeypatch: pytest.MonkeyPatch):
    """The first landmark is this position instead of a random one."""

    def fix(first: int) -> None:
        monkeypatch.setattr(
            ranking.torch, "rand", lambda shape, device=None: (torch.arange(shape[1]) == first).float().expand(shape)
        )

    return fix


def test_landmarks_by_hand(from_position) -> None:
    """orthogonal_landmarks of mai556/RankMatch 30932595 (rankmatch.py 63-136) chooses the same."""
    vectors = torch.tensor([[1.0, 0], [0.9, 0.1], [0, 1], [-1, 0]]).T.reshape(1, 2, 1, 4)
    inside = torch.ones(1, 1, 4, dtype=torch.bool)
    for first, chosen in ((0, [0, 2, 1]), (1, [1, 2, 0]), (2, [2, 0, 1]), (3, [3, 2, 1])):
        from_position(first)
        assert landmarks(vectors, inside, 3).tolist() == [chosen]
    from_position(7)
    found = landmarks(waves(1, 0.3), torch.ones(2, 8, 9, dtype=torch.bool), 6).sort(1).values
    assert found.tolist() == [[5, 7, 34, 41, 57, 68], [2, 7, 8, 40, 48, 66]]


def test_landmarks_are_inside_and_all_different() -> None:
    torch.manual_seed(0)
    features, inside = torch.randn(3, 4, 5, 6), torch.ones(3, 5, 6, dtype=torch.bool)
    inside[0, :, 2:], inside[1, 1:] = False, False
    inside[2] = False
    positions = landmarks(features, inside, 6)
    assert all(len(set(row)) == 6 for row in positions.tolist())
    assert inside[:2].flatten(1).gather(1, positions[:2]).all()
    assert all(len(set(row)) == 30 for row in landmarks(features, inside, 30).tolist())
    assert len({int(landmarks(features, inside, 1)[0, 0]) for _ in range(30)}) > 3  # the first is drawn


def test_order_probabilities_by_hand() -> None:
    """prob2rank of mai556/RankMatch 30932595 (rankmatch.py 37-60) and its divergence (139-154)."""
    shares = torch.tensor([0.4, 0.3, 0.2, 0.1])
    taught = order_probabilities(shares)
    assert taught.shape == (24,)
    torch.testing.assert_close(taught[[0, -1]], torch.tensor([0.13333333, 0.00952381]))
    torch.testing.assert_close(taught.sum(), torch.tensor(1.0))
    uniform = order_probabilities(torch.full((4,), 0.25))
    torch.testing.assert_close((taught * (taught / uniform).log()).sum(), torch.tensor(0.3024025))
    against = order_probabilities(shares.flip(0))
    torch.testing.assert_close((taught * (taught / against).log()).mean(), torch.tensor(0.0489546), atol=1e-6, rtol=0)


def test_the_loss_by_hand_and_against_the_authors(from_position) -> None:
    """corr_loss of mai556/RankMatch 30932595 (rankmatch.py 139-154). With features thirty times as long a pixel gives
    its nearest landmark everything, and its epsilons make the loss vanish."""
    everything = torch.ones(1, 2, 2, dtype=torch.bool)
    weak = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]]).T.reshape(1, 2, 2, 2)
    strong = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -2]]).T.reshape(1, 2, 2, 2)
    torch.testing.assert_close(rank_loss(weak, strong, everything, 64, 4), torch.tensor(0.0155891), atol=1e-6, rtol=0)

    from_position(7)
    inside = torch.ones(2, 8, 9, dtype=torch.bool)
    for count, scale, value, norm in (
        (64, 1.0, 0.00660915, 0.00473574),
        (64, 4.0, 0.28111145, 0.04190712),
        (6, 1.0, 0.00730348, 0.00640848),
        (64, 30.0, 0.0, 0.0),
    ):
        strong = (waves(scale, 0.3) + 0.3 * waves(scale, 1.3)).requires_grad_()
        weak = waves(scale, 0.3).requires_grad_()
        found = rank_loss(weak, strong, inside, count, 4)
        found.backward()
        torch.testing.assert_close(found, torch.tensor(value), atol=1e-7, rtol=1e-4)
        torch.testing.assert_close(strong.grad.norm(), torch.tensor(norm), atol=1e-7, rtol=1e-3)
        assert weak.grad is None


def test_relations_are_compared_and_not_features() -> None:
    """Strong features that are the weak ones, rotated, rank as they do; two pixels that change places do not. A squared
    distance of features says the opposite of both."""
    torch.manual_seed(0)
    weak, inside = torch.randn(2, 6, 4, 4), torch.ones(2, 4, 4, dtype=torch.bool)
    rotation = torch.linalg.qr(torch.randn(6, 6)).Q
    rotated = torch.einsum("de,nehw->ndhw", rotation, weak)
    assert rank_loss(weak, rotated, inside, 8, 4) < 1e-6 < (weak - rotated).square().mean()
    swapped = weak.clone()
    swapped[..., 0, 0], swapped[..., 3, 3] = weak[..., 3, 3], weak[..., 0, 0]
    assert rank_loss(weak, swapped, inside, 8, 4) > 1e-3
    probabilities = relation(weak, landmarks(weak, inside, 5))
    assert probabilities.shape == (2, 16, 5)
    torch.testing.assert_close(probabilities.sum(2), torch.ones(2, 16))


def test_padding_neither_ranks_nor_is_a_landmark() -> None:
    torch.manual_seed(0)
    weak, strong = torch.randn(1, 4, 3, 4), torch.randn(1, 4, 3, 4)
    inside = torch.zeros(1, 3, 4, dtype=torch.bool)
    inside[..., :2] = True
    values = []
    for noise in (0.0, 100.0):
        torch.manual_seed(1)
        cut = torch.where(inside[:, None], 0.0, noise)
        values.append(rank_loss(weak + cut, strong - cut, inside, 6, 4))
    assert values[0] == values[1] > 0
    assert rank_loss(weak, strong, torch.zeros_like(inside), 6, 4) == 0
    assert math.isfinite(rank_loss(weak[..., :1, :1], strong[..., :1, :1], inside[..., :1, :1], 64, 4))


@pytest.mark.parametrize("side, grid", [(513, 33), (321, 21), (256, 16), (32, 2)])
def test_mixing_on_the_grid_is_mixing_of_the_upsampled_features(side: int, grid: int) -> None:
    """What the authors do (rankmatch.py 302-342): up with corners aligned, cut at the image's size, down again."""
    torch.manual_seed(0)
    own, other = torch.randn(2, 1, 2, grid, grid)
    boxes = torch.zeros(1, side, side, dtype=torch.bool)
    boxes[:, side // 5 : side // 2 + 3, side // 3 : side - side // 8] = True

    def resized(x: torch.Tensor, size: int) -> torch.Tensor:
        return F.interpolate(x, size=(size, size), mode="bilinear", align_corners=True)

    theirs = resized(torch.where(boxes[:, None], resized(other, side), resized(own, side)), grid)
    torch.testing.assert_close(torch.where(at_corners(boxes, (grid, grid))[:, None], other, own), theirs)
