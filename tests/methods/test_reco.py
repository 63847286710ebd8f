"""Hard pixels are contrasted with their class's mean and with pixels of the classes that look alike.

The golden numbers are those of the authors' functions (lorenmt/reco, 71c1b73, module_list.py:
compute_unsupervised_loss, lines 52-59, and compute_reco_loss, lines 65-140), run on the same tensors.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from diffmatch.conformance.method import toy_card, toy_method, toy_settings
from diffmatch.domain import VOID
from diffmatch.learning.batch import Progress
from diffmatch.learning.losses import dice_loss, share_weighted_loss
from diffmatch.methods import reco
from diffmatch.methods.reco import ReCo


def losses(method: Any, batch: Any) -> Any:
    torch.manual_seed(0)
    return method.train().losses(batch, Progress(0, 1))


def small(classes: int, **changes: Any) -> Any:
    return toy_method(ReCo, toy_card(classes), toy_settings(ReCo, **changes))


def row(*pixels: tuple[float, ...]) -> Tensor:
    """One image (1, C, 1, W) of a vector a pixel."""
    return torch.tensor(pixels, dtype=torch.float).T[None, :, None]


# -- the unsupervised loss ---------------------------------------------------------------------------------------------


def test_every_pixel_is_taught_at_the_share_that_is_sure() -> None:
    sure = torch.tensor([0.99, 0.98, 0.5, 0.6])[None, None] >= 0.97
    loss = share_weighted_loss("ce", torch.zeros(1, 2, 1, 4), torch.tensor([0, 1, 0, 1])[None, None], sure)
    assert loss.item() == pytest.approx(0.3465736, abs=1e-6)
    assert loss.item() == pytest.approx(math.log(2) / 2)


def test_unsupervised_loss_as_the_authors() -> None:
    """Half of the first image is sure and all of the second, whose two pixels, void and without loss, do not count."""
    scores = torch.cat([row((2, 0), (0, 1)), row((60, 0), (1, 0))]).requires_grad_()
    target = torch.tensor([[0, 0], [0, VOID]])[:, None]
    sure = torch.tensor([[True, False], [True, False]])[:, None]
    loss = share_weighted_loss("ce", scores, target, sure)
    assert loss.item() == pytest.approx(0.3600474, abs=1e-6)
    assert torch.autograd.grad(loss, scores)[0].norm().item() == pytest.approx(0.2618816, abs=1e-6)


def test_dice_has_the_mean_weight_of_the_images_with_a_share() -> None:
    scores, target = torch.randn(2, 3, 4, 4), torch.randint(3, (2, 4, 4))
    sure = torch.zeros(2, 4, 4, dtype=torch.bool)
    assert share_weighted_loss("ce_dice", scores, target, sure) == 0
    sure[0, 0] = True
    plain = dice_loss(scores[:1], target[:1], torch.ones(1, 4, 4))
    torch.testing.assert_close(share_weighted_loss("ce_dice", scores, target, sure), plain / 8)
    assert share_weighted_loss("ce_dice", scores, torch.full_like(target, VOID), sure) == 0


# -- the contrastive loss ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sure, loss", [(0.5, 4.2526550), (0.99, 2.1263275)])
def test_contrast_as_the_authors(sure: float, loss: float) -> None:
    """Two classes at right angles: ln(1 + 512 e^-2). A class whose pixels are all easy counts in the divisor."""
    probabilities = row((sure, 0), (sure, 0), (0, 0.5), (0, 0.5))
    labels = torch.tensor([0, 0, 1, 1])[None, None]
    found = small(2).contrast(row((1, 0), (1, 0), (0, 1), (0, 1)), labels, probabilities)
    assert found.item() == pytest.approx(loss, abs=1e-5)


def test_the_mean_is_of_all_valid_pixels_and_unnormed_as_the_authors() -> None:
    """The one hard pixel (0, 1) of class 0 is compared with (3/2, 1/2), the mean of (3, 0) and (0, 1)."""
    z = row((3, 0), (0, 1), (0, 2), (5, 5)).requires_grad_()
    labels = torch.tensor([0, 0, 1, VOID])[None, None]
    loss = small(2).contrast(z, labels, row((0.99, 0.01), (0.5, 0.5), (0.01, 0.99), (0.1, 0.9)))
    assert loss.item() == pytest.approx(3.8031840, abs=1e-5)
    (gradient,) = torch.autograd.grad(loss, z)
    assert gradient.norm().item() == pytest.approx(0.9482116, abs=1e-6)
    assert gradient[0, :, 0, 1].any() and not gradient[0, :, 0, [0, 2, 3]].any()


def test_negatives_are_of_related_classes_as_the_authors() -> None:
    """1.899 in five of the authors' draws; with classes drawn evenly it would be 1.778."""
    torch.manual_seed(0)
    probabilities = torch.eye(3).view(1, 3, 1, 3) * 0.99
    probabilities[0, 0, 0, 0] = 0.5
    z, labels = row((1, 0), (0.8, 0.6), (0, 1)), torch.arange(3)[None, None]
    assert small(3).contrast(z, labels, probabilities).item() == pytest.approx(1.8994, abs=0.02)


