"""Golden values of the cosine schedule and the sampler's times."""

from __future__ import annotations

import math

import pytest
import torch

from diffmatch.diffusion.schedule import add_noise, coefficients, log_snr, timesteps


@pytest.mark.parametrize(
    ("t", "cos", "sin", "snr"),
    [
        # u = (t + 0.0002) / 1.00025 * pi / 2, worked in double precision.
        (0.0, 0.99999995068, 0.00031408076, 10.0),
        (0.5, 0.70702349, 0.70719006, -0.00047112),
        (1.0, 0.00007852, 0.99999999692, -10.0),
    ],
)
def test_golden_values(t, cos, sin, snr):
    a, s = coefficients(torch.tensor(t))
    assert float(a) == pytest.approx(cos, abs=2e-7)
    assert float(s) == pytest.approx(sin, abs=2e-7)
    assert float(log_snr(torch.tensor(t))) == pytest.approx(snr, abs=1e-6)


def test_variance_is_preserved():
    a, s = coefficients(torch.linspace(0, 1, 1001))
    torch.testing.assert_close(a.square() + s.square(), torch.ones(1001), atol=2e-7, rtol=0)
    assert (a.diff() < 0).all()
    assert (s.diff() > 0).all()


def test_the_sigmoid_of_log_snr_is_alpha_bar_where_nothing_is_clamped():
    t = torch.linspace(0.01, 0.99, 197)
    snr = log_snr(t)
    assert snr.abs().max() < 10
    torch.testing.assert_close(snr.sigmoid(), coefficients(t)[0].square(), atol=1e-6, rtol=0)


def test_log_snr_falls_and_stays_finite_at_both_ends():
    snr = log_snr(torch.linspace(0, 1, 501))
    assert (snr.diff() <= 0).all()
    assert snr[0] == 10
    assert snr[-1] == -10


def test_half_precision_times_are_computed_in_float32():
    assert log_snr(torch.tensor([0.25], dtype=torch.float16)).dtype == torch.float32
    torch.testing.assert_close(log_snr(torch.tensor([0.25], dtype=torch.float16)), log_snr(torch.tensor([0.25])))


def test_noise_is_mixed_in_per_image():
    y_0, noise = torch.full((2, 3, 4, 4), 2.0), torch.full((2, 3, 4, 4), 5.0)
    y = add_noise(y_0, noise, torch.tensor([0.0, 0.5]))
    for k, t in enumerate((0.0, 0.5)):
        u = (t + 0.0002) / 1.00025 * math.pi / 2
        torch.testing.assert_close(y[k], torch.full((3, 4, 4), 2 * math.cos(u) + 5 * math.sin(u)))


def test_three_steps():
    flat = [time for pair in timesteps(3) for time in pair]
    assert flat == pytest.approx([1, 1 / 3, 2 / 3, 0, 1 / 3, 0])


@pytest.mark.parametrize("steps", [1, 2, 5, 10])
def test_the_sampler_starts_at_one_and_never_leaves_the_trained_interval(steps):
    pairs = timesteps(steps)
    assert len(pairs) == steps
    assert pairs[0][0] == 1
    assert pairs[-1][1] == 0
    assert all(0 <= after < now <= 1 for now, after in pairs)
