"""The reverse process: independence of batch and draws, its noise field, and an oracle's answer."""

from __future__ import annotations

import itertools

import pytest
import torch

from diffmatch.diffusion.adjustment import posthoc
from diffmatch.diffusion.codec import BitsCodec, EmbeddingCodec
from diffmatch.diffusion.sampler import batch_noise, ddim, item_noise
from diffmatch.diffusion.schedule import coefficients
from diffmatch.domain import Card, ClassInfo, ForegroundThirds, Protocol
from diffmatch.networks.segmenter import DenoiserNetwork
from diffmatch.settings import Section, resolve
from diffmatch.shared.seeds import seed_of

CPU = torch.device("cpu")
CLASSES = 3


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def denoiser(condition, channels):
    """A small f that mixes y_t, the image and the time without mixing images."""
    convolution = torch.nn.Conv2d(channels, CLASSES, 3, padding=1).requires_grad_(False)
    return lambda y, t: convolution(10 * y) + condition + t.view(-1, 1, 1, 1)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(1)
    card = Card(
        version=1,
        name="toy",
        title="toy",
        modality="none",
        label_unit="images",
        budgets=(),
        channels=1,
        metric="mean_iou",
        classes=tuple(ClassInfo(name=str(c), color=(0, 0, 0)) for c in range(CLASSES)),
        head_tail=ForegroundThirds(),
        protocols=(Protocol(name="whole", title="whole", mode="image"),),
        licence="",
        citation="",
        source="",
    )
    small = {
        "network.decoder": "unet",
        "network.encoder": "plain4",
        "network.stride": 2,
        "network.dim": 16,
        "network.layers": 2,
        "network.heads": 2,
        "network.points": 2,
        "diffusion.scale": 0.5,
        "data.mean": [0.0],
        "data.std": [1.0],
    }
    found = DenoiserNetwork(card, resolve(Section, small)).eval()
    with torch.no_grad():
        found.denoiser.fuse.weight.normal_(0, 0.2)  # a new denoiser ignores the mask, and so the noise
        for parameter in found.denoiser.time.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return found


# -- noise -------------------------------------------------------------------------------------------------------------


def test_noise_belongs_to_key_and_draw_and_to_nothing_else():
    shape = (2, 9, 11)
    one = item_noise("a", 0, shape, CPU)
    torch.manual_seed(123)
    assert torch.equal(item_noise("a", 0, shape, CPU), one)
    assert not torch.equal(item_noise("b", 0, shape, CPU), one)
    assert not torch.equal(item_noise("a", 1, shape, CPU), one)
    stacked = batch_noise(["b", "a"], 2, shape, CPU)
    assert stacked.shape == (2, 2, *shape)
    assert torch.equal(stacked[0, 1], one)


def test_drawing_noise_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    item_noise("a", 0, (1, 40, 40), CPU)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("offset", "size"), [((0, 0), (40, 70)), ((31, 33), (3, 2)), ((32, 64), (32, 32)), ((5, 60), (60, 20))]
)
def test_windows_of_a_scene_agree_where_they_overlap(offset, size):
    whole = item_noise("scene", 0, (2, 100, 100), CPU)
    top, left = offset
    window = item_noise("scene", 0, (2, *size), CPU, offset)
    assert torch.equal(window, whole[:, top : top + size[0], left : left + size[1]])


def test_noise_is_standard_normal():
    noise = item_noise("a", 0, (4, 256, 256), CPU)
    assert abs(float(noise.mean())) < 0.01
    assert float(noise.std()) == pytest.approx(1, abs=0.01)
    assert abs(float((noise[:, :32, :32] * noise[:, 32:64, :32]).mean())) < 0.08, "blocks are independent"


def test_seeds_tell_keys_apart_that_print_alike():
    assert seed_of("a", 1) != seed_of("a1")
    assert seed_of("a", 12, 3) != seed_of("a", 1, 23)


# -- DDIM --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 3, 4])
@pytest.mark.parametrize("codec", [BitsCodec(CLASSES, 0.1), EmbeddingCodec(CLASSES, 0.1, 8)], ids=["bits", "embedding"])
def test_an_oracle_leads_to_the_truth(codec, steps):
    truth = torch.randint(0, CLASSES, (2, 6, 6))
    scores = torch.nn.functional.one_hot(truth, CLASSES).movedim(-1, 1).float() * 10
    states = []

    def oracle(y, t):
        states.append((float(t[0]), y))
        return scores.repeat(2, 1, 1, 1)

    with torch.no_grad():
        found = ddim(oracle, codec, torch.randn(2, 2, codec.channels, 6, 6), steps)
    assert torch.equal(found.argmax(2), truth.expand(2, 2, 6, 6))
    assert [t for t, _ in states] == pytest.approx([1 - k / steps for k in range(steps)])


