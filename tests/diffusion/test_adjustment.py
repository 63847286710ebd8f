"""The class prior and every reading of the debiased adjustment."""

from __future__ import annotations

import math

import pytest
import torch

from diffmatch.diffusion.adjustment import natural, posthoc
from diffmatch.diffusion.objective import denoising_loss
from diffmatch.diffusion.prior import PRIOR_FLOOR, ClassPrior, smoothed
from diffmatch.domain import VOID

ADJUSTMENTS = ("none", "literal", "pixel", "normalised", "logit", "posthoc")
LOSSES = ("squared", "ce")
PRIOR = torch.tensor([0.8, 0.15, 0.05])


@pytest.fixture
def sample():
    """Scores, target with void, acceptance, times."""
    rng = torch.Generator().manual_seed(0)
    target = torch.randint(0, 3, (2, 4, 5), generator=rng).to(torch.uint8)
    target[torch.rand(2, 4, 5, generator=rng) < 0.3] = VOID
    scores = (2 * torch.randn(2, 3, 4, 5, generator=rng)).requires_grad_()
    return scores, target, torch.rand(2, 4, 5, generator=rng) < 0.6, torch.tensor([0.2, 0.9])


def loss(sample, prior=PRIOR, **how):
    return denoising_loss(*sample, prior, **{"loss": "squared", "adjustment": "none", "tau": 0.1, **how})


def chosen(sample):
    """(probabilities (C,), scores (C,), class, t) of every accepted pixel that is not void."""
    scores, target, accepted, t = sample
    for n, i, j in (accepted & (target != VOID)).nonzero().tolist():
        s = scores[n, :, i, j].detach().double()
        yield s.softmax(0), s, int(target[n, i, j]), float(t[n])


def valid(sample):
    return int((sample[1] != VOID).sum())


# -- the prior ---------------------------------------------------------------------------------------------------------


def test_a_class_never_seen_has_a_small_finite_prior():
    p = smoothed(torch.tensor([10_000_000, 0, 5_000_000]))
    assert p[1] == pytest.approx(PRIOR_FLOOR, rel=1e-3)
    assert float(p.sum()) == pytest.approx(1, abs=1e-6)
    assert p.log().isfinite().all()


def test_the_prior_is_one_pixel_smoothed():
    torch.testing.assert_close(smoothed(torch.tensor([7, 1, 0])), torch.tensor([8, 2, 1]) / 11)
    torch.testing.assert_close(smoothed(torch.zeros(4, dtype=torch.int64)), torch.full((4,), 0.25))


def test_billions_of_pixels_do_not_lose_the_rare_class():
    p = smoothed(torch.tensor([8_000_000_000, 2_000_000_000]))
    torch.testing.assert_close(p, torch.tensor([0.8, 0.2]), atol=1e-6, rtol=0)


def test_the_pool_prior_starts_at_the_labelled_one_and_follows_slowly():
    prior = ClassPrior([80, 20], 0.99)
    torch.testing.assert_close(prior.unlabelled, prior.labelled)
    start = prior.labelled.clone()
    prior.update(torch.tensor([30, 70]))
    torch.testing.assert_close(prior.unlabelled, 0.99 * start + 0.01 * torch.tensor([0.3, 0.7]))
    torch.testing.assert_close(prior.labelled, start)


def test_the_pool_prior_stays_between_half_and_twice_the_labelled_one():
    prior = ClassPrior([90, 9, 1], 0.9)
    for _ in range(200):
        prior.update(torch.tensor([0, 100, 0]))
    torch.testing.assert_close(prior.unlabelled, prior.labelled * torch.tensor([0.5, 2, 0.5]))


def test_an_empty_batch_changes_nothing():
    prior = ClassPrior([90, 9, 1], 0.99)
    prior.update(torch.tensor([1, 2, 3]))
    before = prior.ema.clone()
    prior.update(torch.zeros(3, dtype=torch.int64))
    assert torch.equal(prior.ema, before)


