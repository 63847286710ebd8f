"""Losses over masks with void and acceptance, against plain loops."""

from __future__ import annotations

import math

import pytest
import torch

from diffmatch.domain import VOID
from diffmatch.learning import losses

KINDS = ("ce", "ce_dice", "ohem", "squared")


@pytest.fixture
def sample():
    """Scores, target with void, acceptance."""
    rng = torch.Generator().manual_seed(0)
    target = torch.randint(0, 3, (2, 5, 4), generator=rng).to(torch.uint8)
    target[torch.rand(2, 5, 4, generator=rng) < 0.3] = VOID
    scores = (2 * torch.randn(2, 3, 5, 4, generator=rng)).requires_grad_()
    return scores, target, torch.rand(2, 5, 4, generator=rng) < 0.5


def pixels(scores, target):
    """(probabilities, class) of every pixel that is not void, as Python numbers."""
    for n in range(len(target)):
        for i in range(target.shape[1]):
            for j in range(target.shape[2]):
                if target[n, i, j] != VOID:
                    yield (n, i, j), scores[n, :, i, j].detach().double().softmax(0).tolist(), int(target[n, i, j])


def naive_ce(scores, target):
    found = [-math.log(p[y]) for _, p, y in pixels(scores, target)]
    return sum(found) / len(found)


def naive_dice(scores, target, accepted=None):
    chosen = [(p, y) for where, p, y in pixels(scores, target) if accepted is None or accepted[where]]
    total = 0.0
    for c in range(scores.shape[1]):
        overlap = sum(p[c] for p, y in chosen if y == c)
        size = sum(p[c] ** 2 for p, _ in chosen) + sum(y == c for _, y in chosen)
        total += 1 - (2 * overlap + 1e-5) / (size + 1e-5)
    return total / scores.shape[1]


# -- against the loops -------------------------------------------------------------------------------------------------


def test_cross_entropy(sample):
    scores, target, _ = sample
    assert losses.supervised_loss("ce", scores, target).item() == pytest.approx(naive_ce(scores, target), rel=1e-5)


def test_dice_and_its_sum_with_cross_entropy(sample):
    scores, target, accepted = sample
    assert losses.dice_loss(scores, target, torch.ones(target.shape)).item() == pytest.approx(
        naive_dice(scores, target), rel=1e-5
    )
    both = (naive_ce(scores, target) + naive_dice(scores, target)) / 2
    assert losses.supervised_loss("ce_dice", scores, target).item() == pytest.approx(both, rel=1e-5)
    assert losses.pseudo_loss("ce_dice", scores, target, accepted).item() == pytest.approx(
        naive_dice(scores, target, accepted), rel=1e-5
    )


def test_squared_error_of_both_streams(sample):
    scores, target, accepted = sample
    errors = {where: sum((q - (c == y)) ** 2 for c, q in enumerate(p)) for where, p, y in pixels(scores, target)}
    assert losses.supervised_loss("squared", scores, target).item() == pytest.approx(
        sum(errors.values()) / len(errors), rel=1e-5
    )
    taught = sum(e for where, e in errors.items() if accepted[where]) / len(errors)
    assert losses.pseudo_loss("squared", scores, target, accepted).item() == pytest.approx(taught, rel=1e-5)


def test_a_perfect_answer_costs_nothing():
    target = torch.randint(0, 3, (1, 4, 4), dtype=torch.uint8)
    scores = 60 * losses.one_hot(target, 3)
    for kind in KINDS:
        assert losses.supervised_loss(kind, scores, target).item() == pytest.approx(0, abs=1e-5)


def test_squared_error_is_summed_over_classes_and_zero_at_void():
    probabilities = torch.tensor([0.7, 0.2, 0.1]).view(1, 3, 1, 1).expand(1, 3, 1, 2)
    found = losses.per_pixel_squared(probabilities, torch.tensor([[[1, VOID]]], dtype=torch.uint8))
    torch.testing.assert_close(found, torch.tensor([[[0.49 + 0.64 + 0.01, 0.0]]]))


