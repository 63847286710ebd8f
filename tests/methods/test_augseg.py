"""Views of random intensity, and labelled content where the teacher is unsure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from diffmatch.conformance.method import toy_card, toy_method, toy_settings
from diffmatch.data import augment
from diffmatch.domain import VOID
from diffmatch.learning.batch import Progress
from diffmatch.learning.losses import pseudo_loss
from diffmatch.learning.pseudo_labels import PseudoLabels
from diffmatch.methods.augseg import AugSeg
from diffmatch.settings import Data


def losses(method: Any, batch: Any, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return method.train().losses(batch, Progress(0, 1))


# -- random intensity --------------------------------------------------------------------------------------------------


def picture(dates: int, channels: int) -> torch.Tensor:
    return torch.rand(dates, channels, 24, 20, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dates, channels", [(1, 1), (1, 3), (2, 3), (1, 5)])
def test_every_kind_of_image_has_intense_views(dates: int, channels: int) -> None:
    """Finite, of the same shape, reproducible, different from each other and from the standard photometry."""
    x, data = picture(dates, channels), Data()
    views = [augment.strong(x, data, np.random.default_rng(seed), "random_intensity") for seed in range(30)]
    assert all(v.shape == x.shape and v.isfinite().all() for v in views)
    assert all(
        torch.equal(v, augment.strong(x, data, np.random.default_rng(seed), "random_intensity"))
        for seed, v in enumerate(views)
    )
    assert len({v.sum().item() for v in views}) > 25
    assert not torch.equal(views[0], augment.strong(x, data, np.random.default_rng(0)))
    assert torch.equal(x, picture(dates, channels))


def test_number_and_strength_of_operations_vary(monkeypatch: pytest.MonkeyPatch) -> None:
    """One to three operations, each drawn about as often, strengths from the whole range; colour only for colour."""
    calls: list[tuple[str, float]] = []

    def spy(name: str) -> Any:
        return lambda x, s: (calls.append((name, s)), x)[1]

    monkeypatch.setattr(augment, "INTENSITY", {name: spy(name) for name in augment.INTENSITY})
    for channels, names in ((3, set(augment.INTENSITY)), (1, set(augment.INTENSITY) - {"hue", "saturation"})):
        counts, rng = [], np.random.default_rng(0)
        used: dict[str, int] = {}
        strengths: list[float] = []
        for _ in range(900):
            calls.clear()
            augment.strong(picture(1, channels), Data(), rng, "random_intensity")
            counts.append(len(calls))
            for name, strength in calls:
                used[name] = used.get(name, 0) + 1
                strengths.append(strength)
        assert set(counts) == {1, 2, 3} and min(counts.count(k) for k in (1, 2, 3)) > 230
        assert used.keys() == names and max(used.values()) < 1.8 * min(used.values())
        assert min(strengths) < 0.01 and max(strengths) > 0.99 and len(set(strengths)) == len(strengths)


@pytest.mark.parametrize("name", sorted(augment.INTENSITY))
def test_each_operation(name: str) -> None:
    """Each does something but the identity, and those with a strength do more or less of it by strength."""
    operation, x = augment.INTENSITY[name], picture(1, 3)[0] * 0.8 + 0.1
    weak, full = operation(x, 0.02), operation(x, 0.8)
    assert weak.shape == full.shape == x.shape and weak.isfinite().all() and full.isfinite().all()
    assert torch.equal(full, x) == (name == "identity")
    assert torch.equal(full, weak) == (name in ("identity", "autocontrast", "equalize"))
    if name in ("contrast", "brightness", "sharpness", "saturation", "posterize", "blur"):
        assert (full - x).abs().mean() > (weak - x).abs().mean()


def test_operations_by_hand() -> None:
    x = torch.tensor([[[0.2, 0.4, 0.6]]])
    assert augment.INTENSITY["autocontrast"](x, 0.5).flatten().tolist() == pytest.approx([0, 0.5, 1])
    assert augment.INTENSITY["solarize"](x, 0.5).flatten().tolist() == pytest.approx([0.2, 0.4, 0.4])
    assert augment.INTENSITY["brightness"](x, 0.5).flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert augment.INTENSITY["contrast"](x, 0.5).flatten().tolist() == pytest.approx([0.3, 0.4, 0.5])
    assert augment.INTENSITY["posterize"](
        torch.tensor([[[0.0, 0.03, 0.07, 1.0]]]), 1.0
    ).flatten().tolist() == pytest.approx([0, 0, 1 / 16, 15 / 16])
    flat = torch.full((2, 3, 3), 0.4)
    assert torch.equal(augment.INTENSITY["autocontrast"](flat, 0.0), flat)


def test_only_the_strong_view_is_another(planned: Any, draw: Any) -> None:
    ours, usual = draw(planned("augseg"), 3), draw(planned("fixmatch"), 3)
    assert torch.equal(ours.labelled.images, usual.labelled.images)
    assert torch.equal(ours.pool.weak, usual.pool.weak)
    assert not torch.equal(ours.pool.strong[0], usual.pool.strong[0])
    assert ours.pool.boxes.flatten(1).any(1).all() and not draw(planned("augseg", data__cutmix=0.0), 3).pool.boxes.any()


# -- adaptive CutMix ---------------------------------------------------------------------------------------------------


def test_confidence_by_hand(planned: Any) -> None:
    """rho = mean of max p (1 - H / ln C): 0 for the uniform, 1 for the certain, and their mean over pixels inside."""
    method = planned("augseg").build()
    p = torch.zeros(3, 4, 1, 4)
    p[0] = 0.25
    p[1, 2] = 1
    p[2, :, :, :2], p[2, 1, :, 2:] = 0.25, 1
    inside = torch.ones(3, 1, 4, dtype=torch.bool)
    torch.testing.assert_close(method.confidence(p, inside), torch.tensor([0.0, 1.0, 0.5]))
    inside[2, :, 2:] = False
    assert method.confidence(p, inside)[2] == 0


def test_the_authors_numbers() -> None:
    """Confidence of two images, and the loss of pixels above a threshold of 0.7 with its gradient.

    ZhenZHAO/AugSeg@0db0944d, train_semi.py 331-335; @65bd4762, augseg/utils/loss_helper.py 310-315.
    """
    method = toy_method(AugSeg, toy_card(3), toy_settings(AugSeg, method__threshold=0.7))
    i = torch.arange(36.0).view(2, 3, 2, 3)
    probabilities, inside = (1.2 * (0.7 * i).cos()).softmax(1), torch.ones(2, 2, 3, dtype=torch.bool)
    torch.testing.assert_close(method.confidence(probabilities, inside), torch.tensor([0.1722438, 0.1722203]))
    pseudo, scores = method.accept(probabilities, inside), (2 * (1.3 * i).sin()).requires_grad_()
    assert pseudo.accepted.sum() == 4
    loss = pseudo_loss("ce", scores, pseudo.labels, pseudo.accepted)
    (gradient,) = torch.autograd.grad(loss, scores)
    torch.testing.assert_close(torch.stack([loss.detach(), gradient.norm()]), torch.tensor([0.9935234, 0.2133128]))


@pytest.mark.parametrize("rank, draws, mean, deviation", [(2, 9, 0.1595, 0.0952), (4, 7, 0.3534, 0.1314)])
def test_boxes_have_the_authors_size(rank: int, draws: int, mean: float, deviation: float, planned: Any) -> None:
    """Share of the area of 40,000 boxes of theirs, in a square of 100 pixels; one size a batch before the edge cuts.

    ZhenZHAO/AugSeg@65bd4762, augseg/dataset/augs_ALIA.py 11-34 with Beta(8, 2) and Beta(4, 4).
    """
    method, like = planned("augseg").build(), torch.ones(8, 50, 100, dtype=torch.bool)
    torch.manual_seed(0)
    boxes = torch.stack([method.boxes(like, rank, draws) for _ in range(600)])
    area = boxes.float().mean((2, 3))
    assert abs(area.mean() - mean) < 0.01 and abs(area.std() - deviation) < 0.01
    sides = torch.stack([boxes.any(2).sum(2), boxes.any(3).sum(2) * 2])
    assert (area.amax(1) - area.amin(1)).max() > 0.1  # the edge cuts some
    assert (sides[0].amax(1) - sides[1].amax(1)).abs().float().median() <= 2  # of the image's shape


def test_unsure_images_lend_labelled_content_and_sure_ones_do_not(
    planned: Any, draw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Image 0 has rho 0 and image 1 has rho 1. What is pasted on image 0 shows in image 1's box alone: its pixels,
    truth and acceptance are the labelled image's. Image 1 lends its own."""
    p = planned("augseg", method__threshold=0.95)
    method, batch = p.build(), draw(p)
    paste, boxes = torch.zeros_like(batch.pool.boxes), torch.zeros_like(batch.pool.boxes)
    paste[:, 6:14, 6:14] = boxes[:, 2:20, 2:12] = True
    monkeypatch.setattr(method, "boxes", lambda like, rank, draws: paste if rank == 2 else boxes)
    labelled = replace(batch.labelled, masks=torch.full_like(batch.labelled.masks, 3))
    batch = replace(batch, labelled=labelled)
    probabilities = torch.full((2, 4, 32, 32), 0.25)
    probabilities[1] = torch.tensor([0.0, 1.0, 0.0, 0.0])[:, None, None]
    pseudo = PseudoLabels(probabilities.argmax(1).to(torch.uint8), probabilities.amax(1) >= 0.95, probabilities)
    monkeypatch.setattr(method, "pseudo_labels", lambda *_: pseudo)
    seen: list[Any] = []
    forward = method.network.forward
    monkeypatch.setattr(method.network, "forward", lambda x, perturbed=None: (seen.append(x), forward(x, perturbed))[1])
    monkeypatch.setattr(
        "diffmatch.methods.augseg.pseudo_loss",
        lambda kind, scores, target, accepted: seen.append((target, accepted)) or scores.sum() * 0,
    )
    found = losses(method, batch)
    images, (target, accepted) = seen
    (first, second), strong, inside = images[2:], batch.pool.strong[0], batch.pool.inside
    assert torch.equal(first, torch.where(boxes[0], strong[1], strong[0]))
    lent = torch.where(paste[0], labelled.images[0], strong[0])
    assert torch.equal(second, torch.where(boxes[1], lent, strong[1])) and not torch.equal(lent, strong[0])
    own = torch.where(inside, pseudo.labels, VOID)
    assert torch.equal(target[0], torch.where(boxes[0], own[1], own[0]))
    assert torch.equal(target[1], torch.where(boxes[1], torch.where(paste[0], 3, own[0]), own[1]))
    assert torch.equal(accepted[0], boxes[0] & inside[1])
    assert torch.equal(accepted[1], torch.where(boxes[1], paste[0], inside[1]))
    assert found.accepted.tolist() == [0, int(inside[1].sum()), 0, 0]  # counts are of pseudo-labels, not of truth


