"""Two networks that began differently exchange labels. Cross teaching is held to the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from diffmatch.domain import VOID
from diffmatch.learning.batch import Progress
from diffmatch.learning.losses import one_hot
from diffmatch.learning.pseudo_labels import PseudoLabels, confident

pytestmark = pytest.mark.parametrize("name", ["cps", "cross_teaching"])


def hard(labels: torch.Tensor) -> PseudoLabels:
    return PseudoLabels(labels, torch.ones_like(labels, dtype=torch.bool), one_hot(labels, 4))


@pytest.mark.parametrize("loss", ["ce", "ce_dice", "ohem", "squared"])
def test_each_network_learns_what_the_other_says(
    name: str, loss: str, planned: Any, draw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unsupervised gradient of a network changes with the other's labels and not with its own."""
    p = planned(name, train__loss=loss)
    method, batch = p.build().train(), draw(p)
    ones, twos = (torch.full(batch.pool.inside.shape, c, dtype=torch.uint8) for c in (1, 2))

    def gradients(first: torch.Tensor, second: torch.Tensor) -> list[torch.Tensor]:
        labels = iter((first, second))
        monkeypatch.setattr("diffmatch.methods.cps.confident", lambda probabilities, threshold: hard(next(labels)))
        unsup = method.losses(batch, Progress(1, 1)).terms["unsup"]
        return [
            torch.cat([g.flatten() for g in torch.autograd.grad(unsup, [*n.parameters()], retain_graph=True)])
            for n in networks
        ]

    networks = (method.network, method.second)
    (a1, a2), (b1, b2), (c1, c2) = gradients(ones, ones), gradients(ones, twos), gradients(twos, ones)
    assert a1.any() and a2.any()
    assert not torch.equal(a1, b1) and torch.equal(a2, b2)
    assert torch.equal(a1, c1) and not torch.equal(a2, c2)


def test_labels_are_hard_and_of_the_pass_that_learns(
    name: str, planned: Any, draw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One pass a network a step, in training mode: its scores of the pool, without gradient, are what the other is
    taught."""
    p = planned(name)
    method, batch = p.build().train(), draw(p)
    passes: list[tuple[bool, torch.Tensor]] = []
    for network in (method.network, method.second):
        network.register_forward_hook(lambda module, _, scores: passes.append((module.training, scores)))
    made: list[torch.Tensor] = []

    def watching(probabilities: torch.Tensor, threshold: float) -> PseudoLabels:
        made.append(probabilities)
        return confident(probabilities, threshold)

    monkeypatch.setattr("diffmatch.methods.cps.confident", watching)
    losses = method.losses(batch, Progress(0, 1))
    assert [training for training, _ in passes] == [True, True] and not any(p.requires_grad for p in made)
    for probabilities, (_, scores) in zip(made, passes, strict=True):
        torch.testing.assert_close(probabilities, scores[len(batch.labelled.images) :].softmax(1))
    by_second = passes[1][1][len(batch.labelled.images) :].argmax(1)[batch.pool.inside]
    assert torch.equal(losses.given, torch.bincount(by_second, minlength=len(losses.given)))


def test_both_learn_from_labels_and_the_weight_scales_the_rest(name: str, planned: Any, draw: Any) -> None:
    light, heavy = (planned(name, method__weight=weight) for weight in (1.0, 3.0))
    batch = draw(light)
    one, three = (p.build().train().losses(batch, Progress(1, 1)).terms for p in (light, heavy))
    assert one["sup"] == three["sup"]
    torch.testing.assert_close(3 * one["unsup"], three["unsup"])
    method = light.build().train()
    method.losses(batch, Progress(0, 1)).terms["sup"].backward()
    assert all(any(q.grad.any() for q in network.parameters()) for network in (method.network, method.second))


def test_cutmix_and_padding_reach_the_loss(name: str, planned: Any, draw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both networks learn the weak view with the box's pixels from the next image, the whole ones' labels likewise,
    void in padding."""
    p = planned(name, data__cutmix=1.0)
    method, batch = p.build().train(), draw(p)
    boxes, inside = torch.zeros_like(batch.pool.boxes), torch.ones_like(batch.pool.inside)
    boxes[0, :, :10], inside[1, :5] = True, False
    seen: list[torch.Tensor] = []
    targets: list[torch.Tensor] = []
    for network in (method.network, method.second):
        network.register_forward_hook(lambda module, given, _: seen.append(given[0]) if module.training else None)

    def watching(kind: str, scores: torch.Tensor, target: torch.Tensor, accepted: torch.Tensor) -> torch.Tensor:
        targets.append(target)
        assert not accepted[target == VOID].any() and accepted[target != VOID].all()
        return scores.sum() * 0

    monkeypatch.setattr("diffmatch.methods.cps.pseudo_loss", watching)
    with torch.no_grad():
        by_second = method.second(batch.pool.weak).argmax(1).to(torch.uint8)
    seen.clear()
    method.losses(replace(batch, pool=replace(batch.pool, boxes=boxes, inside=inside)), Progress(0, 1))
    whole, seen = seen[:2], seen[2:]
    assert (
        all(torch.equal(images, batch.pool.weak) for images in whole)
        and len(seen) == 2
        and torch.equal(seen[0], seen[1])
    )
    assert torch.equal(seen[0][2][..., :10], batch.pool.weak[1][..., :10]) and torch.equal(
        seen[0][2][..., 10:], batch.pool.weak[0][..., 10:]
    )
    assert torch.equal(targets[0][0, 5:, :10], by_second[1, 5:, :10]) and torch.equal(
        targets[0][0, :, 10:], by_second[0, :, 10:]
    )
    assert (targets[0][0, :5, :10] == VOID).all() and (targets[0][1, :5] == VOID).all()


def test_the_first_predicts_and_is_taught_by_the_second(name: str, planned: Any, draw: Any) -> None:
    p = planned(name)
    method, batch = p.build().eval(), draw(p)
    with torch.no_grad():
        predicted = method.probabilities(batch.pool.weak, batch.pool.keys)
        method.second.classifier.bias[: len(method.second.classifier.bias) // 4] += 50
        assert torch.equal(method.probabilities(batch.pool.weak, batch.pool.keys), predicted)
    assert (method.pseudo_labels(batch.pool.weak, batch.pool.keys).labels == 0).all()
    losses = method.train().losses(batch, Progress(0, 1))
    assert losses.given[0] == batch.pool.inside.sum() == losses.given.sum() and torch.equal(
        losses.given, losses.accepted
    )


def test_they_begin_differently(name: str, planned: Any) -> None:
    method = planned(name).build()
    first, second = method.network.state_dict(), method.second.state_dict()
    shared = [key for key in first.keys() & second.keys() if first[key].ndim > 1]
    assert (name == "cross_teaching" or shared) and not any(torch.equal(first[key], second[key]) for key in shared)
