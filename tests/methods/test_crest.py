"""Generations, and pseudo-labels of which those of rare classes are kept more often."""

from __future__ import annotations

from typing import Any

import torch

from diffmatch.domain import VOID
from diffmatch.learning.batch import Progress
from diffmatch.learning.losses import supervised_loss
from diffmatch.methods.crest import keep_rates


def step(method: Any, batch: Any, at: int, steps: int) -> Any:
    torch.manual_seed(at)
    return method.train().losses(batch, Progress(at, steps))


def test_keep_rates_by_hand() -> None:
    """mu_l = (N_{C+1-l} / N_1)^alpha: counts 8000, 1000, 64 of classes 1, 2, 0; all of the rarest class, 1/5 of the
    most frequent."""
    rates = keep_rates(torch.tensor([64, 8000, 1000]), 1 / 3)
    torch.testing.assert_close(rates, torch.tensor([1.0, 0.2, 0.5]), atol=2e-3, rtol=0)
    assert torch.equal(keep_rates(torch.tensor([64, 8000, 1000]), 0.0), torch.ones(3))
    unseen = keep_rates(torch.tensor([0, 8000, 1000]), 1 / 3)
    assert unseen[0] == 1 and unseen.min() > 0


def test_tail_pixels_are_kept_more(planned: Any) -> None:
    """Of a thousand pixels of each class a share of mu is kept; the draw belongs to the key, and padding or order do
    not matter."""
    p = planned("crest")
    method = p.build().eval()
    method.generation.fill_(1)
    images, keys = torch.randn(6, 1, 1, 32, 32, generator=torch.Generator().manual_seed(0)), list("abcdef")
    kept = []
    for c in range(4):
        with torch.no_grad():
            method.teacher.classifier.weight.zero_()
            method.teacher.classifier.bias.copy_(torch.eye(4)[c])
        pseudo = method.pseudo_labels(images, keys)
        assert (pseudo.labels == c).all()
        kept.append(pseudo.accepted.float().mean())
    torch.testing.assert_close(torch.stack(kept), method.rates, atol=0.03, rtol=0)
    order = torch.tensor(p.statistics.pixels).argsort()
    assert method.rates[order[0]] == 1 and method.rates[order[-1]] < 0.7
    accepted = pseudo.accepted
    assert torch.equal(method.pseudo_labels(images[[4, 2]], ["e", "c"]).accepted, accepted[[4, 2]])
    assert not torch.equal(method.pseudo_labels(images, list("ghijkl")).accepted, accepted)


def test_the_teacher_changes_at_generations_and_only_there(planned: Any, draw: Any, same: Any) -> None:
    p = planned("crest", method__generations=3)
    method, batch = p.build(), draw(p)
    descent = torch.optim.SGD([q for q in method.parameters() if q.requires_grad], 0.05)
    before, changed = {k: v.clone() for k, v in method.teacher.state_dict().items()}, []
    for at in range(7):
        student = {k: v.clone() for k, v in method.network.state_dict().items()}
        losses = step(method, batch, at, 7)
        after = method.teacher.state_dict()
        if not same(before, after):
            changed.append(at)
            assert same(after, student)  # BatchNorm's statistics too
            before = {k: v.clone() for k, v in after.items()}
        assert (losses.accepted.sum() > 0) == (losses.terms["kept"] > 0) == (at >= 3)
        losses.total.backward()
        descent.step()
        descent.zero_grad()
        method.after_step(Progress(step, 10))
    assert changed == [3, 5] and method.generation == 2  # 7 steps in 3 parts
    assert not any(m.training for m in method.train().teacher.modules())


def test_kept_pixels_join_the_labelled_ones(planned: Any, draw: Any) -> None:
    """The term is the labelled loss of the weak view on what the frozen teacher labelled and the draw kept, nothing
    else."""
    p = planned("crest", network__feature_dropout=0.0)
    method, batch = p.build(), draw(p)
    method.generation.fill_(1)
    with torch.no_grad():
        method.teacher.classifier.weight.zero_()
        method.teacher.classifier.bias.copy_(torch.eye(4)[2])
    pseudo = method.pseudo_labels(batch.pool.weak, batch.pool.keys)
    assert 0 < pseudo.accepted.sum() < pseudo.accepted.numel() or method.rates[2] == 1
    network = p.build().network.train()
    scores = network(torch.cat([batch.labelled.images, batch.pool.weak, batch.pool.strong[0]]))[2:4]
    expected = supervised_loss(p.settings.train.loss, scores, torch.where(pseudo.accepted & batch.pool.inside, 2, VOID))
    found = step(method, batch, 0, 1)
    torch.testing.assert_close(found.terms["kept"], expected)
    assert found.given.tolist() == [0, 0, int(batch.pool.inside.sum()), 0]


def test_a_generation_survives_resuming(planned: Any, draw: Any, fit: Any, same: Any) -> None:
    """Teacher and generation are state: a method loaded in mid-generation takes the same step."""
    p = planned("crest", method__generations=2)
    method, batches = p.build(), [draw(p, 2, 2 * k) for k in range(3)]
    fit(method, batches)
    fresh = p.build()
    fresh.load_state_dict(method.state_dict())
    assert fresh.generation == 1 and not same(fresh.teacher.state_dict(), fresh.network.state_dict())
    losses = [step(m, batches[0], 5, 8).terms for m in (method, fresh)]
    assert all(torch.equal(losses[0][key], losses[1][key]) for key in losses[0]) and losses[0]["kept"] > 0