def test_with_an_oracle_the_states_follow_ddim_and_end_at_the_truth():
    codec = BitsCodec(CLASSES, 0.1)
    truth, noise = torch.randint(0, CLASSES, (1, 5, 5)), torch.randn(1, 1, 2, 5, 5)
    scores = torch.nn.functional.one_hot(truth, CLASSES).movedim(-1, 1).float()
    states = []

    def oracle(y, t):
        states.append(y)
        return scores

    ddim(oracle, codec, noise, 3)
    # Algorithm 3: eps from (state, t_now), the next state from (y_0, eps, t_next), along (1, 1/3), (2/3, 0).
    y_0, expected = codec(truth), [noise[0]]
    for now, after in ((1.0, 1 / 3), (2 / 3, 0.0)):
        cos, sin = coefficients(torch.tensor(now))
        eps = (expected[-1] - cos * y_0) / sin
        cos, sin = coefficients(torch.tensor(after))
        expected.append(cos * y_0 + sin * eps)
    torch.testing.assert_close(states, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(states[-1], y_0, atol=2e-3, rtol=0)


def test_a_batch_equals_its_images_one_by_one():
    codec, keys = BitsCodec(CLASSES, 0.1), ["a", "b", "c"]
    condition = torch.randn(3, CLASSES, 7, 5)
    convolution = torch.nn.Conv2d(2, CLASSES, 3, padding=1).requires_grad_(False)

    def run(chosen):
        picked = condition[chosen].repeat(2, 1, 1, 1)
        noise = batch_noise([keys[k] for k in chosen], 2, (2, 7, 5), CPU)
        return ddim(lambda y, t: convolution(10 * y) + picked + t.view(-1, 1, 1, 1), codec, noise, 3)

    together = run([0, 1, 2])
    for k in range(3):
        torch.testing.assert_close(run([k])[:, 0], together[:, k], atol=1e-6, rtol=0)


def test_every_step_is_told_with_its_scores():
    codec = BitsCodec(CLASSES, 0.1)
    told = []
    last = ddim(
        denoiser(torch.randn(4, CLASSES, 5, 5), 2),
        codec,
        torch.randn(2, 2, 2, 5, 5),
        3,
        on_step=lambda k, s: told.append((k, s)),
    )
    assert [k for k, _ in told] == [0, 1, 2]
    assert all(s.shape == (2, 2, CLASSES, 5, 5) for _, s in told)
    assert torch.equal(told[-1][1], last)


def test_the_adjustment_changes_what_is_encoded_and_what_is_returned():
    codec, noise, condition = BitsCodec(CLASSES, 0.5), torch.randn(1, 1, 2, 8, 8), torch.randn(1, CLASSES, 8, 8)
    f, adjust = denoiser(condition, 2), posthoc(torch.tensor([0.98, 0.01, 0.01]), 1.0)
    states = {}
    for name, how in (("plain", None), ("adjusted", adjust)):
        seen = states.setdefault(name, [])
        seen.append(ddim(lambda y, t, seen=seen: seen.append(y) or f(y, t), codec, noise, 3, how))
    assert torch.equal(states["plain"][0], states["adjusted"][0]), "the first state is the noise"
    assert not torch.equal(states["plain"][1], states["adjusted"][1])
    torch.testing.assert_close(
        states["adjusted"][-1], adjust(f(states["adjusted"][-2], torch.tensor([1 / 3])), 1 / 3)[None]
    )


# -- the network's sampler ---------------------------------------------------------------------------------------------


def test_probabilities_of_a_batch_equal_those_of_its_images(network):
    images, keys = torch.randn(3, 1, 1, 20, 16), ["x", "y", "z"]
    with torch.no_grad():
        condition = network.condition(images)
        together = network.sample(condition, keys, (20, 16), steps=3, draws=2).mean(0)
        torch.testing.assert_close(together.sum(1), torch.ones(3, 20, 16))
        assert together.min() >= 0
        for k, key in enumerate(keys):
            alone = network.sample(condition[k : k + 1], [key], (20, 16), steps=3, draws=2).mean(0)
            torch.testing.assert_close(alone[0], together[k], atol=1e-6, rtol=0)


def test_draws_are_probabilities_of_their_own(network):
    images = torch.randn(2, 1, 1, 16, 16)
    with torch.no_grad():
        condition = network.condition(images)
        draws = network.sample(condition, ["a", "b"], (16, 16), steps=2, draws=3)
        noise = batch_noise(["a", "b"], 3, (network.codec.channels, *condition.shape[-2:]), CPU)
        single = [
            torch.nn.functional.interpolate(
                ddim(lambda y, t: network.denoiser(y, condition, t), network.codec, noise[d : d + 1], 2)[0],
                size=(16, 16),
                mode="bilinear",
                align_corners=False,
            ).softmax(1)
            for d in range(3)
        ]
    torch.testing.assert_close(draws, torch.stack(single), atol=1e-6, rtol=0)
    assert all((a - b).abs().max() > 1e-4 for a, b in itertools.combinations(single, 2)), "the draws differ"
    assert (draws[:, 0] - draws[:, 1]).abs().max() > 1e-3, "the images differ"


def test_the_callback_sees_probabilities_of_every_step(network):
    told = []
    with torch.no_grad():
        condition = network.condition(torch.randn(2, 1, 1, 16, 16))
        last = network.sample(
            condition, ["a", "b"], (16, 16), steps=4, draws=2, on_step=lambda k, p: told.append((k, p))
        )
    assert [k for k, _ in told] == [0, 1, 2, 3]
    for _, p in told:
        torch.testing.assert_close(p.sum(1), torch.ones(2, 16, 16))
    assert torch.equal(told[-1][1], last.mean(0))


def test_noising_takes_the_nearest_label_and_leaves_void_without_signal(network):
    mask = torch.full((1, 8, 8), 255, dtype=torch.uint8)
    mask[:, 3:] = 1
    y = network.noisy(mask, torch.zeros(1), (4, 4)).detach()
    # Of the eight rows the grid takes 1, 3, 5 and 7; nothing lies between void and a class.
    code = network.codec.codes()[1].detach().view(-1, 1, 1)
    torch.testing.assert_close(y[0, :, 1:], code.expand(-1, 3, 4), atol=3e-3, rtol=0)
    assert y[0, :, 0].abs().max() < 3e-3
