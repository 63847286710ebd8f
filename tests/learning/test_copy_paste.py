"""Copy-Paste against AEL's code, and the sizes of what is pasted."""

from __future__ import annotations

import torch

from diffmatch.domain import VOID
from diffmatch.learning.copy_paste import paste, rescaled


def test_golden_numbers() -> None:
    """hzhupku/SemiSeg-AEL 747c797, utils.py 308-329, classes 1 and 3 on a 4 x 4 image."""
    image = torch.arange(16.0).view(1, 1, 1, 4, 4)
    theirs = torch.tensor([[[0, 1, 1, 2], [3, 1, 2, 2], [0, 0, 3, 3], [VOID, VOID, 3, 1]]], dtype=torch.uint8)
    classes = torch.tensor([[False, True, False, True]])
    images, masks = paste(image, torch.zeros_like(theirs), image + 100, theirs, classes)
    assert images.flatten().tolist() == [0, 101, 102, 3, 104, 105, 6, 7, 8, 9, 110, 111, 12, 13, 114, 115]
    assert masks.flatten().tolist() == [0, 1, 1, 0, 3, 1, 0, 0, 0, 0, 3, 3, 0, 0, 3, 1]


def test_sizes_lie_between_the_limits() -> None:
    """A centred square of 16 x 16 pixels covers scale^2 of its area; a smaller image lies in the centre, in void."""
    images = torch.zeros(200, 2, 3, 32, 32)
    images[..., 8:24, 8:24] = 1
    masks = images[:, 0, 0].to(torch.uint8)
    torch.manual_seed(0)
    found, labels = rescaled(images, masks, 0.5, 1.5)
    small = labels[:, 0, 0] == VOID
    assert 80 < small.sum() < 120 and found.shape == images.shape and labels.dtype == torch.uint8
    side = (labels[small] == 1).sum((1, 2)).sqrt()
    assert 7 <= side.min() < 10 and 14 < side.max() <= 16
    assert ((labels == VOID) == (labels == VOID).flip(1, 2)).all()
    assert (labels[~small] != VOID).all() and (labels[~small] == 1).sum((1, 2)).max() > 18**2
    inside = labels == 1
    assert (found[:, 1, 2][inside] > 0.2).all() and (found[:, 0, 1][~inside] < 0.8).all()


def test_the_old_size_is_the_image_itself() -> None:
    images, masks = torch.randn(2, 1, 3, 9, 7), torch.randint(0, 5, (2, 9, 7), dtype=torch.uint8)
    masks[0, 0, 0] = VOID
    found, labels = rescaled(images, masks, 1.0, 1.0)
    torch.testing.assert_close(found, images)
    assert torch.equal(labels, masks)