def test_the_prior_travels_in_the_checkpoint():
    prior, other = ClassPrior([90, 10], 0.9), ClassPrior([1, 1], 0.9)
    prior.update(torch.tensor([1, 9]))
    other.load_state_dict(prior.state_dict())
    assert torch.equal(other.unlabelled, prior.unlabelled)
    assert not list(prior.parameters())


# -- the readings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("adjustment", ADJUSTMENTS)
def test_tau_zero_is_no_adjustment_bit_for_bit(adjustment, kind, sample):
    found = {}
    for name, how in (("none", "none"), ("zero", adjustment)):
        sample[0].grad = None
        total = loss(sample, loss=kind, adjustment=how, tau=0.0 if name == "zero" else 0.3)
        total.backward()
        found[name] = total.detach(), sample[0].grad.clone()
    assert torch.equal(found["none"][0], found["zero"][0])
    assert torch.equal(found["none"][1], found["zero"][1])


@pytest.mark.parametrize("adjustment", ["literal", "pixel", "normalised", "logit"])
def test_the_other_readings_change_loss_and_gradient(adjustment, sample):
    plain, adjusted = loss(sample), loss(sample, adjustment=adjustment)
    assert abs(plain.item() - adjusted.item()) > 1e-5
    one, other = (torch.autograd.grad(x, sample[0])[0] for x in (plain, adjusted))
    assert (one - other).abs().max() > 1e-6


def test_posthoc_leaves_training_alone(sample):
    assert torch.equal(loss(sample, adjustment="posthoc", tau=1.0), loss(sample))


def test_plain_losses_by_a_loop_over_pixels(sample):
    squared = sum(float(((p - torch.eye(3)[y]) ** 2).sum()) for p, _, y, _ in chosen(sample))
    assert loss(sample).item() == pytest.approx(squared / valid(sample), rel=1e-5)
    ce = sum(-math.log(p[y]) for p, _, y, _ in chosen(sample))
    assert loss(sample, loss="ce").item() == pytest.approx(ce / valid(sample), rel=1e-5)


def test_read_literally_class_k_weighs_one_minus_one_over_cp_squared(sample):
    weight = (1 - 1 / (3 * PRIOR.double())) ** 2
    term = sum(t * float((weight * p**2).sum()) for p, _, _, t in chosen(sample))
    added = loss(sample, adjustment="literal", tau=0.3).item() - loss(sample).item()
    assert added == pytest.approx(0.3 * term / valid(sample), rel=1e-4)


def test_the_literal_weights_on_hippocampus_are_those_of_the_design():
    weights = [(1 - 1 / (3 * p)) ** 2 for p in (0.948, 0.027, 0.025)]
    assert weights == pytest.approx([0.42, 129, 152], rel=0.01)
    for c in range(3):
        scores = torch.full((1, 3, 1, 1), -100.0)
        scores[:, c] = 100
        args = scores, torch.tensor([[[c]]], dtype=torch.uint8), torch.ones(1, 1, 1, dtype=torch.bool), torch.ones(1)
        found = denoising_loss(
            *args, torch.tensor([0.948, 0.027, 0.025]), loss="squared", adjustment="literal", tau=1.0
        )
        assert found.item() == pytest.approx(weights[c], rel=1e-3)


def test_the_pixel_reading_uses_the_prior_of_the_pixels_own_class(sample):
    term = sum(t * (1 - 1 / (3 * float(PRIOR[y]))) ** 2 * float((p**2).sum()) for p, _, y, t in chosen(sample))
    added = loss(sample, adjustment="pixel", tau=0.3).item() - loss(sample).item()
    assert added == pytest.approx(0.3 * term / valid(sample), rel=1e-4)