@pytest.mark.parametrize("label", [1, VOID])
def test_one_class_has_nothing_to_be_told_from(label: int) -> None:
    labels = torch.full((1, 1, 2), label)
    assert small(3).contrast(row((1, 0), (0, 1)), labels, torch.full((1, 3, 1, 2), 0.3)) == 0


# -- the step ----------------------------------------------------------------------------------------------------------


def watched(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Targets and sure pixels of the mixed view, as the unsupervised loss is given them."""
    seen: list[Tensor] = []
    monkeypatch.setattr(
        reco, "share_weighted_loss", lambda kind, scores, *rest: (seen.extend(rest), scores.sum() * 0)[1]
    )
    return seen


def test_which_pixels_are_contrasted(planned: Any, draw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labelled ones with their truth, and those of the mixed view of which the teacher is sure enough."""
    for weak in (0.0, 1.0):
        p = planned("reco", network__stride=1, method__weak=weak)
        method, batch = p.build(), draw(p)
        seen: list[Tensor] = []
        monkeypatch.setattr(method, "contrast", lambda z, labels, p, seen=seen: (seen.append(labels), z.sum() * 0)[1])
        targets = watched(monkeypatch)
        losses(method, batch)
        assert torch.equal(seen[0][:2], batch.labelled.masks.long())
        assert (seen[0][2:] == VOID).all() if weak else torch.equal(seen[0][2:] != VOID, targets[0] != VOID)


def test_the_teacher_labels_in_train_mode_with_statistics_of_its_own(planned: Any, draw: Any) -> None:
    """Its running statistics follow that pass, and neither labels nor the average of the parameters look at them."""
    p = planned("reco")
    method, batch = p.build(), draw(p)
    statistics = {key: value for key, value in method.teacher.extractor.named_buffers() if "running" in key}
    before = {key: value.clone() for key, value in statistics.items()}
    first = losses(method, batch)
    assert statistics and not any(torch.equal(before[key], value) for key, value in statistics.items())
    assert not any(module.training for module in method.teacher.modules())
    for value in statistics.values():
        value.fill_(9)
    method.after_step(Progress(3, 10))
    assert all((value == 9).all() for value in statistics.values())
    again = losses(method, batch)
    assert all(torch.equal(again.terms[key], term) for key, term in first.terms.items())


def test_classmix_moves_pixels_labels_and_confidence_together(
    planned: Any, draw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    p = planned("reco")
    method, batch = p.build(), draw(p)
    pasted = torch.zeros_like(batch.pool.inside)
    pasted[:, :, 16:] = True
    monkeypatch.setattr(reco, "classmix", lambda *_: pasted)
    seen: list[Tensor] = []
    represent = method.network.represent
    monkeypatch.setattr(method.network, "represent", lambda images: (seen.append(images), represent(images))[1])
    targets = watched(monkeypatch)
    losses(method, batch)
    strong = batch.pool.strong[0]
    assert torch.equal(seen[0], batch.labelled.images)
    assert torch.equal(seen[1][..., :16], strong[..., :16]) and torch.equal(seen[1][0, ..., 16:], strong[1, ..., 16:])
    assert torch.equal((targets[0] != VOID)[0, :, 16:], batch.pool.inside[1, :, 16:])
    assert not targets[1][targets[0] == VOID].any()
