"""The baseline: labelled pixels, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from diffmatch.conformance.method import toy_card, toy_method, toy_settings
from diffmatch.domain import VOID
from diffmatch.learning.batch import Batch, Labelled, Progress
from diffmatch.methods.supervised import Supervised


def loss_of(scores: Tensor, masks: Tensor, kind: str = "ce") -> Any:
    method = toy_method(Supervised, toy_card(scores.shape[1]), toy_settings(Supervised, train__loss=kind))
    method.network.forward = lambda _: scores
    losses = method.losses(Batch(Labelled(torch.zeros(1, 1, 3, *masks.shape[1:]), masks, ["a"])), Progress(0, 1))
    assert set(losses.terms) == {"sup"} and losses.given is None
    return losses.total


def test_the_loss_is_cross_entropy_over_pixels_that_are_not_void() -> None:
    """ln(1 + e^-1) and ln(1 + e): their mean is 0.813262. In each score the gradient is (p - y) / 2."""
    scores = torch.tensor([[1.0, 0.0], [0.0, 1.0], [5.0, -5.0]]).T[None, :, None].clone().requires_grad_()
    loss = loss_of(scores, torch.tensor([[[0, 0, VOID]]], dtype=torch.uint8))
    assert loss.item() == pytest.approx(0.813262, abs=1e-6)
    loss.backward()
    expected = torch.tensor([[-0.134471, 0.134471], [-0.365529, 0.365529], [0.0, 0.0]]).T[None, :, None]
    torch.testing.assert_close(scores.grad, expected, atol=1e-6, rtol=0)


def test_the_loss_is_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, masks = torch.randn(2, 5, 8, 9, generator=generator), torch.randint(0, 5, (2, 8, 9), generator=generator)
    masks[:, 2] = VOID
    expected = torch.nn.CrossEntropyLoss(ignore_index=VOID)(scores, masks)
    torch.testing.assert_close(loss_of(scores, masks.to(torch.uint8)), expected)


def test_no_pool_is_asked_for_and_every_pixel_is_labelled(planned: Any) -> None:
    method = planned("supervised").build()
    assert not method.views.unlabelled and method.labelling.by == "nobody"
    images = torch.randn(2, 1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    assert method.pseudo_labels(images, ["a", "b"]).accepted.all()
