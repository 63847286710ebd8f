"""Two networks that began differently exchange labels. Cross teaching is held to the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from diffmatch.conformance.method import toy_card, toy_method, toy_settings
from diffmatch.domain import VOID
from diffmatch.learning import registry
from diffmatch.learning.batch import Batch, Labelled, Pool, Progress
from diffmatch.learning.losses import one_hot
from diffmatch.learning.pseudo_labels import PseudoLabels, confident

pytestmark = pytest.mark.parametrize("name", ["cps", "cross_teaching"])


class Given(nn.Module):
    """A network whose scores are given, the same ones for labelled and unlabelled images."""

    def __init__(self, scores: torch.Tensor) -> None:
        super().__init__()
        self.scores = nn.Parameter(scores)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.scores.repeat(2, 1, 1, 1)


AUTHORS = {
    "cps": ("ce", 3.299835, 1.5 * 3.653270, (0.759666, 0.746992)),
    "cross_teaching": ("ce_dice", 2.195013, 0.1 * 1.328660, (0.213430, 0.200750)),
}


def test_the_authors_numbers(name: str) -> None:
    """Their loss lines on two networks' logits: L_sup, the weighted unlabelled term at the end of the training, and the
    norm of each network's gradient.

    charlesCXK/TorchSemiSeg@0c10bf0b, exp.voc/voc8.res50v3+.CPS/train.py 185-203 (with unlabelled images alone in the
    unlabelled term, as .CPS+CutMix/train.py 236 has it); HiLab-git/SSL4MIS@faaaeac6,
    code/train_cross_teaching_between_cnn_transformer_2D.py 220-248, @efaf4ba7, code/utils/losses.py 156-192.
    """
    kind, sup, unsup, norms = AUTHORS[name]
    found = registry.method(name)
    method = toy_method(found, toy_card(3), toy_settings(found, train__loss=kind))
    i = torch.arange(24.0).view(2, 3, 2, 2)
    networks = method.network, method.second = Given(2 * (1.3 * i).sin()), Given(2 * (0.7 * i).cos())
    masks, everywhere = (torch.arange(8).view(2, 2, 2) % 3).to(torch.uint8), torch.ones(2, 2, 2, dtype=torch.bool)
    images, keys = torch.zeros(2, 1, 3, 2, 2), ["a", "b"]
    batch = Batch(Labelled(images, masks, keys), Pool(images, (), everywhere, ~everywhere, keys))
    losses = method.train().losses(batch, Progress(1, 1))
    terms = torch.stack([losses.terms["sup"], losses.terms["unsup"]]).detach()
    torch.testing.assert_close(terms, torch.tensor([sup, unsup]), rtol=2e-6, atol=0)
    losses.total.backward()
    assert [float(network.scores.grad.norm()) for network in networks] == pytest.approx(norms, rel=1e-5)


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
