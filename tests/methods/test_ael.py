"""The bank of class confidence steers what is pasted, what is mixed and what is learnt.

Golden numbers were made by the authors' functions (hzhupku/SemiSeg-AEL 747c797) on the scores below.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from diffmatch.domain import VOID
from diffmatch.learning.batch import Progress
from diffmatch.learning.class_confidence import ClassConfidence
from diffmatch.learning.losses import supervised_loss

FOUR = (
    torch.eye(3)[[0, 1, 2, 2]].T.reshape(1, 3, 2, 2) * 2,
    torch.tensor([[[0, 1], [2, 0]]]),
    torch.tensor([[[0.9, 0.8], [0.6, 0.5]]]),
)
"""Four pixels: the student's scores, the teacher's labels and confidence."""


def waves(pace: float, phase: float) -> Tensor:
    """Scores (2, 3, 6, 5)."""
    return ((torch.arange(180).float() * pace + phase).sin() * 3).view(2, 3, 6, 5)


def with_bank(method: Any, *values: float) -> Any:
    method.bank = ClassConfidence(len(values), 0.999)
    method.bank.values.copy_(torch.tensor(values))
    return method


def losses(method: Any, batch: Any, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return method.train().losses(batch, Progress(0, 1))


@pytest.mark.parametrize(
    ("bank", "threshold", "loss", "gradient"),
    [
        ((0.0, 0.0, 0.0), 0.0, 0.4822633, 0.2005441),
        ((1.0, 1.0, 0.0), 0.0, 1.0592169, 0.5135484),
        ((0.0, 0.0, 0.0), 0.7, 0.1686117, 0.1307387),
    ],
)
def test_golden_numbers_of_four_pixels(
    bank: tuple[float, ...], threshold: float, loss: float, gradient: float, planned: Any
) -> None:
    """loss_helper.py 60-96 and train.py 337-350. Equal confidence keeps every pixel, (1, 1, 0) those of the student's
    class 2; a pixel below the threshold keeps its weight in the sum."""
    method = with_bank(planned("ael", train__loss="ce").build(), *bank)
    scores, target, confidence = FOUR
    scores = scores.clone().requires_grad_()
    found = method.consistency(scores, torch.where(confidence < threshold, VOID, target), confidence)
    (slope,) = torch.autograd.grad(found, scores)
    torch.testing.assert_close(torch.stack([found.detach(), slope.norm()]), torch.tensor([loss, gradient]))


def test_golden_numbers_of_two_images(planned: Any) -> None:
    """The same lines on two images: all pixels, those of one class, and the mean over 4,000 draws at three rates."""
    method = with_bank(planned("ael", train__loss="ce").build(), 0.0, 0.0, 0.0)
    confidence, target = waves(0.9, 1.0).softmax(1).max(1)
    target = torch.where(confidence < 0.7, VOID, target)
    for bank, loss, gradient in (((0.0, 0.0, 0.0), 1.6628367, 0.1282021), ((1.0, 0.2, 1.0), 1.0203437, 0.3310328)):
        scores = waves(1.7, 0.0).requires_grad_()
        found = with_bank(method, *bank).consistency(scores, target, confidence)
        (slope,) = torch.autograd.grad(found, scores)
        torch.testing.assert_close(torch.stack([found.detach(), slope.norm()]), torch.tensor([loss, gradient]))
    torch.manual_seed(0)
    with_bank(method, 0.9, 0.5, 0.1)
    drawn = torch.stack([method.consistency(waves(1.7, 0.0), target, confidence) for _ in range(1000)])
    assert abs(drawn.mean() - 1.76979) < 4 * drawn.std() / 1000**0.5


@pytest.mark.parametrize("weak", [0, 1])
def test_the_weak_class_is_learnt_most(weak: int, planned: Any) -> None:
    """All pixels of the class that the bank knows least carry gradient, one in nine of the other; with the bank cut
    out both would carry the same."""
    method = with_bank(planned("ael", train__loss="ce").build(), *(0.1 if c == weak else 0.9 for c in (0, 1)))
    scores = torch.zeros(1, 2, 40, 40)
    scores[:, 0, :20], scores[:, 1, 20:] = 1.0, 1.0
    scores.requires_grad_()
    torch.manual_seed(0)
    method.consistency(scores, torch.zeros(1, 40, 40), torch.ones(1, 40, 40)).backward()
    halves = (scores.grad[0, 0] != 0).float().view(2, -1).mean(1)
    assert halves[weak] == 1 and abs(halves[1 - weak] - 1 / 9) < 0.04


def test_dice_has_the_same_weights(planned: Any) -> None:
    method = with_bank(planned("ael").build(), 1.0, 1.0, 0.0)
    assert method.settings.train.loss == "ce_dice"
    scores, target, confidence = FOUR
    found = method.consistency(scores, target, confidence)
    sure = method.consistency(scores[..., 1:, :], target[:, 1:], confidence[:, 1:])
    torch.testing.assert_close(found, sure)  # the first two pixels are of known classes and have no weight
    assert method.consistency(scores, target, torch.zeros_like(confidence)) == 0


def halves(weak: int) -> Tensor:
    """Labels (4, 32, 32) of three classes: classes 1 and 2 each fill a square of every other image."""
    labels = torch.zeros(4, 32, 32, dtype=torch.long)
    labels[0::2, 4:12, 6:20] = weak
    labels[1::2, 20:30, 2:14] = 3 - weak
    return labels


@pytest.mark.parametrize("weak", [1, 2])
def test_boxes_hold_the_class_drawn(weak: int, planned: Any) -> None:
    """Adaptive CutMix: the box is what bounds a component in an image that holds the class."""
    method = planned("ael").build()
    labels, inside = halves(weak), torch.ones(4, 32, 32, dtype=torch.bool)
    shared = torch.zeros_like(inside)
    shared[:3, :3, :3] = True
    method.bank.chances = lambda: torch.eye(4)[weak]
    boxes, chosen = method.boxes(labels, inside, shared)
    assert set(chosen.tolist()) <= {0, 2}
    assert all(torch.equal(box, labels[0] == weak) for box in boxes[:3])
    assert not boxes[3].any(), "an image without a shared box is not mixed"
    boxes, chosen = method.boxes(labels, inside & (labels != weak), shared)  # the class lies in padding alone
    assert torch.equal(boxes, shared) and chosen.tolist() == [0, 1, 2, 3]
    labels[:, 4:12, 6:20] = torch.where(torch.arange(14) % 4 == 0, weak, 0)
    method.settings = method.settings.model_copy(
        update={"method": method.settings.method.model_copy(update={"area": 0.05})}
    )
    boxes, _ = method.boxes(labels, inside, shared)
    assert torch.equal(boxes, shared), "no component is large enough"


def test_weak_classes_are_mixed_and_pasted(planned: Any, draw: Any) -> None:
    """Classes are drawn by the bank; head classes, with more than the mean share of the pixels, are never pasted."""
    p = planned("ael", method__paste=1.0, method__pasted=1, method__scale=(1.0, 1.0))
    method, labelled = p.build(), draw(p).labelled
    pixels = torch.tensor(p.statistics.pixels)
    assert method.tail.tolist() == (pixels <= pixels.float().mean()).tolist() and not method.tail.all()
    masks = torch.arange(4, dtype=torch.uint8).repeat_interleave(8).repeat(2, 32, 1)
    images = torch.stack([torch.zeros(1, 1, 32, 32), torch.ones(1, 1, 32, 32)])
    method.tail.copy_(torch.tensor([False, True, True, True]))
    method.bank.chances = lambda power, among: torch.tensor([0.0, 0.0, 1.0, 0.0])
    found, labels = method.paste(replace(labelled, images=images, masks=masks))
    assert torch.equal(labels, masks)
    assert torch.equal(found[0, 0, 0] == 1, masks[0] == 2) and torch.equal(found[1, 0, 0] == 0, masks[1] == 2)


def test_terms_by_hand(planned: Any, draw: Any, monkeypatch: Any) -> None:
    """The teacher sees the pasted labelled images, then the pool and its partners, in train mode; the student the
    labelled images, then the mixed ones; the bank follows the student in between."""
    p = planned("ael", method__threshold=0.3, method__momentum=0.5, train__loss="ce")
    method, batch, calls, boxes = p.build(), draw(p), [], []

    def spied(part: Any, name: str) -> None:
        call = getattr(part, name)

        def spy(*given: Any) -> Any:
            answer = call(*given)
            (boxes if part is method else calls).append(
                answer if part is method else (part, part.training, *given, answer)
            )
            return answer

        monkeypatch.setattr(part, name, spy)

    spied(method.teacher, "forward")
    spied(method.network, "forward")
    spied(method, "boxes")
    monkeypatch.setattr(ClassConfidence, "rates", property(lambda bank: torch.ones(4)))  # every pixel is learnt
    before = method.bank.values.clone()
    found = losses(method, batch)
    teacher, student = method.teacher, method.network
    assert [(part, training, len(images)) for part, training, images, _ in calls] == [
        (teacher, True, 2),
        (teacher, True, 4),
        (student, True, 2),
        (student, True, 2),
    ]
    (pasted, own), (pool, others), (labelled, scores), (mixed, strong) = (call[2:] for call in calls)
    assert torch.equal(pasted, labelled) and torch.equal(pool, torch.cat([batch.pool.weak, batch.pool.partner.weak]))
    torch.manual_seed(0)
    masks = method.paste(batch.labelled)[1]
    seen = [scores.detach().softmax(1)[:, c][masks == c] for c in range(4)]
    means = torch.stack([values.sum() / max(len(values), 1) for values in seen])
    torch.testing.assert_close(method.bank.values, (before + means) / 2)

    def consistency(student: Tensor, teacher: Tensor, inside: Tensor) -> Tensor:
        confidence, labels = teacher.softmax(1).max(1)
        loss = torch.nn.functional.cross_entropy(student, labels, reduction="none") * (confidence >= 0.3)
        return (loss * confidence**2 * inside).sum() / (confidence**2 * inside).sum()

    ((box, chosen),) = boxes
    mine, theirs = others.split(2)
    swapped = torch.where(box[:, None], theirs[chosen], mine)
    inside = torch.where(box, batch.pool.partner.inside[chosen], batch.pool.inside)
    weak, partner = batch.pool.weak, batch.pool.partner.weak
    assert box.any() and torch.equal(mixed, torch.where(box[:, None, None], partner[chosen], weak))
    expected = {
        "sup": supervised_loss("ce", scores, masks),
        "sup_consistency": consistency(scores, own, masks != VOID),
        "unsup": consistency(strong, swapped, inside),
    }
    torch.testing.assert_close(found.terms, expected)
    assert found.given.sum() == batch.pool.inside.sum() and found.accepted.sum() < found.given.sum()
    assert not method.teacher.training


def test_without_cutmix_the_weak_view_is_learnt(planned: Any, draw: Any) -> None:
    p = planned("ael", data__cutmix=0.0)
    method, batch = p.build(), draw(p)
    assert batch.pool.partner is None
    scores = torch.randn(2, 4, 32, 32)
    pseudo = method.accept(scores, batch.pool.inside)
    mixed, target, confidence = method.mix(batch.pool, pseudo, scores)
    assert torch.equal(mixed, batch.pool.weak)
    taught = (scores.softmax(1).amax(1) >= 0.7) & batch.pool.inside
    assert torch.equal(target, torch.where(taught, pseudo.labels, VOID))
    assert torch.equal(confidence, scores.softmax(1).amax(1) * batch.pool.inside)


def test_the_teacher_keeps_its_own_statistics(planned: Any, draw: Any, fit: Any) -> None:
    """Parameters follow the student's; BatchNorm's statistics are those of the teacher's passes in train mode."""
    p = planned("ael")
    method = p.build()
    first = {key: value.clone() for key, value in method.teacher.state_dict().items()}
    fit(method, [draw(p)])
    for (key, old), own, other in zip(
        first.items(), method.teacher.state_dict().values(), method.network.state_dict().values(), strict=True
    ):
        if "running" in key:
            assert not torch.equal(own, old) and not torch.equal(own, other), key
        elif "num_batches" not in key:
            assert torch.equal(own, other), key  # at the first step the mean of all students is this one
