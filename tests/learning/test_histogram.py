"""Thresholds and keep rates per class, from the confidences of all predictions."""

from __future__ import annotations

import pytest
import torch

from diffmatch.learning import histogram as module
from diffmatch.learning.histogram import ConfidenceHistogram

CITYSCAPES = (
    *(32.07, 5.71, 20.7, 0.564, 0.761, 1.054, 0.1696, 0.5014, 13.4993, 0.8981),
    *(3.6445, 1.1458, 0.1393, 6.0, 0.2949, 0.1954, 0.2341, 0.0818, 0.3917),
)
"""Percent of all pixels that the authors count as each class's; 88.04 percent have a class."""
AUTHORS = {
    40: {
        "threshold": {0: 0.75, 1: 1.0, 2: 0.8125, 8: 1.0, 10: 1.0, 13: 1.0},
        "rate": {0: 1.0, 1: 1.0, 2: 0.9, 8: 1.0, 10: 1 / 3, 13: 2 / 3},
    },
    120: {
        "threshold": {0: 0.75, 1: 0.8125, 2: 0.75, 4: 1, 5: 1, 8: 1, 9: 1, 10: 0.9375, 11: 1, 13: 1},
        "rate": {0: 1, 1: 1, 2: 1, 4: 0.5, 5: 1 / 3, 8: 1, 9: 0.5, 10: 2 / 3, 11: 0.5, 13: 1},
    },
}
"""Of a budget of so many pixels in all: what the authors' function returns; the rate of all other classes is 0."""


def counted(pixels: list[list[int]], bins: int) -> ConfidenceHistogram:
    """Of each class pixels in these bins."""
    histogram = ConfidenceHistogram(len(pixels), bins)
    labels = torch.tensor([[[c for c, row in enumerate(pixels) for _ in row]]])
    found = torch.tensor([[[bin for row in pixels for bin in row]]])
    histogram.add(labels, found, torch.ones_like(labels, dtype=torch.bool))
    return histogram


@pytest.mark.parametrize("pixels", AUTHORS)
def test_limits_are_the_authors(pixels: int) -> None:
    """CVMI-Lab/DARS 0cfe09a, tool/gen_pseudo_label_utils.py 134-220, at Cityscapes 1/8 with one image of 1024 x 2048:
    class c has 3 + 5c mod 13 pixels with the confidences 1 - ((c + 2) i mod 5) / 16."""
    histogram = counted([[16 - i * (c + 2) % 5 for i in range(3 + 5 * c % 13)] for c in range(19)], 17)
    least, rates = histogram.limits((pixels * torch.tensor(CITYSCAPES).double() / 88.04).long())
    expected = torch.zeros(19)
    for c, rate in AUTHORS[pixels]["rate"].items():
        expected[c] = rate
        assert least[c] / 16 == AUTHORS[pixels]["threshold"][c]
    torch.testing.assert_close(rates, expected)


def test_limits_by_hand() -> None:
    """Five pixels of class 0, three of class 1. Two are wanted of each; three of class 0 are equally confident."""
    histogram = counted([[9, 9, 9, 8, 7], [7, 6, 5]], 11)
    least, rates = histogram.limits(torch.tensor([2, 2]))
    assert least.tolist() == [9, 6]
    torch.testing.assert_close(rates, torch.tensor([2 / 3, 1]))
    least, rates = histogram.limits(torch.tensor([1, 5]))  # more than there are: all of them
    assert least.tolist() == [9, 5]
    torch.testing.assert_close(rates, torch.tensor([1 / 3, 1]))


def test_a_class_without_pixels_or_budget_has_the_rate_0() -> None:
    assert counted([[9], [], [8, 6]], 11).limits(torch.tensor([3, 3, 1]))[1].tolist() == [1, 0, 1]
    assert counted([[9], [], [8, 6]], 11).limits(torch.tensor([0, 0, 2]))[1].tolist() == [0, 0, 1]
    assert ConfidenceHistogram(2, 11).limits(torch.tensor([3, 0]))[1].tolist() == [0, 0]


def test_padding_is_not_counted_and_a_reset_forgets() -> None:
    histogram = ConfidenceHistogram(2, 11)
    labels, bins = torch.tensor([[[0, 0, 1]]]), torch.tensor([[[9, 8, 7]]])
    histogram.add(labels, bins, torch.tensor([[[True, False, True]]]))
    histogram.add(labels, bins, torch.zeros(1, 1, 3, dtype=torch.bool))
    assert histogram.counts.nonzero().tolist() == [[0, 9], [1, 7]] and histogram.counts.sum() == 2
    histogram.reset()
    assert not histogram.counts.any()


def test_all_ranks_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "over_ranks", lambda counts: 2 * counts)
    assert counted([[9, 8], [7]], 11).counts.sum(1).tolist() == [4, 2]
