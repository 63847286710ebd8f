"""Generations, and pseudo-labels of which the surer ones are kept, those of rare classes more often."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import multiprocessing

from diffmatch.conformance.method import toy_card, toy_method
from diffmatch.domain import VOID
from diffmatch.learning import registry
from diffmatch.learning.batch import Progress
from diffmatch.learning.losses import pseudo_loss, supervised_loss
from diffmatch.learning.pseudo_labels import confident, unmixed_targets
from diffmatch.methods.crest import bins, keep_rates


def step(method: Any, batch: Any, at: int, steps: int) -> Any:
    torch.manual_seed(at)
    return method.train().losses(batch, Progress(at, steps))


def count(method: Any, probabilities: torch.Tensor, inside: torch.Tensor) -> None:
    method.histogram.add(probabilities.argmax(1), bins(probabilities), inside)


def test_keep_rates_by_hand() -> None:
    """mu_l = (N_{C+1-l} / N_1)^alpha: counts 8000, 1000, 64 of classes 1, 2, 0; all of the rarest class, 1/5 of the
    most frequent."""
    rates = keep_rates(torch.tensor([64, 8000, 1000]), 1 / 3)
    torch.testing.assert_close(rates, torch.tensor([1.0, 0.2, 0.5]), atol=2e-3, rtol=0)
    assert torch.equal(keep_rates(torch.tensor([64, 8000, 1000]), 0.0), torch.ones(3))
    unseen = keep_rates(torch.tensor([0, 8000, 1000]), 1 / 3)
    assert unseen[0] == 1 and unseen.min() > 0


def test_the_authors_numbers() -> None:
    """60 pixels, 32, 19 and 9 of them predicted as the three classes, which have 64, 27 and 1 labels: the authors
    pick the most confident 8, 14 and 9.

    google-research/crest@17c57cb1, util/semisup.py 288-304 and data/cifar.py 298-308, run with alpha 3 (here 1/3).
    """
    kind = registry.method("crest")
    method = toy_method(kind, toy_card(3))
    method.rates.copy_(torch.tensor([0.25, 0.75, 1.0]))
    method.generation.fill_(1)
    i = torch.arange(60.0)
    scores = torch.stack([2 + 3 * (1.3 * i).sin(), 1 + 3 * (2.1 * i).cos(), 3 * (0.7 * i + 1).sin()])
    probabilities, inside = scores.softmax(0)[None, :, None], torch.ones(1, 1, 60, dtype=torch.bool)
    count(method, probabilities, inside)
    kept = method.kept(probabilities)
    picked = [
        [16, 25, 31, 35, 40, 49, 50, 59],
        [0, 3, 9, 12, 18, 23, 24, 27, 33, 39, 42, 48, 51, 57],
        [8, 19, 28, 37, 38, 46, 47, 52, 56],
    ]
    for c, expected in enumerate(picked):
        assert (kept.accepted & (kept.labels == c)).flatten().nonzero().flatten().tolist() == expected


def predicting(labels: torch.Tensor, doubt: torch.Tensor, classes: int = 4) -> torch.Tensor:
    """Probabilities of images whose pixels have these labels and 1 - max p, both (N, H, W)."""
    rest = (doubt / (classes - 1))[:, None].expand(-1, classes, -1, -1)
    return rest.scatter(1, labels[:, None], (1 - doubt)[:, None])


def test_tail_pixels_are_kept_more_and_the_surer_ones_first(planned: Any) -> None:
    """Of a thousand pixels of each class a share of mu is kept, at doubts down to 2^-60, which a confidence in float32
    would not tell from 0."""
    p = planned("crest")
    method = p.build().eval()
    order = torch.tensor(p.statistics.pixels).argsort()
    assert method.rates[order[0]] == 1 and method.rates[order[-1]] < 0.7
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(4)[:, None, None].expand(4, 40, 25)
    for scale in (0.5, 2.0**-30):
        method.histogram.counts.zero_()
        doubt = scale * 2 ** (-30 * torch.rand(4, 40, 25, generator=generator))
        probabilities, inside = predicting(labels, doubt), torch.ones(4, 40, 25, dtype=torch.bool)
        count(method, probabilities, inside)
        assert not method.kept(probabilities).accepted.any()  # the first generation has no labels
        accepted = method.generation.fill_(1) and method.kept(probabilities).accepted
        torch.testing.assert_close(accepted.float().mean((1, 2)), method.rates, atol=0.01, rtol=0)
        for c in range(4):
            assert accepted[c].all() or doubt[c][accepted[c]].max() < doubt[c][~accepted[c]].min()
        method.generation.zero_()


def test_a_poor_image_keeps_less_than_a_good_one(planned: Any) -> None:
    """The share is of all pixels seen in this generation, whatever batch they came in; padding is not seen."""
    method = planned("crest").build().eval()
    method.generation.fill_(1)
    method.rates.fill_(0.5)
    labels, generator = torch.zeros(1, 20, 50, dtype=torch.long), torch.Generator().manual_seed(0)
    good, poor = (predicting(labels, base * torch.rand(1, 20, 50, generator=generator)) for base in (1e-3, 0.4))
    inside = torch.ones(1, 20, 50, dtype=torch.bool)
    for probabilities in (poor, good):
        count(method, probabilities, inside)
    assert method.kept(good).accepted.float().mean() > 0.95
    assert method.kept(poor).accepted.float().mean() < 0.05
    seen = method.histogram.counts.clone()
    count(method, good, ~inside)
    assert torch.equal(method.histogram.counts, seen)
    method.histogram.counts.zero_()
    assert not method.kept(good).accepted.any()


def test_the_teacher_changes_at_generations_and_only_there(planned: Any, draw: Any, same: Any) -> None:
    p = planned("crest", method__generations=3)
    method, batch = p.build(), draw(p)
    descent = torch.optim.SGD([q for q in method.parameters() if q.requires_grad], 0.05)
    before, changed = {k: v.clone() for k, v in method.teacher.state_dict().items()}, []
    for at in range(7):
        average = {k: v.clone() for k, v in method.average.state_dict().items()}
        losses = step(method, batch, at, 7)
        after = method.teacher.state_dict()
        if not same(before, after):
            changed.append(at)
            assert same(after, average) and method.histogram.counts.sum() == batch.pool.inside.sum()  # it is seen anew
            before = {k: v.clone() for k, v in after.items()}
        assert (losses.accepted.sum() > 0) == (losses.terms["kept"] > 0) == (at >= 3)
        losses.total.backward()
        descent.step()
        descent.zero_grad()
        method.after_step(Progress(at, 7))
        begins = at in (0, 3, 5)  # the average begins anew with each generation
        assert same(method.average.state_dict(), method.network.state_dict()) == begins
    assert changed == [3, 5] and method.generation == 2  # 7 steps in 3 parts
    assert not any(m.training for m in method.train().teacher.modules())


def test_the_clean_pass_learns_and_labels(planned: Any, draw: Any) -> None:
    """Labelled images and weak views in one pass in train mode, strong views in another. `kept` is the labelled loss of
    the weak view on what the frozen teacher labelled with most confidence, and FixMatch's labels are those of that
    pass."""
    p = planned("crest", method__threshold=0.2)
    method, batch = p.build(), draw(p)
    method.generation.fill_(1)
    with torch.no_grad():
        method.teacher.classifier.weight *= 1e3  # untrained, it would be as sure of all pixels
        method.teacher.classifier.bias[2] += 30
    method.rates[2] = 0.25
    reference = copy.deepcopy(method).train().network
    _, weak = reference(torch.cat([batch.labelled.images, batch.pool.weak])).split(2)
    strong = reference(batch.pool.strong[0])
    found = step(method, batch, 0, 1)
    pseudo = method.pseudo_labels(batch.pool.weak, batch.pool.keys)
    inside, kind = batch.pool.inside, p.settings.train.loss
    assert (pseudo.labels == 2).all() and 0.25 * inside.sum() <= (pseudo.accepted & inside).sum() < inside.sum()
    expected = supervised_loss(kind, weak, torch.where(pseudo.accepted & inside, 2, VOID))
    torch.testing.assert_close(found.terms["kept"], expected)
    own = confident(weak.softmax(1), 0.2)
    unsup = pseudo_loss(kind, strong, *unmixed_targets(own, inside))
    torch.testing.assert_close(found.terms["unsup"], unsup)
    assert found.given.tolist() == [0, 0, int(inside.sum()), 0]
    assert found.accepted[2] == (pseudo.accepted & inside).sum()


def test_the_average_predicts(planned: Any, draw: Any, fit: Any) -> None:
    p = planned("crest", method__generations=1)
    method = p.build()
    fit(method, [draw(p, 2, 2 * k) for k in range(3)])
    images = draw(p).pool.weak
    method.eval()
    with torch.no_grad():
        assert torch.equal(method.probabilities(images, ["a", "b"]), method.average(images).softmax(1))
        assert not torch.equal(method.average(images), method.network(images))


def _observed(rank: int, folder: str, method: Any, probabilities: torch.Tensor, inside: torch.Tensor) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", world_size=2, rank=rank)
    count(method, probabilities[rank::2], inside[rank::2])
    torch.save(method.histogram.counts, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_all_ranks_see_the_same_pixels(planned: Any, tmp_path: Path) -> None:
    p, generator = planned("crest"), torch.Generator().manual_seed(0)
    probabilities = torch.randn(2, 4, 8, 8, generator=generator).mul(5).softmax(1)
    inside = torch.rand(2, 8, 8, generator=generator) < 0.7
    alone = p.build()
    count(alone, probabilities, inside)
    multiprocessing.start_processes(
        _observed, (str(tmp_path), p.build(), probabilities, inside), nprocs=2, start_method="fork"
    )
    for rank in (0, 1):
        assert (
            torch.equal(torch.load(tmp_path / f"{rank}.pt"), alone.histogram.counts)
            and alone.histogram.counts.sum() == inside.sum()
        )


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
