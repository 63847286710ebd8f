"""Two strong views, a view with perturbed features, and CutMix of everything that belongs to a pixel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from diffmatch.domain import VOID
from diffmatch.learning.batch import Progress
from diffmatch.learning.losses import pseudo_loss
from diffmatch.learning.pseudo_labels import cutmix


def losses(method: Any, batch: Any) -> Any:
    torch.manual_seed(0)
    return method.train().losses(batch, Progress(0, 1))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What goes through the network in training, and its scores."""

    def watch(method: Any) -> list[Any]:
        calls: list[Any] = []
        forward = method.network.forward

        def spy(images: Any, perturbed: Any = None) -> Any:
            scores = forward(images, perturbed)
            if perturbed is not None:
                calls.append((images, perturbed, scores))
            return scores

        monkeypatch.setattr(method.network, "forward", spy)
        return calls

    return watch


def test_streams_and_their_weights_by_hand(planned: Any, draw: Any, seen: Any) -> None:
    """L = L_sup + 0.5 H(w, fp) + 0.25 H(w, s1) + 0.25 H(w, s2); only the weak view's features are perturbed."""
    p = planned("unimatch", method__threshold=0.0, train__loss="ce")
    method, batch = p.build(), draw(p)
    first = torch.zeros_like(batch.pool.boxes)
    first[0, 4:12, 4:20] = True
    second = first.roll(1, 0)
    inside = torch.ones_like(batch.pool.inside)
    inside[1, :10] = False
    batch = replace(batch, pool=replace(batch.pool, boxes=first, inside=inside))
    labels = method.pseudo_labels(batch.pool.weak, batch.pool.keys).labels
    calls = seen(method)
    found = losses(method, batch).terms
    ((images, perturbed, scores),) = calls
    assert perturbed.tolist() == [False] * 2 + [True] * 2 + [False] * 4
    mixed = [cutmix(view, box) for view, box in zip(batch.pool.strong, (first, second), strict=True)]
    assert torch.equal(images, torch.cat([batch.labelled.images, batch.pool.weak, *mixed]))
    assert not torch.equal(batch.pool.strong[0], batch.pool.strong[1])

    def taught(view: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        return pseudo_loss("ce", view, cutmix(torch.where(inside, labels, VOID), boxes), cutmix(inside, boxes))

    torch.testing.assert_close(found["features"], 0.5 * taught(scores[2:4], torch.zeros_like(first)))
    torch.testing.assert_close(found["unsup"], 0.25 * (taught(scores[4:6], first) + taught(scores[6:8], second)))


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


def test_cutmix_is_on_by_itself_and_can_be_overruled(planned: Any, draw: Any) -> None:
    """The method's 1/2 where `data.cutmix` is not set; what is set holds; the views do not depend on it."""
    ours, off, always = (
        planned("unimatch", **changes) for changes in ({}, {"data__cutmix": 0.0}, {"data__cutmix": 1.0})
    )
    boxed = [draw(p, 40).pool.boxes.flatten(1).any(1).float().mean() for p in (ours, off, always)]
    assert 0.25 < boxed[0] < 0.75 and boxed[1] == 0 and boxed[2] == 1
    assert not draw(planned("fixmatch"), 8).pool.boxes.any()
    a, b = draw(ours, 4).pool, draw(off, 4).pool
    assert all(torch.equal(x, y) for x, y in zip((a.weak, *a.strong), (b.weak, *b.strong), strict=True))
