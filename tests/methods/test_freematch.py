"""Thresholds that follow confidence, for all classes and for each; and the fairness of what is accepted."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import multiprocessing

from diffmatch.conformance.method import toy_card, toy_method, toy_settings
from diffmatch.learning import registry
from diffmatch.learning.batch import Progress
from diffmatch.learning.losses import pseudo_loss
from diffmatch.learning.pseudo_labels import mixed_targets


def sure(confidence: float, shape: tuple[int, ...] = (1, 2, 4), share: float = 0.5) -> torch.Tensor:
    """Probabilities of four classes: `confidence` in class 0 on a share of the columns, in class 1 on the others."""
    n, h, w = shape
    p = torch.full((n, 4, h, w), (1 - confidence) / 3)
    split = round(w * share)
    p[:, 0, :, :split] = p[:, 1, :, split:] = confidence
    return p


def test_thresholds_by_hand(planned: Any) -> None:
    """Eq. 5-7: start 1/C, lambda = 0.5, six pixels inside, four of them class 0 at 0.7 and two class 1 at 0.7."""
    method = planned("freematch", method__momentum=0.5).build()
    torch.testing.assert_close(method.thresholds, torch.full((4,), 0.25))
    inside = torch.ones(1, 2, 4, dtype=torch.bool)
    inside[..., 3] = False
    probabilities = sure(0.7)
    probabilities[..., 3] = torch.tensor([0.0, 0, 0, 1])[:, None]  # outside: not looked at
    method.update(probabilities, inside)
    tau, mean, histogram = method.averages
    torch.testing.assert_close(tau, torch.tensor([0.5 * 0.25 + 0.5 * 0.7]))
    expected = 0.125 + 0.5 * torch.tensor([(4 * 0.7 + 2 * 0.1) / 6, (4 * 0.1 + 2 * 0.7) / 6, 0.1, 0.1])
    torch.testing.assert_close(mean, expected)
    torch.testing.assert_close(histogram, 0.125 + 0.5 * torch.tensor([4 / 6, 2 / 6, 0, 0]))
    torch.testing.assert_close(method.thresholds, expected / expected[0] * 0.475)


def test_thresholds_rise_with_confidence_and_less_for_a_rare_class(planned: Any) -> None:
    method = planned("freematch", method__momentum=0.9).build()
    inside, before = torch.ones(1, 2, 8, dtype=torch.bool), method.thresholds
    for confidence in (0.4, 0.6, 0.8, 0.95):
        for _ in range(40):
            method.update(sure(confidence, (1, 2, 8), 0.75), inside)
        after = method.thresholds
        assert after[0] > before[0] and after[0] > after[1] > after[2]
        before = after
    accepted = method.accept(sure(0.6, (1, 2, 8), 0.75)).accepted
    assert not accepted[..., :6].any() and accepted[..., 6:].all()  # 0.6 is enough for the rare class alone
    state = method.running.clone()
    method.update(sure(0.9), torch.zeros(1, 2, 4, dtype=torch.bool))
    assert torch.equal(method.running, state)


def test_the_authors_numbers() -> None:
    """Two steps of their threshold hook with momentum 0.5, then their losses, on six pixels and three classes.

    microsoft/Semi-supervised-learning@639cfbf1, semilearn/algorithms/freematch/utils.py 29-72 and freematch.py 16-44.
    """
    kind = registry.method("freematch")
    method = toy_method(kind, toy_card(3), toy_settings(kind, method__momentum=0.5))
    i = torch.arange(18.0).view(6, 3)
    weak, strong = (3 * torch.sin(1.7 * i), 1.5 * torch.cos(1.1 * i * i))
    inside = torch.ones(1, 1, 6, dtype=torch.bool)
    method.update(pixels(weak).softmax(1), inside)
    method.update(pixels(0.4 * weak.flip(1)).softmax(1), inside)
    tau, mean, histogram = method.averages
    torch.testing.assert_close(tau, torch.tensor([0.6230907]))
    torch.testing.assert_close(mean, torch.tensor([0.3278681, 0.3421160, 0.3300160]))
    torch.testing.assert_close(histogram, torch.full((3,), 1 / 3))
    pseudo = method.accept(pixels(0.4 * weak.flip(1)).softmax(1))
    assert pseudo.accepted.flatten().tolist() == [True, False, True, False, True, False]
    scores = pixels(strong).requires_grad_()
    for accepted, value, norm in ((pseudo.accepted, -9.913446, 0.0257578), (inside, -1.157025, 0.0782843)):
        fairness = method.fairness(scores, accepted)
        (gradient,) = torch.autograd.grad(fairness, scores)
        torch.testing.assert_close(torch.stack([fairness.detach(), gradient.norm()]), torch.tensor([value, norm]))
    unsup = pseudo_loss("ce", scores, *mixed_targets(pseudo, inside, torch.zeros_like(inside)))
    (gradient,) = torch.autograd.grad(unsup, scores)
    torch.testing.assert_close(torch.stack([unsup.detach(), gradient.norm()]), torch.tensor([0.6757519, 0.2831533]))


def pixels(scores: torch.Tensor) -> torch.Tensor:
    """Scores (pixels, C) as an image (1, C, 1, pixels)."""
    return scores.T[None, :, None].contiguous()


def test_training_moves_the_thresholds_that_accept(planned: Any, draw: Any) -> None:
    """The batch's own statistics are in the thresholds it meets; the network labels in eval mode, learns from one pass,
    and no feature channel is lost."""
    p = planned("freematch", method__momentum=0.5)
    method, batch = p.build().train(), draw(p)
    with torch.no_grad():
        method.network.classifier.weight.mul_(1e4)  # so that it is sure of some pixels and unsure of others
    reference = copy.deepcopy(method)
    passes: list[tuple[bool, Any]] = []
    method.network.register_forward_hook(lambda module, given, _: passes.append((module.training, given)))
    losses = method.losses(batch, Progress(0, 1))
    (labelling, (weak,)), (training, (images, perturbed)) = passes
    assert not labelling and training and perturbed is None and torch.equal(weak, batch.pool.weak)
    assert torch.equal(images, torch.cat([batch.labelled.images, batch.pool.strong[0]]))
    with torch.no_grad():
        probabilities = reference.eval().network(weak).softmax(1)
    start = reference.thresholds
    reference.update(probabilities, batch.pool.inside)
    assert torch.equal(method.running, reference.running) and not torch.equal(method.thresholds, start)
    accepted = reference.accept(probabilities).accepted & batch.pool.inside
    assert losses.accepted.sum() == accepted.sum() < losses.given.sum() == batch.pool.inside.sum()


def test_the_average_predicts_and_the_network_labels(planned: Any, draw: Any, fit: Any) -> None:
    """a = 0, 1/2 and 0.6: the mean of two networks, then their moving average, BatchNorm's statistics too."""
    p = planned("freematch", method__ema=0.6)
    method, states = p.build(), []
    follow = method.after_step
    method.after_step = lambda progress: (states.append(copy.deepcopy(method.network.state_dict())), follow(progress))
    fit(method, [draw(p, 2, 2 * k) for k in range(3)])
    for key, value in method.average.state_dict().items():
        if value.is_floating_point():
            one, two, three = (state[key] for state in states)
            torch.testing.assert_close(value, 0.6 * (one + two) / 2 + 0.4 * three)
    images, keys = draw(p).pool.weak, ["a", "b"]
    method.eval()
    with torch.no_grad():
        assert torch.equal(method.probabilities(images, keys), method.average(images).softmax(1))
        assert torch.equal(method.pseudo_labels(images, keys).probabilities, method.network(images).softmax(1))