def test_no_cutmix_no_pasting(planned: Any, draw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    p = planned("augseg", data__cutmix=0.0)
    method, batch = p.build(), draw(p)
    seen: list[Any] = []
    forward = method.network.forward
    monkeypatch.setattr(method.network, "forward", lambda x, perturbed=None: (seen.append(x), forward(x, perturbed))[1])
    losses(method, batch)
    assert torch.equal(seen[0], torch.cat([batch.labelled.images, batch.pool.strong[0]]))


def test_pasting_is_drawn_by_confidence(planned: Any, draw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With rho = 0.75 a quarter of the images receive something."""
    p = planned("augseg", train__batch=8)
    method, batch = p.build(), draw(p, 8)
    monkeypatch.setattr(method, "boxes", lambda like, rank, draws: torch.ones_like(like))
    monkeypatch.setattr(method, "confidence", lambda *_: torch.full((8,), 0.75))
    mixed: list[Any] = []
    monkeypatch.setattr("diffmatch.methods.augseg.cutmix", lambda x, boxes, other: (mixed.append(other), x)[1])
    for seed in range(40):
        losses(method, batch, seed)
    donors = batch.labelled.images.roll(-1, 0)
    share = torch.stack([(x == donors).flatten(1).all(1) for x in mixed]).float().mean()
    assert 0.17 < share < 0.33


# -- the teacher -------------------------------------------------------------------------------------------------------


def test_the_teacher_teaches_and_predicts(planned: Any, draw: Any, fit: Any) -> None:
    p = planned("augseg", method__ema=0.9)
    method = p.build()
    fit(method, [draw(p, 2, 2 * k) for k in range(3)])
    images = draw(p).pool.weak
    method.eval()
    with torch.no_grad():
        taught = method.teacher(images).softmax(1)
        assert torch.equal(method.probabilities(images, ["a", "b"]), taught)
        assert torch.equal(method.pseudo_labels(images, ["a", "b"]).probabilities, taught)
        assert not torch.equal(method.network(images), method.teacher(images))


def test_the_teacher_is_the_student_through_the_first_epoch(planned: Any) -> None:
    """0 through the first 80th of 800 steps, then min(1 - 1/(i + 1), 0.999), counted from the first step, as theirs;
    BatchNorm's statistics are averaged too (ZhenZHAO/AugSeg@0db0944d, train_semi.py 393-411)."""
    method = planned("augseg").build()

    def follow(step: int) -> float:
        with torch.no_grad():
            method.network.classifier.bias.fill_(1.0)
            method.teacher.classifier.bias.fill_(0.0)
        method.after_step(Progress(step, 800))
        return 1 - float(method.teacher.classifier.bias[0])

    assert [follow(step) for step in (0, 9, 10, 99, 799)] == pytest.approx([0, 0, 10 / 11, 0.99, 0.99875], abs=1e-6)
    method.network.extractor.apply(lambda m: m.running_mean.fill_(1.0) if hasattr(m, "running_mean") else None)
    method.after_step(Progress(99, 800))
    means = [value for key, value in method.teacher.state_dict().items() if "running_mean" in key]
    assert means and all(torch.allclose(value, torch.tensor(0.01)) for value in means)
