"""Costs of the paper's network, without data and without computing."""

from __future__ import annotations

import pytest

from diffmatch.cost import cost_of
from diffmatch.domain import InputError


@pytest.fixture(scope="module")
def paper():
    return cost_of(None, 21, "diffmatch", "paper", {})


def test_parameters_and_multiply_accumulates_of_the_paper(paper):
    assert (paper["crop"], paper["encoder"], paper["decoder"]) == (513, "resnet50", "deeplabv3plus")
    assert paper["parameters"]["total"] / 1e6 == pytest.approx(44.41, abs=0.02)
    assert paper["gmac"]["extractor"] == pytest.approx(79.3, abs=0.1)
    assert paper["gmac"]["denoiser_step"] == pytest.approx(47.5, abs=0.2)
    assert paper["gmac"]["sampler_steps"] == 3


def test_the_image_is_looked_at_once_and_denoised_thrice(paper):
    gmac = paper["gmac"]
    # The z half of the fusion belongs to the image: 129 * 129 positions, 256 x 256 weights.
    condition = 129 * 129 * 256 * 256 / 1e9
    once = gmac["extractor"] + condition + 3 * (gmac["denoiser_step"] - condition)
    assert gmac["prediction"] == pytest.approx(once, abs=0.01)


def test_the_discriminative_network_is_the_extractor_and_a_classifier():
    found = cost_of(None, 21, "supervised", "paper", {})
    assert found["parameters"]["total"] / 1e6 == pytest.approx(40.48, abs=0.02)
    assert "denoiser_step" not in found["gmac"]


SMALL = {
    "network.decoder": "unet", "network.encoder": "plain4", "network.dim": 16, "network.heads": 2, "network.layers": 1, "data.crop": 256,
}  # fmt: skip


def test_activations_grow_with_the_batch_and_the_rest_does_not():
    one, two, four = (cost_of(None, 3, "diffmatch", "paper", SMALL | {"train.batch": n})["step_memory_gib"] for n in (1, 2, 4))
    assert one > 0
    assert four - two == pytest.approx(2 * (two - one), rel=0.1)


def test_more_sampler_steps_cost_predictions_only():
    three, six = (cost_of(None, 3, "diffmatch", "paper", SMALL | {"diffusion.steps": n}) for n in (3, 6))
    assert three["parameters"] == six["parameters"]
    assert three["gmac"]["denoiser_step"] == six["gmac"]["denoiser_step"]
    assert six["gmac"]["prediction"] > three["gmac"]["prediction"]


@pytest.mark.parametrize(("dataset", "classes"), [(None, None), ("acdc", 4)])
def test_neither_or_both_of_dataset_and_classes_is_an_error(dataset, classes):
    with pytest.raises(InputError, match="--classes"):
        cost_of(dataset, classes, "diffmatch", "paper", {})
