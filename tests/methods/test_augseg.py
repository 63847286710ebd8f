"""Views of random intensity, and labelled content where the teacher is unsure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from diffmatch.data import augment
from diffmatch.learning.batch import Progress
from diffmatch.learning.pseudo_labels import PseudoLabels, cutmix
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


def test_unsure_images_receive_labelled_content_and_sure_ones_do_not(
    planned: Any, draw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Image 0 has rho 0 and image 1 has rho 1: pixels, truth and acceptance come from the labelled image in the box of
    image 0 only."""
    p = planned("augseg", method__threshold=0.95)
    method, batch = p.build(), draw(p)
    boxes = torch.zeros_like(batch.pool.boxes)
    boxes[0, 2:10, 2:10] = boxes[1, 16:30, 16:30] = True  # what image 0 receives is pasted in the box of image 1
    labelled = replace(batch.labelled, masks=torch.full_like(batch.labelled.masks, 3))
    batch = replace(batch, labelled=labelled, pool=replace(batch.pool, boxes=boxes))
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
    paste = boxes.roll(1, 0) & torch.tensor([True, False])[:, None, None]
    pasted = torch.where(paste[:, None, None], batch.labelled.images, batch.pool.strong[0])
    assert torch.equal(images[2:], cutmix(pasted, boxes)) and not torch.equal(pasted[0], batch.pool.strong[0][0])
    assert torch.equal(
        target,
        cutmix(torch.where(paste, 3, torch.where(batch.pool.inside, pseudo.labels, 255)), boxes).to(target.dtype),
    )
    assert torch.equal(accepted, cutmix(paste | (pseudo.accepted & batch.pool.inside), boxes))
    assert accepted[0][paste[0] & ~boxes[0]].all() and not accepted[0][~paste[0] & ~boxes[0]].any()
    assert found.accepted.tolist() == [
        0,
        int(batch.pool.inside[1].sum()),
        0,
        0,
    ]  # counts are of pseudo-labels, not of pasted truth


def test_pasting_is_drawn_by_confidence(planned: Any, draw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With rho = 0.75 a quarter of the images receive something."""
    p = planned("augseg", train__batch=8)
    method, batch = p.build(), draw(p, 8)
    batch = replace(batch, pool=replace(batch.pool, boxes=torch.ones_like(batch.pool.boxes)))
    monkeypatch.setattr(method, "confidence", lambda *_: torch.full((8,), 0.75))
    mixed: list[Any] = []
    monkeypatch.setattr("diffmatch.methods.augseg.cutmix", lambda x, boxes: (mixed.append(x), x)[1])
    for seed in range(40):
        losses(method, batch, seed)
    share = torch.stack([(x == batch.labelled.images).flatten(1).all(1) for x in mixed]).float().mean()
    assert 0.17 < share < 0.33


# -- the teacher -------------------------------------------------------------------------------------------------------


def test_the_teacher_teaches_and_the_student_predicts(planned: Any, draw: Any, fit: Any) -> None:
    """The first teacher is the first student's; later ones lag behind."""
    p = planned("augseg", method__ema=0.9)
    method = p.build()
    fit(method, [draw(p)])
    assert all(
        torch.equal(a, b)
        for a, b in zip(method.teacher.state_dict().values(), method.network.state_dict().values(), strict=True)
    )
    fit(method, [draw(p, 2, 2 * k) for k in range(3)])
    images = draw(p).pool.weak
    method.eval()
    with torch.no_grad():
        assert torch.equal(method.probabilities(images, ["a", "b"]), method.network(images).softmax(1))
        assert torch.equal(method.pseudo_labels(images, ["a", "b"]).probabilities, method.teacher(images).softmax(1))
        assert not torch.equal(method.network(images), method.teacher(images))