def test_the_normalised_target_sums_to_one_and_is_a_constant(sample):
    tau, n = 0.7, valid(sample)
    p = sample[0].softmax(1)
    target = (p / PRIOR.view(1, 3, 1, 1)).detach()
    target = target / target.sum(1, keepdim=True)
    torch.testing.assert_close(target.sum(1), torch.ones(2, 4, 5))
    weight = (sample[2] & (sample[1] != VOID)).float()
    term = ((p - target) ** 2).sum(1) * sample[3].view(-1, 1, 1) * weight
    expected = loss(sample) + tau * term.sum() / n
    found = loss(sample, adjustment="normalised", tau=tau)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, sample[0])[0], torch.autograd.grad(expected, sample[0])[0])


@pytest.mark.parametrize("kind", LOSSES)
def test_the_logit_reading_shifts_scores_by_tau_t_log_cp(kind, sample):
    total = 0.0
    for _, s, y, t in chosen(sample):
        p = (s + 0.5 * t * (3 * PRIOR.double()).log()).softmax(0)
        total += -math.log(p[y]) if kind == "ce" else float(((p - torch.eye(3)[y]) ** 2).sum())
    assert loss(sample, loss=kind, adjustment="logit", tau=0.5).item() == pytest.approx(total / valid(sample), rel=1e-4)


def test_a_uniform_prior_adjusts_nothing(sample):
    even = torch.full((3,), 1 / 3)
    for adjustment in ("literal", "pixel", "normalised", "logit"):
        torch.testing.assert_close(
            loss(sample, even, adjustment=adjustment, tau=1.0), loss(sample), atol=1e-6, rtol=1e-5
        )


def test_posthoc_divides_odds_by_cp_to_the_tau():
    scores = torch.tensor([[2.0, 1.0, 0.0]]).view(1, 3, 1, 1)
    odds = torch.tensor([2.0, 1.0, 0.0]).exp() / (3 * PRIOR) ** 0.5
    torch.testing.assert_close(posthoc(PRIOR, 0.5)(scores, 0.3).softmax(1).flatten(), odds / odds.sum())
    assert torch.equal(posthoc(PRIOR, 0.0)(scores, 1.0), scores)


# -- void and confidence -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("adjustment", ADJUSTMENTS)
def test_a_crop_of_void_costs_nothing(adjustment, kind, sample):
    scores, target, accepted, t = sample
    found = loss(
        (scores, torch.full_like(target, VOID), torch.ones_like(accepted), t), loss=kind, adjustment=adjustment
    )
    found.backward()
    assert found.item() == 0
    assert scores.grad.isfinite().all()
    assert not scores.grad.any()


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("adjustment", ADJUSTMENTS)
def test_only_accepted_pixels_that_are_not_void_have_a_gradient(adjustment, kind, sample):
    scores, target, accepted, _ = sample
    loss(sample, loss=kind, adjustment=adjustment).backward()
    assert torch.equal(scores.grad.abs().sum(1) > 0, accepted & (target != VOID))


@pytest.mark.parametrize("adjustment", ADJUSTMENTS)
def test_a_class_never_seen_leaves_everything_finite(adjustment, sample):
    prior = ClassPrior([1_000_000, 5000, 0], 0.99).labelled
    found = loss(sample, prior, adjustment=adjustment, tau=1.0)
    found.backward()
    assert found.isfinite()
    assert sample[0].grad.isfinite().all()


@pytest.mark.parametrize("t", [1.0, 1 / 3, 0.0])
def test_the_natural_scores_of_the_logit_reading_are_those_inside_its_loss(t):
    """A network that is perfect under the shifted loss predicts the true odds after the shift, whatever the time."""
    odds = torch.tensor([0.6, 0.3, 0.1][: len(PRIOR)] + [0.05] * max(0, len(PRIOR) - 3))
    odds = odds / odds.sum()
    trained = odds.log() - 0.7 * t * (len(PRIOR) * PRIOR).log()
    found = natural(PRIOR, 0.7)(trained.view(1, -1, 1, 1), t).softmax(1).flatten()
    torch.testing.assert_close(found, odds)
