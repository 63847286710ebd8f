"""Rounds, and pseudo-labels that are distributed as the labels are."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from diffmatch.conformance.method import toy_card, toy_method, toy_settings
from diffmatch.learning.batch import Batch, Labelled, Pool, Progress
from diffmatch.methods.dars import DARS, LEVELS, levels


def step(method: Any, batch: Any, at: int, steps: int) -> Any:
    torch.manual_seed(at)
    return method.train().losses(batch, Progress(at, steps))


def count(method: Any, probabilities: torch.Tensor, inside: torch.Tensor) -> None:
    method.histogram.add(probabilities.argmax(1), levels(probabilities), inside)


def test_the_loss_is_the_authors(monkeypatch: pytest.MonkeyPatch) -> None:
    """CVMI-Lab/DARS 0cfe09a: tool/gen_pseudo_label_utils.py 365-395 with thresholds (.55, .6, .5) and rates (1, 1, 0),
    then `nn.CrossEntropyLoss(ignore_index=255)` (model/pspnet.py 30 and 124)."""
    method = toy_method(DARS, toy_card(3), toy_settings(DARS, train__loss="ce"))
    weak = [(2.0, 0, 0), (1.0, 0, 0), (0.2, 0, 0), (0, 1.5, 0), (0, 0.5, 0), (0, 0, 3.0), (0, 0, 1.0), (0, 2.5, 0)]
    student = [(1.0, 0, 0), (0, 1.0, 0), (0.5, 0, 0), (0, 1.0, 0), (0, 1.0, 0), (0, 0, 1.0), (0, 1.0, 1.0), (2.0, 0, 0)]
    taught, scores = (torch.tensor(pixels).T.reshape(1, 3, 2, 4) for pixels in (weak, student))
    scores.requires_grad_()
    least = (torch.tensor([0.55, 0.6, 0.5]) * LEVELS).long()
    monkeypatch.setattr(method, "taught", lambda _: taught.softmax(1))
    monkeypatch.setattr(method.network, "forward", lambda _: scores)
    monkeypatch.setattr(method.histogram, "limits", lambda _: (least, torch.tensor([1.0, 1.0, 0.0])))
    images, inside = torch.zeros(1, 1, 3, 2, 4), torch.ones(1, 2, 4, dtype=torch.bool)
    batch = Batch(
        Labelled(images, torch.zeros(1, 2, 4, dtype=torch.uint8), ["a"]), Pool(images, (), inside, ~inside, ["b"])
    )
    losses = step(method, batch, 0, 1)
    assert losses.accepted.tolist() == [2, 2, 0]
    torch.testing.assert_close(losses.terms["unsup"].detach(), torch.tensor(1.223470))
    losses.terms["unsup"].backward()
    torch.testing.assert_close(scores.grad.norm(), torch.tensor(0.430546))


def test_the_labelled_shares_follow_the_prior(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cut: predictions are even, labels are not; of what is taught each class has its share of the labels, be its
    pixels all equally confident or not."""
    method = toy_method(DARS, toy_card(3), toy_settings(DARS))
    method.pixels.copy_(torch.tensor([60, 30, 10]))
    method.ratio.fill_(0.5)
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(4, 3, 64, 64, generator=generator) * 2
    scores[2:, 0] = 30  # half of the pixels are certain of class 0
    inside = torch.ones(4, 64, 64, dtype=torch.bool)
    probabilities = scores.softmax(1)
    count(method, probabilities, inside)
    pseudo = method.select(probabilities, list("abcd"))
    share = torch.bincount(pseudo.labels[pseudo.accepted].long()) / inside.sum()
    torch.testing.assert_close(share, 0.5 * torch.tensor([0.6, 0.3, 0.1]), atol=0.01, rtol=0)
    assert (probabilities.argmax(1) == 0).float().mean() > 0.6


def test_rounds(planned: Any, draw: Any, same: Any) -> None:
    """Round 0 teaches no pseudo-label. At each later round's first step the student becomes the teacher, rho is the
    round's, and confidences are counted anew."""
    p = planned("dars", method__ratios=(0.3, 0.6))
    method, batch = p.build(), draw(p)
    descent = torch.optim.SGD([q for q in method.parameters() if q.requires_grad], 0.05)
    before, changed, ratios, seen = {k: v.clone() for k, v in method.teacher.state_dict().items()}, [], [], []
    for at in range(7):
        student = {k: v.clone() for k, v in method.network.state_dict().items()}
        losses = step(method, batch, at, 7)
        after = method.teacher.state_dict()
        if not same(before, after):
            changed.append(at)
            assert same(after, student)  # BatchNorm's statistics too
            before = {k: v.clone() for k, v in after.items()}
        assert (losses.accepted.sum() > 0) == (losses.terms["unsup"] > 0) == (at >= 3)
        ratios.append(round(float(method.ratio), 3))
        seen.append(int(method.histogram.counts.sum() / batch.pool.inside.sum()))
        losses.total.backward()
        descent.step()
        descent.zero_grad()
        method.after_step(Progress(at, 7))
    assert changed == [3, 5] and ratios == [0, 0, 0, 0.3, 0.3, 0.6, 0.6] and seen == [1, 2, 3, 1, 2, 1, 2]
    assert not any(m.training for m in method.train().teacher.modules())


def test_a_dropped_pixel_stays_dropped(planned: Any, draw: Any) -> None:
    """The draw belongs to the key, as the authors' labels are made once in a round; a share of the rate is kept."""
    p = planned("dars")
    method, batch = p.build().eval(), draw(p)
    with torch.no_grad():
        method.teacher.classifier.weight.zero_()
        method.teacher.classifier.bias.copy_(50 * torch.eye(4)[2])
    method.ratio.fill_(0.5)
    count(method, method.taught(batch.pool.weak), batch.pool.inside)
    rate = 0.5 * p.statistics.pixels[2] / sum(p.statistics.pixels)
    images, keys = torch.randn(6, 1, 1, 64, 64, generator=torch.Generator().manual_seed(0)), list("abcdef")
    accepted = method.pseudo_labels(images, keys).accepted
    assert abs(accepted.float().mean() - rate) < 0.02
    assert torch.equal(method.pseudo_labels(images[[4, 2]], ["e", "c"]).accepted, accepted[[4, 2]])
    assert not torch.equal(method.pseudo_labels(images, list("ghijkl")).accepted, accepted)


def test_a_class_without_labels_is_not_taught() -> None:
    method = toy_method(DARS, toy_card(3), toy_settings(DARS))
    method.pixels.copy_(torch.tensor([60, 0, 40]))
    method.ratio.fill_(1.0)
    probabilities = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).softmax(1)
    count(method, probabilities, torch.ones(2, 32, 32, dtype=torch.bool))
    pseudo = method.select(probabilities, ["a", "b"])
    assert set(pseudo.labels[pseudo.accepted].tolist()) == {0, 2} and (pseudo.labels == 1).any()


def test_labels_do_not_know_left_from_right(planned: Any) -> None:
    method = planned("dars").build().eval()
    images = torch.randn(2, 1, 1, 32, 48, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(method.taught(images.flip(-1)), method.taught(images).flip(-1), atol=1e-5, rtol=1e-4)


def test_nearly_certain_pixels_are_equally_confident() -> None:
    confidence = torch.tensor([0.9999, 0.99999, 1.0, 0.5])
    p = torch.stack([confidence, 1 - confidence])[None, :, None]
    assert levels(p)[0, 0].tolist() == [LEVELS, LEVELS, LEVELS, LEVELS // 2]
