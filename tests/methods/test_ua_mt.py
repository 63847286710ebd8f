"""Where the teacher is uncertain, nothing is learnt; its passes are noisy ones in train mode."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from diffmatch.conformance.method import toy_card, toy_method
from diffmatch.learning import registry
from diffmatch.learning.batch import Progress
from diffmatch.learning.losses import consistency_loss

KEYS = ["a", "b"]


def images() -> torch.Tensor:
    return torch.randn(2, 1, 1, 32, 32, generator=torch.Generator().manual_seed(0))


def test_the_authors_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uncertainty of eight passes, the mask at three steps of 6,000, and the consistency with its gradient.

    yulequan/UA-MT@80d0a342, code/train_LA_meanteacher_certainty_unlabel.py 146-175 and utils/losses.py 56-69.
    """
    method = toy_method(registry.method("ua_mt"), toy_card(2))
    shape, count = (2, 2, 2, 2), 16
    i = torch.arange(count)
    student, teacher = 2 * (1.1 * i).sin().view(shape), 2 * (0.9 * i).cos().view(shape)
    sharpness = torch.linspace(1, 9, 8).view(1, 2, 2, 2)[:, :1]
    passes = sharpness * (0.37 * torch.arange(8.0 * count)).sin().view(8, *shape)
    scores_of = iter(passes)
    monkeypatch.setattr(method, "noisy", lambda _: next(scores_of).softmax(1))
    uncertainty = method.uncertainty(torch.empty(0))
    expected = [0.6269013, 0.4234038, 0.3092918, 0.4476693, 0.6432066, 0.4585839, 0.2726769, 0.3470367]
    torch.testing.assert_close(uncertainty.flatten(), torch.tensor(expected), atol=1e-5, rtol=0)
    for step, threshold, value, norm in (
        (0, 0.5210280, 0.1166663, 0.0835335),
        (3000, 0.5695079, 0.1166663, 0.0835335),
        (6000, 0.6931472, 0.1030914, 0.0694784),
    ):
        found = method.threshold_at(Progress(step, 6000))
        assert found == pytest.approx(threshold, abs=1e-6)
        certain, scores = uncertainty < found, student.clone().requires_grad_()
        loss = consistency_loss(scores, teacher.softmax(1), certain, certain) / 2
        (gradient,) = torch.autograd.grad(loss, scores)
        torch.testing.assert_close(torch.stack([loss.detach(), gradient.norm()]), torch.tensor([value, norm]))


