"""What contrastive methods share: class means, negatives by the relation of classes, the loss."""

from __future__ import annotations

import math

import pytest
import torch

from diffmatch.domain import VOID
from diffmatch.learning.contrast import class_means, info_nce, related_negatives


def test_class_means_by_hand() -> None:
    vectors = torch.tensor([[3.0, 0, 0, 9], [0, 1, 2, 9]]).view(1, 2, 1, 4).requires_grad_()
    members = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]], dtype=torch.bool).view(1, 3, 1, 4)
    means = class_means(vectors, members)
    assert means.tolist() == [[1.5, 0.5], [0, 2], [0, 0]] and not means.requires_grad


def test_class_means_are_of_full_precision_in_a_half_precision_step() -> None:
    vectors, members = torch.full((1, 2, 50, 50), 1.001), torch.ones(1, 1, 50, 50, dtype=torch.bool)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(class_means(vectors, members), torch.full((1, 2), 1.001))


def test_negatives_are_of_other_classes_and_more_of_related_ones() -> None:
    """ReCo's graph of relations: cosines .8 and 0 at temperature 1/2 give probabilities .83202 and .16798; within a
    class each pixel is as likely."""
    torch.manual_seed(0)
    labels = torch.tensor([1, 0, VOID, 1, 2, 0, 1, 1]).view(2, 1, 4)
    cosines = torch.tensor([[1, 0.8, 0], [0.8, 1, 0.6], [0, 0.6, 1]])
    found = related_negatives(cosines / 0.5, labels, 20_000)[0].bincount(minlength=8) / 20_000
    expected = [0.83202 / 4, 0, 0, 0.83202 / 4, 0.16798, 0, 0.83202 / 4, 0.83202 / 4]
    torch.testing.assert_close(found, torch.tensor(expected), atol=0.01, rtol=0)
    for c, places in enumerate(related_negatives(cosines / 0.5, labels, 50)):
        assert not (labels.flatten()[places] == c).any() and not (labels.flatten()[places] == VOID).any()


@pytest.mark.parametrize("labels", [[VOID] * 4, [1] * 4])
def test_without_another_class_negatives_are_places_all_the_same(labels: list[int]) -> None:
    found = related_negatives(torch.zeros(3, 3), torch.tensor(labels).view(1, 2, 2), 5)
    assert found.shape == (3, 5) and found.min() >= 0 and found.max() < 4


def test_the_loss_by_hand() -> None:
    """Class 0 has one of two anchors, class 1 has none and counts, class 2 is absent."""
    positive, negatives = torch.tensor([[1.0, 9], [9, 9], [9, 9]]), torch.zeros(3, 2, 4)
    valid = torch.tensor([[1, 0], [0, 0], [0, 0]], dtype=torch.bool)
    present = torch.tensor([True, True, False])
    loss = info_nce(positive, negatives, valid, present, 0.5)
    assert loss.item() == pytest.approx(math.log(1 + 4 * math.exp(-2)) / 2)
    assert info_nce(positive, negatives, valid, torch.tensor([True, False, False]), 0.5) == 0
    assert info_nce(positive, negatives, valid & False, present & False, 0.5) == 0
