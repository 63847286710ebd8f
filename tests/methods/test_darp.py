"""Pseudo-labels whose class totals are the prior's."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from diffmatch.conformance.method import toy_card, toy_method, toy_settings
from diffmatch.learning.batch import Batch, Labelled, Pool, Progress
from diffmatch.methods.darp import DARP

FOUR = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])


def row(pixels: torch.Tensor) -> torch.Tensor:
    """(1, C, 1, W) of pixels (W, C)."""
    return pixels.T[None, :, None]


def built(classes: int, **changes: Any) -> Any:
    return toy_method(DARP, toy_card(classes), toy_settings(DARP, **changes)).train()


def step(method: Any, batch: Any, at: int, steps: int) -> Any:
    torch.manual_seed(at)
    return method.losses(batch, Progress(at, steps))


@pytest.mark.parametrize(
    ("threshold", "accepted", "loss", "slope"), [(0.95, 2, 0.406631, 0.275403), (0.55, 4, 0.625262, 0.340049)]
)
def test_the_loss_is_the_authors(
    threshold: float, accepted: int, loss: float, slope: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bbuing9/DARP 64a94b4: `estimate_pseudo`, `opt_solver` and `SemiLoss` (common.py 107-151 and 178-196) as
    training_functions.py 418-455 uses them, c = (3, 1): q(0) = (1, 1, .55643, .44358)."""
    method = built(2, method__memory=4, method__threshold=threshold, train__loss="ce")
    method.prior.copy_(torch.tensor([0.75, 0.25]))
    method.memory.push(row(FOUR).log().softmax(1), torch.ones(1, 1, 1, 4, dtype=torch.bool))
    strong = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, -1.0], [0.5, 0.25]], requires_grad=True)
    answers = [row(FOUR).log(), torch.cat([torch.zeros(1, 2, 1, 4), row(strong)])]
    monkeypatch.setattr(method, "scores", lambda *_: answers.pop(0))
    images, inside = torch.zeros(1, 1, 3, 1, 4), torch.ones(1, 1, 4, dtype=torch.bool)
    labelled = Labelled(images, torch.zeros(1, 1, 4, dtype=torch.uint8), ["a"])
    losses = step(method, Batch(labelled, Pool(images, (images,), inside, ~inside, ["b"])), 4, 10)
    assert losses.given.tolist() == [3, 1] and losses.accepted.sum() == accepted
    torch.testing.assert_close(losses.terms["unsup"].detach(), torch.tensor(loss), atol=1e-5, rtol=0)
    losses.terms["unsup"].backward()
    torch.testing.assert_close(strong.grad.norm(), torch.tensor(slope), atol=1e-5, rtol=0)


def test_pseudo_labels_follow_the_prior(planned: Any, draw: Any) -> None:
    """The cut: with v at 0 the network's bias is in the class totals, with it they are the labels'."""
    p = planned("darp", method__threshold=0.0, method__draws=1024, method__alpha=1e6)
    method, batch = p.build().train(), draw(p)
    with torch.no_grad():
        method.network.classifier.weight.mul_(20)
        method.network.classifier.bias.copy_(torch.tensor([-3.0, 0.0, 2.0, 1.0]))
    state = copy.deepcopy(method.network.state_dict())
    shares = []
    for at in (3, 4):  # of ten steps, the warm-up is the first four
        step(method, batch, at, 10)
        method.network.load_state_dict(state)
        with torch.no_grad():
            weak = method.network(batch.pool.weak).softmax(1)
        shares.append((method.refine(weak) * batch.pool.inside[:, None]).sum((0, 2, 3)) / batch.pool.inside.sum())
        method.network.load_state_dict(state)
    assert (shares[0] - method.prior).abs().max() > 0.1
    torch.testing.assert_close(shares[1], method.prior, atol=0.02, rtol=0)


def test_the_warm_up_is_fixmatch(planned: Any, draw: Any) -> None:
    """The network's own labels are taught, from the threshold on."""
    p = planned("darp", method__threshold=0.3)
    method, batch = p.build().train(), draw(p)
    found = step(method, batch, 3, 10)
    assert not method.refine.factor.any() and not method.refine.least.any()
    with torch.no_grad():
        weak = p.build().train().network(batch.pool.weak).softmax(1)
    assert found.accepted.sum() == ((weak.amax(1) >= 0.3) & batch.pool.inside).sum() > 0
    assert found.given.tolist() == [int(((weak.argmax(1) == c) & batch.pool.inside).sum()) for c in range(4)]


def test_solved_at_the_end_of_the_warm_up_and_every_so_many_steps(planned: Any, draw: Any) -> None:
    p = planned("darp", method__warm_up=0.35, method__every=3)
    method, batch, solved = p.build().train(), draw(p), []
    before = method.refine.factor.clone()
    for at in range(10):
        step(method, batch, at, 10)
        if not torch.equal(before, method.refine.factor):
            solved.append(at)
        before = method.refine.factor.clone()
    assert solved == [4, 7]


def test_the_memory_keeps_raw_predictions_from_inside(planned: Any, draw: Any) -> None:
    """Not q, and not what the network predicts in padding."""
    p = planned("darp", method__memory=64, method__draws=8, method__warm_up=0.0, method__every=1)
    method, batch = p.build().train(), draw(p)
    batch.pool.inside[:] = False
    batch.pool.inside[:, 3, 4:7] = True
    step(method, batch, 0, 10)
    assert method.memory.filled == 6
    batch.pool.inside[:] = True
    step(method, batch, 1, 10)
    assert method.refine.factor.any() and method.memory.filled == 22
    with torch.no_grad():
        weak = p.build().train().network(batch.pool.weak).softmax(1).movedim(1, -1).flatten(0, 2)
    kept = method.memory.keys[0, :22]
    assert torch.cdist(kept, weak).amin(1).max() < 1e-3  # no optimiser step lies between the two steps
    assert (method.refine(kept) - kept).abs().max() > 0.05


def test_a_solution_depends_on_the_state_before_the_step(planned: Any, draw: Any) -> None:
    """Processes that share their buffers solve the same, whatever each is given."""
    p = planned("darp", method__warm_up=0.0, method__every=1)
    method = p.build().train()
    step(method, draw(p), 0, 10)
    twin = copy.deepcopy(method)
    step(method, draw(p, 2, 2), 1, 10)
    step(twin, draw(p, 2, 4), 1, 10)
    assert method.refine.factor.any() and torch.equal(method.refine.factor, twin.refine.factor)
    assert not torch.equal(method.memory.keys, twin.memory.keys)


def test_the_student_labels_in_train_mode_and_the_average_predicts(planned: Any, draw: Any) -> None:
    p = planned("darp", method__ema=0.5)
    method, batch, modes = p.build().train(), draw(p), []
    norm = next(m for m in method.network.modules() if isinstance(m, nn.BatchNorm2d))
    norm.register_forward_pre_hook(lambda module, _: modes.append((module.training, torch.is_grad_enabled())))
    step(method, batch, 0, 10)
    assert modes == [(True, False), (True, True)]
    modes.clear()
    method.pseudo_labels(batch.pool.weak, batch.pool.keys)
    assert modes == [(False, False)]
    modes.clear()
    with torch.no_grad():
        method.probabilities(batch.pool.weak, batch.pool.keys)
        assert not modes
        start = method.teacher.classifier.bias.clone()
        method.network.classifier.bias += 1
        for at in range(2):
            method.after_step(Progress(at, 10))
    assert torch.equal(method.teacher.classifier.bias, start + 1)  # the plain mean of one, then half of the way