def test_uncertain_pixels_have_no_consistency_gradient(
    planned: Any, draw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left half certain, right half not: gradient, loss and counts know the left half only. The loss is 0.1 times the
    mean over pixels and classes."""
    p = planned("ua_mt")
    method, batch = p.build().train(), draw(p)
    batch.pool.inside[:] = True
    uncertain = (torch.arange(32) >= 16).float().expand(2, 32, 32) * 10
    target = torch.rand(2, 4, 32, 32).softmax(1)
    monkeypatch.setattr(method, "uncertainty", lambda *_: uncertain)
    monkeypatch.setattr(method, "noisy", lambda *_: target)
    seen: list[torch.Tensor] = []
    method.network.register_forward_hook(lambda *call: (call[2].retain_grad(), seen.append(call[2]))[0])
    losses = method.losses(batch, Progress(1, 1))
    losses.terms["unsup"].backward()
    gradient = seen[0].grad[2:]
    assert gradient[..., :16].abs().sum(1).gt(0).all() and not gradient[..., 16:].any()
    error = (seen[0][2:].softmax(1) - target).square()
    torch.testing.assert_close(losses.terms["unsup"], 0.1 * error[..., :16].mean())
    assert losses.given.sum() == 2 * 32 * 32 and losses.accepted.sum() == 2 * 32 * 16
    monkeypatch.setattr(method, "uncertainty", lambda *_: torch.full((2, 32, 32), 10.0))
    assert method.losses(batch, Progress(1, 1)).terms["unsup"] == 0


def test_the_teacher_is_noisy_in_train_mode_and_the_student_sees_the_plain_image(planned: Any, draw: Any) -> None:
    """One noisy pass for the target and eight for the uncertainty, each with a noise of its own, cut off at 0.2."""
    p = planned("ua_mt")
    method, batch = p.build().train(), draw(p)
    passes: dict[str, list[Any]] = {"teacher": [], "network": []}
    for name, calls in passes.items():
        hook = lambda module, given, scores, calls=calls: calls.append((module.training, given[0], scores))  # noqa: E731
        getattr(method, name).register_forward_hook(hook)
    method.losses(batch, Progress(0, 1))
    assert len(passes["teacher"]) == 9 and all(training for training, _, _ in passes["teacher"])
    noises = torch.stack([given - batch.pool.weak for _, given, _ in passes["teacher"]])
    assert noises.abs().max() < 0.2 + 1e-6 and 0.08 < noises.std() < 0.1 and len(noises.unique(dim=0)) == 9
    ((training, given, scores),) = passes["network"]
    assert training and torch.equal(given, torch.cat([batch.labelled.images, batch.pool.weak])) and scores.requires_grad
    assert not any(m.training for m in method.teacher.modules())


def test_dropout_is_active_in_train_mode_alone(planned: Any) -> None:
    quiet = planned("ua_mt", method__dropout=0.0, method__noise=0.0).build()
    method = planned("ua_mt", method__noise=0.0).build()
    method.load_state_dict(quiet.state_dict())
    with torch.no_grad():
        assert torch.equal(method.eval().probabilities(images(), KEYS), quiet.eval().probabilities(images(), KEYS))
        method.teacher.train()
        quiet.teacher.train()
        assert not torch.equal(method.noisy(images()), method.noisy(images()))
        assert torch.equal(quiet.noisy(images()), quiet.noisy(images()))
        torch.testing.assert_close(quiet.uncertainty(images()), -plogp(quiet.noisy(images())), atol=1e-5, rtol=0)
        assert (method.uncertainty(images()) > -plogp(method.noisy(images()))).float().mean() > 0.5  # passes disagree


def plogp(probabilities: torch.Tensor) -> torch.Tensor:
    return (probabilities * probabilities.log()).sum(1)


def test_the_teacher_has_statistics_of_its_own(planned: Any, draw: Any, fit: Any) -> None:
    """Its parameters are the mean of the students'; its BatchNorm statistics come from its own nine passes a step."""
    p = planned("ua_mt")
    method = p.build()
    fit(method, [draw(p)])
    pairs = zip(method.teacher.named_parameters(), method.network.parameters(), strict=True)
    assert all(torch.equal(a, b) for (_, a), b in pairs)
    teacher, student = (dict(n.named_buffers()) for n in (method.teacher, method.network))
    counters = [key for key in teacher if "num_batches" in key]
    assert counters and all(teacher[key] == 9 and student[key] == 1 for key in counters)
    assert all(not torch.equal(teacher[key], student[key]) for key in teacher if "running_mean" in key)


def test_threshold_rises_from_three_quarters_of_ln_2_and_is_state(planned: Any, draw: Any) -> None:
    p = planned("ua_mt")
    method, batch = p.build().train(), draw(p)
    found = [method.losses(batch, Progress(step, 10)) and float(method.threshold) / math.log(2) for step in (0, 5, 10)]
    assert found == pytest.approx([0.75 + 0.25 * math.exp(-5), 0.75 + 0.25 * math.exp(-5 / 4), 1])
    assert float(method.state_dict()["threshold"]) == pytest.approx(math.log(2))


def test_audits_accept_where_the_teacher_in_eval_mode_is_certain(planned: Any) -> None:
    method = planned("ua_mt").build().eval()
    with torch.no_grad():
        method.teacher.classifier.weight *= 1e4  # untrained, it says next to nothing
        u = -plogp(method.teacher(images()).softmax(1).clamp(min=1e-30))
    method.threshold.fill_(u.median())
    pseudo = method.pseudo_labels(images(), KEYS)
    assert torch.equal(pseudo.accepted, u < u.median()) and 0 < pseudo.accepted.sum() < u.numel()


def test_the_student_predicts(planned: Any) -> None:
    method = planned("ua_mt").build().eval()
    with torch.no_grad():
        before = method.probabilities(images(), KEYS)
        method.teacher.classifier.bias[0] += 5
        assert torch.equal(method.probabilities(images(), KEYS), before)