def test_fairness_by_hand(planned: Any) -> None:
    """Eq. 9-11, two classes seen: norm(p~/h~) = (1/3, 2/3), norm(p-/h-) = (0.9, 0.8) / 1.7."""
    method = planned("freematch").build()
    method.running.copy_(torch.tensor([0.5, 0.3, 0.3, 0.2, 0.2, 0.6, 0.3, 0.0, 0.0]))
    strong = torch.tensor(
        [[0.9, 0.1, 1e-8, 1e-8], [0.9, 0.1, 1e-8, 1e-8], [0.2, 0.8, 1e-8, 1e-8], [0.1, 0.1, 0.1, 0.7]]
    ).log()
    strong = strong.T.reshape(1, 4, 1, 4).requires_grad_()
    accepted = torch.tensor([[[True, True, True, False]]])
    mean, histogram = torch.tensor([2.0, 1.0]), torch.tensor([2.0, 1.0])
    ratio = mean / histogram
    found = method.fairness(strong, accepted)
    expected = (torch.tensor([1 / 3, 2 / 3]) * (ratio / ratio.sum()).log()).sum()
    torch.testing.assert_close(found, expected)
    found.backward()
    assert strong.grad[..., :3].abs().sum() > 0 == strong.grad[..., 3].abs().sum()
    assert method.fairness(strong.detach(), torch.zeros_like(accepted)) == 0


def _updated(rank: int, folder: str, method: Any, probabilities: torch.Tensor, inside: torch.Tensor) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/store", world_size=2, rank=rank)
    method.update(probabilities[rank::2], inside[rank::2])
    torch.save(method.running, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_all_ranks_share_the_thresholds(planned: Any, tmp_path: Path) -> None:
    """Two processes with different images, one of them half padding, get what one process gets from both."""
    p = planned("freematch", method__momentum=0.5)
    probabilities, inside = torch.cat([sure(0.7), sure(0.9, share=0.25)]), torch.ones(2, 2, 4, dtype=torch.bool)
    inside[1, 0] = False
    alone = p.build()
    alone.update(probabilities, inside)
    multiprocessing.start_processes(
        _updated, (str(tmp_path), p.build(), probabilities, inside), nprocs=2, start_method="fork"
    )
    for rank in (0, 1):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), alone.running)
