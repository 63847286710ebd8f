"""f(y_t, z, t): the split fusion, the time, and what the discriminative twin sees."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from diffmatch.networks.denoiser import Denoiser, TimeConditioning


@pytest.fixture
def denoiser():
    torch.manual_seed(0)
    return Denoiser(classes=3, mask_channels=4, dim=16, layers=2, heads=2, points=2).eval()


def perturb(denoiser):
    """What starts at zero moves a little, as after some training."""
    with torch.no_grad():
        denoiser.time.mlp[-1].weight.normal_(0, 0.1)
        denoiser.fuse.weight[:, : denoiser.mask_channels].normal_(0, 0.2)
        for layer in denoiser.layers:
            layer.attention.output.weight.normal_(0, 0.2)
            layer.ffn[-1].weight.normal_(0, 0.2)


def test_f_starts_as_a_classifier_on_each_position(denoiser):
    """No layer looks around before it has learnt to: a change at one position moves the scores of no other."""
    y, z = torch.randn(1, 4, 5, 5), torch.randn(1, 16, 5, 5)
    other = z.clone()
    other[:, :, 2, 2] += 1
    with torch.no_grad():
        a, b = (denoiser(y, denoiser.condition(x), torch.rand(1)) for x in (z, other))
    moved = (a - b).abs().amax(1)[0] > 0
    assert moved[2, 2]
    assert moved.sum() == 1


def test_the_two_halves_of_the_fusion_are_the_convolution_over_both(denoiser):
    y, z = torch.randn(2, 4, 5, 3), torch.randn(2, 16, 5, 3)
    seen = []
    denoiser.layers[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        denoiser(y, denoiser.condition(z), torch.rand(2))
        whole = denoiser.fuse(torch.cat([y, z], 1))
    torch.testing.assert_close(seen[0], whole.flatten(2).transpose(1, 2), atol=1e-6, rtol=1e-5)


def test_no_mask_stands_for_the_zero_mask(denoiser):
    z, t = torch.randn(2, 16, 4, 4), torch.ones(2)
    with torch.no_grad():
        condition = denoiser.condition(z)
        torch.testing.assert_close(denoiser(None, condition, t), denoiser(torch.zeros(2, 4, 4, 4), condition, t))


def test_a_new_denoiser_ignores_the_mask_and_a_trained_one_does_not(denoiser):
    y, z, t = torch.randn(1, 4, 4, 4), torch.randn(1, 16, 4, 4), torch.rand(1)
    with torch.no_grad():
        assert torch.equal(denoiser(y, denoiser.condition(z), t), denoiser(None, denoiser.condition(z), t))
        perturb(denoiser)
        found = denoiser(y, denoiser.condition(z), t)
        assert found.shape == (1, 3, 4, 4)
        assert (denoiser(-y, denoiser.condition(z), t) - found).abs().max() > 1e-3
        assert (denoiser(y, denoiser.condition(-z), t) - found).abs().max() > 1e-3


def test_a_new_denoiser_ignores_the_time_and_a_trained_one_does_not(denoiser):
    y, condition = torch.randn(2, 4, 4, 4), torch.randn(2, 16, 4, 4)
    with torch.no_grad():
        early, late = (denoiser(y, condition, torch.full((2,), t)) for t in (0.3, 0.7))
        torch.testing.assert_close(early, late)
        perturb(denoiser)
        early, late = (denoiser(y, condition, torch.full((2,), t)) for t in (0.3, 0.7))
        assert (early - late).abs().max() > 1e-3
        mixed = denoiser(y, condition, torch.tensor([0.3, 0.7]))
    torch.testing.assert_close(mixed, torch.stack([early[0], late[1]]), atol=1e-6, rtol=1e-5)


def test_each_of_the_four_parts_of_the_time_matters(denoiser):
    y, condition, t = torch.randn(1, 4, 3, 3), torch.randn(1, 16, 3, 3), torch.rand(1)
    with torch.no_grad():
        plain = denoiser(y, condition, t)
        for part in range(4):
            denoiser.time.mlp[-1].bias.zero_().view(4, 16)[part] = torch.linspace(-0.5, 0.5, 16)
            assert (denoiser(y, condition, t) - plain).abs().max() > 1e-3, part


def test_time_features_are_log_snr_and_its_sines_and_cosines():
    time = TimeConditioning(8)
    seen = []
    time.mlp[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    assert time(torch.tensor([0.2, 1.0])).shape == (2, 4, 8)
    features = seen[0]
    assert features.shape == (2, 17)
    assert features[1, 0] == -10
    torch.testing.assert_close(features[:, 1:9].square() + features[:, 9:].square(), torch.ones(2, 8))


def test_a_layer_is_the_one_that_the_parameter_counts_of_the_paper_need():
    """0.131 M fusion at D = 256 with 256 mask channels, 1.068 M time, 0.683 M a layer."""
    with torch.device("meta"):
        one, two = (Denoiser(21, 256, 256, layers, 8, 4) for layers in (1, 2))
    size = {
        name: sum(p.numel() for p in m.parameters())
        for name, m in (("fuse", one.fuse), ("time", one.time), ("one", one), ("two", two))
    }
    assert size["fuse"] == 2 * 256 * 256 + 256
    assert size["time"] == 8 + (17 * 1024 + 1024) + (1024 * 1024 + 1024)
    attention = 2 * (256 * 256 + 256) + (256 * 64 + 64) + (256 * 32 + 32)
    assert size["two"] - size["one"] == attention + 2 * (256 * 1024) + 1024 + 256 + 4 * 256


def test_gradient_reaches_every_parameter(denoiser):
    perturb(denoiser)
    out = denoiser(torch.randn(2, 4, 4, 4), denoiser.condition(torch.randn(2, 16, 4, 4)), torch.rand(2))
    F.cross_entropy(out, torch.randint(0, 3, (2, 4, 4))).backward()
    assert not [name for name, p in denoiser.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
