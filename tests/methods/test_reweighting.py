"""Class-balanced weights are the formula's, and they are in the loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from diffmatch.conformance.method import toy_card, toy_method, toy_settings
from diffmatch.domain import VOID
from diffmatch.learning.batch import Batch, Labelled, Progress
from diffmatch.learning.losses import dice_loss
from diffmatch.methods.reweighting import Reweighting, effective_number_weights


def by_hand(samples: list[float], beta: float) -> list[float]:
    raw = [(1 - beta) / (1 - beta**n) for n in samples]
    return [len(raw) * w / sum(raw) for w in raw]


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.9999])
def test_weights_are_the_formula(beta: float) -> None:
    samples = [5000.0, 40.5, 3.0, 1.0]
    weights = effective_number_weights(samples, beta)
    assert weights.tolist() == pytest.approx(by_hand(samples, beta), rel=1e-5)
    assert weights.sum() == pytest.approx(4)
    assert beta == 0 or (weights.diff() > 0).all()


@pytest.mark.parametrize(
    ("beta", "expected"),
    [
        (0.9, [0.734333, 0.734333, 0.738137, 1.793198]),
        (0.99, [0.160370, 0.161431, 0.406006, 3.272193]),
        (0.9999, [0.004570990, 0.036877277, 0.360604810, 3.597946923]),
    ],
)
def test_weights_are_the_authors(beta: float, expected: list[float]) -> None:
    """richardaecn/class-balanced-loss 1d78572, src/cifar_main.py 425-430, on 5000, 500, 50 and 5 images."""
    assert effective_number_weights([5000, 500, 50, 5], beta).tolist() == pytest.approx(expected, rel=1e-5)


def test_the_loss_is_the_authors_but_for_the_mean() -> None:
    """Theirs (src/cifar_main.py 312-315, the same commit) divides sum w CE by the number n of samples, here 4; ours by
    sum w, here 3.643966. Evaluated with NumPy, beta = 0.9999: 0.322126, and the gradient's norm 0.300032."""
    method = toy_method(Reweighting, toy_card(4), toy_settings(Reweighting, train__loss="ce"))
    method.weights.copy_(effective_number_weights([5000, 500, 50, 5], 0.9999))
    rows = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 2], [9, 9, 0, 0]])
    scores = rows.T[None, :, None].clone().requires_grad_()
    method.network.forward = lambda _: scores
    masks = torch.tensor([[[0, 0, 1, 3, VOID]]], dtype=torch.uint8)
    loss = method.losses(Batch(Labelled(torch.zeros(1, 1, 3, 1, 5), masks, ["a"])), Progress(0, 1)).total
    loss.backward()
    assert loss.item() * 3.643966 / 4 == pytest.approx(0.322126, abs=1e-6)
    assert scores.grad.norm().item() * 3.643966 / 4 == pytest.approx(0.300032, abs=1e-6)


def test_classes_with_few_pixels_or_none() -> None:
    """Less than a sample is one sample; a class without pixels has no weight and takes none from the others."""
    assert effective_number_weights([100.0, 0.01], 0.99).tolist() == pytest.approx(
        by_hand([100.0, 1.0], 0.99), rel=1e-5
    )
    assert effective_number_weights([100.0, 0.0, 7.0], 0.99).tolist() == pytest.approx(
        [by_hand([100.0, 7.0], 0.99)[0], 0, by_hand([100.0, 7.0], 0.99)[1]], rel=1e-5
    )
    assert effective_number_weights([0.0, 0.0], 0.99).tolist() == [0, 0]


def test_the_unit_is_what_makes_a_difference(planned: Any) -> None:
    """Pixels counted one by one are past 1/(1 - beta) in every class."""
    p = planned("reweighting")
    pixels = p.pixels.sum(0)
    assert p.build().weights.tolist() == pytest.approx(by_hand([n / 256 for n in pixels], 0.9999), rel=1e-5)
    assert effective_number_weights([3e6, 1e5, 1e5], 0.9999).tolist() == pytest.approx([1, 1, 1], rel=1e-3)
    assert effective_number_weights([3e6 / 256, 1e5 / 256, 1e5 / 256], 0.9999)[0] < 0.1


@pytest.mark.parametrize("loss", ["ce", "ce_dice", "ohem", "squared"])
def test_the_loss_is_weighted(loss: str, planned: Any, draw: Any) -> None:
    p = planned("reweighting", train__loss=loss, method__unit=16)
    method, batch = p.build().train(), draw(p)
    batch.labelled.masks[:, :4] = VOID
    scores = method.network(batch.labelled.images)
    expected = F.cross_entropy(scores, batch.labelled.masks.long(), method.weights, ignore_index=VOID)
    plain = F.cross_entropy(scores, batch.labelled.masks.long(), ignore_index=VOID)
    assert abs(expected - plain) > 1e-3
    if loss == "squared":
        valid = batch.labelled.masks != VOID
        own = torch.where(valid, batch.labelled.masks, 0).long()
        error = (scores.softmax(1) - F.one_hot(own, scores.shape[1]).movedim(-1, 1)).square().sum(1)
        weight = method.weights[own] * valid
        expected = (error * weight).sum() / weight.sum()
    if loss == "ce_dice":
        expected = (expected + dice_loss(scores, batch.labelled.masks, (batch.labelled.masks != VOID).float())) / 2
    torch.testing.assert_close(method.losses(batch, Progress(0, 1)).total, expected)
