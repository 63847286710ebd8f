"""Passes as the authors have them, two strong views, a view with perturbed features, CutMix with a draw of its own.

The authors' numbers are in test_fixmatch.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from diffmatch.domain import VOID
from diffmatch.learning.batch import Progress
from diffmatch.learning.losses import pseudo_loss
from diffmatch.learning.method import Views
from diffmatch.learning.pseudo_labels import cutmix


def losses(method: Any, batch: Any) -> Any:
    torch.manual_seed(0)
    return method.train().losses(batch, Progress(0, 1))


Call = tuple[str, bool, torch.Tensor, torch.Tensor]
"""Entry, training mode, images, scores."""


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What goes through the network, in which mode, and its scores."""

    def watch(method: Any) -> list[Call]:
        calls: list[Call] = []

        def spied(entry: str) -> Any:
            call = getattr(method.network, entry)

            def spy(images: torch.Tensor, *rest: Any) -> Any:
                scores = call(images, *rest)
                calls.append((entry, method.network.training, images, scores))
                return scores

            return spy

        for entry in ("forward", "both"):
            monkeypatch.setattr(method.network, entry, spied(entry))
        return calls

    return watch


def test_passes_and_weights_by_hand(planned: Any, draw: Any, seen: Any) -> None:
    """L = 1/2 [L_sup + 0.5 H(w, fp) + 0.25 H(w, s1) + 0.25 H(w, s2)].

    The pasted images are labelled in eval mode; (labelled, weak) pass together in train mode and give the labels; the
    strong views pass together afterwards.
    """
    p = planned("unimatch", method__threshold=0.0, train__loss="ce")
    method, batch = p.build(), draw(p)
    pool = batch.pool
    first = torch.zeros_like(pool.boxes)
    first[0, 4:12, 4:20] = True
    second = first.roll(1, 0)
    inside = torch.ones_like(pool.inside)
    inside[1, :10] = False
    batch = replace(batch, pool=replace(pool, boxes=first, inside=inside, partner=replace(pool.partner, boxes=second)))
    other = batch.pool.partner
    calls = seen(method)
    found = losses(method, batch)
    (_, *pasted), (entry, train, clean, (scores, perturbed)), (_, *strong) = calls
    assert pasted[0] is False and torch.equal(pasted[1], other.weak)
    assert (entry, train) == ("both", True) and torch.equal(clean, torch.cat([batch.labelled.images, pool.weak]))
    mixed = [cutmix(view, box, o) for view, box, o in zip(pool.strong, (first, second), other.strong, strict=True)]
    assert strong[0] is True and torch.equal(strong[1], torch.cat(mixed))
    labels, others = scores[2:].argmax(1).to(torch.uint8), pasted[2].argmax(1).to(torch.uint8)

    def taught(view: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        own, there = (torch.where(a, x, VOID) for a, x in ((inside, labels), (other.inside, others)))
        return pseudo_loss("ce", view, cutmix(own, boxes, there), cutmix(inside, boxes, other.inside))

    terms = found.terms
    torch.testing.assert_close(terms["features"], 0.5 * taught(perturbed[2:], torch.zeros_like(first)))
    views = zip(strong[2].chunk(2), (first, second), strict=True)
    torch.testing.assert_close(terms["unsup"], 0.25 * sum(taught(view, box) for view, box in views))
    torch.testing.assert_close(found.total, (terms["sup"] + terms["features"] + terms["unsup"]) / 2)


def test_the_labels_teach_and_are_not_taught(planned: Any, draw: Any) -> None:
    """No gradient reaches the weak view's scores through its labels' side: without the labelled term and with nothing
    accepted, the network has no gradient at all."""
    p = planned("unimatch", method__threshold=1.0, train__loss="ce")
    method, batch = p.build(), draw(p)
    void = replace(batch, labelled=replace(batch.labelled, masks=torch.full_like(batch.labelled.masks, VOID)))
    losses(method, void).total.backward()
    assert all(q.grad is None or not q.grad.any() for q in method.parameters())


def test_perturbed_features_differ_from_the_weak_view(planned: Any, draw: Any) -> None:
    """The stream is not a copy of the weak view: without dropout its loss is another."""
    batch = draw(planned("unimatch"))
    terms = [
        losses(planned("unimatch", method__threshold=0.0, network__feature_dropout=d).build(), batch).terms
        for d in (0.0, 0.5)
    ]
    assert terms[0]["features"] != terms[1]["features"]


@pytest.mark.parametrize("loss", ["ce", "ce_dice", "ohem", "squared"])
def test_below_the_threshold_nothing_is_taught(loss: str, planned: Any, draw: Any) -> None:
    p = planned("unimatch", method__threshold=1.0, train__loss=loss)
    found = losses(p.build(), draw(p))
    assert found.terms["features"] == found.terms["unsup"] == 0 and found.accepted.sum() == 0 < found.given.sum()


@pytest.mark.parametrize("name", ["unimatch", "fixmatch"])
def test_cutmix_is_on_by_itself_and_can_be_overruled(name: str, planned: Any, draw: Any) -> None:
    """The method's 1/2 where `data.cutmix` is not set; what is set holds; the views do not depend on it."""
    ours, off, always = (planned(name, **changes) for changes in ({}, {"data__cutmix": 0.0}, {"data__cutmix": 1.0}))
    boxed = [draw(p, 40).pool.boxes.flatten(1).any(1).float().mean() for p in (ours, off, always)]
    assert 0.25 < boxed[0] < 0.75 and boxed[1] == 0 and boxed[2] == 1
    assert draw(ours).pool.partner is not None and draw(off).pool.partner is None
    a, b = draw(ours, 4).pool, draw(off, 4).pool
    assert all(torch.equal(x, y) for x, y in zip((a.weak, *a.strong), (b.weak, *b.strong), strict=True))
    assert torch.isfinite(losses(off.build(), draw(off)).total)


def test_the_partner_is_another_draw_of_the_pool(planned: Any, draw: Any) -> None:
    """With a box of its own, whatever the batch's size; the pool's own draws do not depend on it."""
    p = planned("unimatch", data__cutmix=1.0)
    pool, alone = draw(p, 4, 1).pool, draw(p, 4, 1, method=Alone).pool
    other = pool.partner
    assert alone.partner is None and torch.equal(alone.weak, pool.weak) and torch.equal(alone.boxes, pool.boxes)
    assert other.partner is None and other.weak.shape == pool.weak.shape and len(other.strong) == 2
    assert pool.keys != other.keys and not torch.equal(pool.boxes, other.boxes)
    one = draw(p, 1, 2).pool
    assert one.partner.keys == other.keys[1:2] and torch.equal(one.partner.weak, other.weak[1:2])
    many = [draw(p, 1, n).pool for n in range(30)]
    pairs = {(a.keys[0].split("#")[0], a.partner.keys[0].split("#")[0]) for a in many}
    assert len(pairs) > len({first for first, _ in pairs}), "an image meets several others"


class Alone:
    """Views of a method that pastes the next image."""

    views = Views(strong=2, cutmix=0.5)