def test_one_hot_of_void_is_zero():
    found = losses.one_hot(torch.tensor([[[2, VOID, 0]]], dtype=torch.uint8), 3)
    assert found[0, :, 0].T.tolist() == [[0, 0, 1], [0, 0, 0], [1, 0, 0]]


def test_unconfident_pixels_count_in_the_denominator_and_void_does_not(sample):
    scores, target, accepted = sample
    total = sum(-math.log(p[y]) for where, p, y in pixels(scores, target) if accepted[where])
    valid = int((target != VOID).sum())
    assert 0 < int((accepted & (target != VOID)).sum()) < valid
    assert losses.pseudo_loss("ce", scores, target, accepted).item() == pytest.approx(total / valid, rel=1e-5)


# -- hard examples -----------------------------------------------------------------------------------------------------


def naive_ohem(scores, target, kept):
    """UniMatch's: pixels whose true class has at most the threshold, at least `kept` of them for each image."""
    kept = kept * len(scores)
    found = sorted((p[y], -math.log(p[y])) for _, p, y in pixels(scores, target))
    threshold = max(0.7, found[min(kept, len(found)) - 1][0])
    hard = [loss for p, loss in found if p <= threshold + 1e-7]
    return sum(hard) / len(hard)


@pytest.mark.parametrize("kept", [1, 3, 15, 10_000])
def test_hard_examples(sample, kept, monkeypatch):
    scores, target, _ = sample
    monkeypatch.setattr(losses, "OHEM_KEPT", kept)
    assert losses.ohem(scores, target).item() == pytest.approx(naive_ohem(scores, target, kept), rel=1e-5)


def test_easy_pixels_have_no_gradient(sample, monkeypatch):
    scores, target, _ = sample
    monkeypatch.setattr(losses, "OHEM_KEPT", 1)
    losses.ohem(scores, target).backward()
    easy = [where for where, p, y in pixels(scores, target) if p[y] > 0.7]
    assert easy
    assert all(not scores.grad[n, :, i, j].any() for n, i, j in easy)
    assert scores.grad.any()


# -- nothing to learn --------------------------------------------------------------------------------------------------


def test_the_mean_over_nothing_is_zero():
    nothing = torch.zeros(1, 2, 2)
    assert losses.masked_mean(torch.ones(1, 2, 2), nothing, nothing.bool()).item() == 0
    assert losses.masked_mean(torch.ones(1, 2, 2), nothing + 1, nothing.bool() | True).item() == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_crop_of_void_costs_nothing_and_has_finite_gradients(kind):
    scores = torch.randn(2, 3, 4, 4, requires_grad=True)
    void = torch.full((2, 4, 4), VOID, dtype=torch.uint8)
    total = losses.supervised_loss(kind, scores, void) + losses.pseudo_loss(
        kind, scores, void, torch.ones(2, 4, 4, dtype=torch.bool)
    )
    total.backward()
    assert total.item() == 0
    assert scores.grad.isfinite().all()
    assert not scores.grad.any()


@pytest.mark.parametrize("kind", KINDS)
def test_without_accepted_pixels_there_is_no_loss(kind, sample):
    scores, target, accepted = sample
    found = losses.pseudo_loss(kind, scores, target, torch.zeros_like(accepted))
    found.backward()
    assert found.item() == 0
    assert not scores.grad.any()


@pytest.mark.parametrize("kind", KINDS)
def test_only_accepted_pixels_that_are_not_void_have_a_gradient(kind, sample):
    scores, target, accepted = sample
    losses.pseudo_loss(kind, scores, target, accepted).backward()
    taught = accepted & (target != VOID)
    assert torch.equal(scores.grad.abs().sum(1) > 0, taught)


@pytest.mark.parametrize("kind", KINDS)
def test_losses_of_certain_and_wrong_answers_are_finite(kind):
    target = torch.zeros(1, 2, 2, dtype=torch.uint8)
    scores = torch.stack([torch.full((2, 2), -1e4), torch.full((2, 2), 1e4)])[None].requires_grad_()
    found = losses.supervised_loss(kind, scores, target)
    found.backward()
    assert found.isfinite()
    assert scores.grad.isfinite().all()
