"""Subclasses that are found once, and their gate on the pseudo-labels of the classes.

Golden numbers were made by the authors' functions (Dayan-Guan/USRN 20ac4c1, models/model.py) on the numbers below.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from diffmatch.domain import VOID
from diffmatch.learning.batch import Batch, Labelled, Pool, Progress
from diffmatch.learning.subclasses import Subclasses
from diffmatch.methods.usrn import halved, normalised_entropy


def probabilities(*values: float) -> Tensor:
    """One pixel, (1, K, 1, 1)."""
    return torch.tensor(values).view(1, -1, 1, 1)


def with_subclasses(method: Any, counts: list[int]) -> Any:
    method.subclasses = Subclasses(counts, 1)
    method.subclasses.found.fill_(True)
    return method


def step(method: Any, batch: Any, at: int, steps: int) -> Any:
    torch.manual_seed(at)
    return method.train().losses(batch, Progress(at, steps))


def test_golden_entropies() -> None:
    """`prob_2_entropy`, summed: a share of the largest, so that 100 subclasses can be more certain than 3 classes."""
    for p, expected in (
        (probabilities(0.8, 0.15, 0.05), 0.5578578),
        (probabilities(0.9, 0.05, 0.03, 0.02), 0.3087716),
        (probabilities(0.4, 0.3, 0.2, 0.1), 0.9232197),
        (probabilities(0.7, *[0.3 / 99] * 99), 0.4319927),
    ):
        torch.testing.assert_close(normalised_entropy(p), torch.full((1, 1, 1), expected))


@pytest.mark.parametrize(
    ("q", "kept", "label", "accepted"),
    [
        ((0.05, 0.03, 0.9, 0.02), (0.0, 0.15, 0.0), 1, False),  # certain, of class 1: all else is held back
        ((0.9, 0.05, 0.03, 0.02), (0.8, 0.0, 0.0), 0, True),  # certain, of the same class
        ((0.1, 0.2, 0.4, 0.3), (0.8, 0.15, 0.05), 0, True),  # less certain than p: the gate is open
    ],
)
def test_the_gate(q: tuple[float, ...], kept: tuple[float, ...], label: int, accepted: bool, planned: Any) -> None:
    """Lines 378-390. A gate that never closes or never opens fails here."""
    method = with_subclasses(planned("usrn").build(), [2, 1, 1])
    found = method.gated(probabilities(0.8, 0.15, 0.05), probabilities(*q))
    torch.testing.assert_close(found.probabilities, probabilities(*kept))
    assert (int(found.labels), bool(found.accepted)) == (label, accepted)


def test_many_subclasses_close_the_gate(planned: Any) -> None:
    """In nats q would be the less certain one: 1.989 against 0.613."""
    method = with_subclasses(planned("usrn").build(), [1, 98, 1])
    found = method.gated(probabilities(0.8, 0.15, 0.05), probabilities(*[0.3 / 99] * 50, 0.7, *[0.3 / 99] * 49))
    assert found.labels == 1 and not found.accepted


def waves(pace: float, channels: int, height: float = 4.0) -> Tensor:
    """Scores (2, channels, 4, 6), equal in squares of 2 x 2."""
    values = ((torch.arange(12 * channels).float() * pace + pace).sin() * height).view(2, channels, 2, 3)
    return values.repeat_interleave(2, 2).repeat_interleave(2, 3).requires_grad_()


def test_golden_losses(planned: Any, monkeypatch: Any) -> None:
    """The whole of `USRN.forward` in semi mode (lines 346-398), terms and gradients, with scores in place of the
    networks; 7 of 12 gates are open, 11 classes and 7 subclasses are confident before the gate."""
    method = with_subclasses(planned("usrn", train__loss="ce").build(), [2, 1, 1])
    scores = {
        0: (waves(0.7, 3), waves(1.1, 4)),
        1: (waves(1.3, 3), waves(1.7, 4, 5)),
        2: (waves(1.9, 3), waves(2.3, 4)),
    }

    def heads(images: Tensor, pooled: bool = False) -> tuple[Tensor, Tensor]:
        of_classes, of_subclasses = scores[int(images.flatten()[0])]
        return (halved(of_classes), halved(of_subclasses)) if pooled else (of_classes, of_subclasses)

    masks = torch.arange(48).view(2, 4, 6) % 3
    subclasses = torch.tensor([0, 2, 3])[masks]
    subclasses[:, :, ::4] = torch.where(subclasses[:, :, ::4] == 0, 1, subclasses[:, :, ::4])
    masks[0, 0, 0] = subclasses[0, 0, 0] = VOID
    monkeypatch.setattr(method.network, "heads", heads)
    monkeypatch.setattr(method, "split", lambda *_: subclasses)
    images, inside = torch.zeros(2, 1, 1, 4, 6), torch.ones(2, 4, 6, dtype=torch.bool)
    pool = Pool(images + 1, (images + 2,), inside, ~inside, ["", ""])
    found = step(method, Batch(Labelled(images, masks.to(torch.uint8), ["", ""]), pool), 0, 1)
    expected = {"sup": 3.3763778, "sup_sub": 1.8389766, "unsup": 1.4299383, "unsup_sub": 1.9986925}
    torch.testing.assert_close(found.terms, {name: torch.tensor(value) for name, value in expected.items()})
    found.total.backward()
    slopes = torch.stack([part.grad.norm() for key in (0, 2) for part in scores[key]])
    torch.testing.assert_close(slopes, torch.tensor([0.1629966, 0.1395621, 0.1141030, 0.1335546]))
    assert scores[1][0].grad is None
    assert found.given.tolist() == [6, 4, 2] and found.accepted.tolist() == [4, 2, 2]


def test_cutmix_moves_pixels_and_labels_alike(planned: Any, draw: Any, monkeypatch: Any) -> None:
    """A network that sees the class of a pixel in its value has no loss on a view whose labels have moved with it."""
    p = planned("usrn", data__cutmix=1.0)
    method, batch = with_subclasses(p.build(), [1, 1, 1, 1]), draw(p)

    def heads(images: Tensor, pooled: bool = False) -> tuple[Tensor, Tensor]:
        values = images[:, 0, :1]
        scores = -50 * (values - torch.arange(4.0).view(4, 1, 1)).square()
        scores = torch.nn.functional.avg_pool2d(scores, 4) if pooled else scores
        return scores, scores

    monkeypatch.setattr(method.network, "heads", heads)
    monkeypatch.setattr(method, "split", lambda *_: batch.labelled.masks)
    pool = batch.pool
    pool.weak[0], pool.weak[1], pool.boxes[:] = 1.0, 3.0, False
    pool.strong[0][:] = pool.weak
    pool.inside[:], pool.boxes[0, 4:16, 8:24], pool.boxes[1, :8] = True, True, True
    found = step(method, batch, 0, 1)
    assert found.terms["unsup_sub"] < 1e-6 and found.accepted.tolist() == [0, 64, 0, 64]
    pool.strong[0][:] = 3 - pool.weak
    assert step(method, batch, 0, 1).terms["unsup_sub"] > 10


def test_padding_teaches_nothing(planned: Any, draw: Any) -> None:
    p = planned("usrn", method__warmup=0.0, method__threshold=0.0, method__bank=32)
    method, batch = p.build(), draw(p)
    step(method, batch, 0, 2)
    batch.pool.inside[:, :10] = False
    found = step(method, batch, 1, 2)
    small = torch.nn.functional.interpolate(batch.pool.inside[:, None].float(), size=(8, 8), mode="nearest-exact")
    assert found.given.sum() == found.accepted.sum() == small.sum() and found.terms["unsup"] > 0
    batch.pool.inside[:] = False
    found = step(method, batch, 1, 2)
    assert found.given.sum() == 0 and found.terms["unsup"] == found.terms["unsup_sub"] == 0


def test_subclasses_are_found_once(planned: Any, draw: Any, same: Any) -> None:
    """Ten steps, frozen at 2, clustered at 4: before that no subclass is learnt and nothing accepted; the second
    network begins as the first one is then; the subclasses of an image never change afterwards."""
    p = planned("usrn", method__warmup=0.2, method__gather=0.2, method__threshold=0.0, method__bank=32)
    method, batches = p.build(), [draw(p, 2, 2 * k) for k in range(3)]
    assert method.subclasses.counts == method.counts and max(method.counts) > 1
    descent = torch.optim.SGD([q for q in method.parameters() if q.requires_grad], 0.05)
    frozen, labels = None, []
    for at in range(7):
        before = {key: value.clone() for key, value in method.network.extractor.state_dict().items()}
        pseudo = method.pseudo_labels(batches[0].pool.weak, ["a", "b"])
        losses = step(method, batches[at % 3], at, 10)
        if at == 2:
            frozen = before
        if at >= 2:
            assert same(frozen, method.baseline.state_dict())
        assert bool(method.subclasses.found) == (at >= 4)
        assert bool(method.memory.filled.any()) == (at >= 2)
        assert (losses.terms["sup_sub"] > 0) == (losses.terms["unsup"] > 0) == (losses.accepted.sum() > 0) == (at >= 4)
        assert bool(pseudo.accepted.any()) == (at > 4)
        if at >= 4:
            labels.append(method.split(batches[0].labelled, Progress(at + 1, 10)))
        losses.total.backward()
        descent.step()
        descent.zero_grad()
        if at == 3:
            first = {key: value.clone() for key, value in method.network.extractor.state_dict().items()}
        if at == 4:
            moved = method.network.sub_extractor.state_dict()
            assert not same(before, moved) and same(before, first)
    assert torch.equal(labels[0], labels[-1]) and (labels[0] != VOID).any()
    known = method.subclasses.parents[labels[0][labels[0] != VOID].long()]
    assert set(known.tolist()) <= set(batches[0].labelled.masks.unique().tolist())
    assert not method.baseline.training


def test_the_second_network_begins_as_the_first(planned: Any, draw: Any, same: Any) -> None:
    p = planned("usrn", method__warmup=0.0, method__bank=32)
    method, batch = p.build(), draw(p)
    own, sub = method.network.extractor, method.network.sub_extractor
    assert not same(own.state_dict(), sub.state_dict())
    method.split(batch.labelled, Progress(0, 2))
    assert not same(own.state_dict(), sub.state_dict())
    method.split(batch.labelled, Progress(1, 2))
    assert same(own.state_dict(), sub.state_dict())


def test_the_bank_holds_features_of_all_steps(planned: Any, draw: Any) -> None:
    """A step of many pixels does not drive those of earlier steps out."""
    p = planned("usrn", method__warmup=0.0, method__gather=0.5, method__bank=40)
    method, labelled = p.build(), draw(p).labelled
    labelled.masks.zero_()
    firsts = []
    for at in range(4):
        labelled.images.fill_(at)
        method.split(labelled, Progress(at, 8))
        firsts.append(method.memory.filled[0].item())
    assert firsts == [10, 20, 30, 40]
    assert (method.memory.filled[1:] == 0).all()


def test_pseudo_labels_are_those_of_the_grid(planned: Any, monkeypatch: Any) -> None:
    method = with_subclasses(planned("usrn").build(), [2, 1, 1, 1])
    generator = torch.Generator().manual_seed(0)
    own, sub = (3 * torch.randn(2, count, 8, 8, generator=generator) for count in (4, 5))
    monkeypatch.setattr(method.network, "heads", lambda images, pooled: (own, sub))
    expected = method.gated(own.softmax(1), sub.softmax(1))
    found = method.pseudo_labels(torch.zeros(2, 1, 1, 32, 32), ["a", "b"])
    for small, large in zip(expected, found, strict=True):
        assert torch.equal(small.repeat_interleave(4, -1).repeat_interleave(4, -2), large)
    assert 0 < found.accepted.sum() < found.accepted.numel()
    assert torch.equal(found.labels, found.probabilities.argmax(1).to(torch.uint8))
