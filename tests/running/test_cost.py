"""Costs of the paper's network, without data and without computing."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from diffmatch import plugins
from diffmatch.cli import invoke
from diffmatch.domain import InputError
from diffmatch.learning import registry
from diffmatch.learning.batch import Losses
from diffmatch.methods.supervised import Supervised
from diffmatch.networks.segmenter import build_extractor
from diffmatch.running.cost import cost_of, method_costs
from diffmatch.running.plan import settings_of
from diffmatch.running.preflight import look_at_network


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


TABLES = [
    *[
        (f"Table {table}", dataset, {"network.encoder": encoder}, "deeplabv3plus", classes)
        for table, dataset, encoders, classes in (
            (1, "pascal", ("resnet50", "resnet101"), 21),
            (2, "pascal", ("resnet50", "resnet101"), 21),
            (3, "cityscapes", ("resnet50", "resnet101"), 19),
            (4, "coco", ("xception65",), 81),
        )
        for encoder in encoders
    ],
    ("Table 12", "whu_cd", {}, "pspnet", 2),
    ("Table 15", "acdc", {}, "unet_bilinear", 4),
    ("Table 18", "synapse", {}, "unet_bilinear", 9),
]


@pytest.mark.parametrize(("table", "dataset", "overrides", "decoder", "classes"), TABLES)
def test_every_table_has_its_network_and_its_cost(table, dataset, overrides, decoder, classes):
    """Parameters of z's network and one classifier row per class; the extractor learns from one image of two dates or
    one."""
    domain = plugins.domain(dataset)
    assert len(domain.card.classes) == classes
    costs = {method: cost_of(dataset, None, method, "paper", overrides) for method in ("supervised", "diffmatch")}
    plain, ours = costs["supervised"], costs["diffmatch"]
    assert plain["decoder"] == decoder
    assert plain["encoder"] == overrides.get("network.encoder", domain.recipe.paper["network.encoder"])
    dim, kernel = (16, 3) if decoder == "unet_bilinear" else (256, 1)
    assert plain["parameters"]["total"] == plain["parameters"]["extractor"] + (dim * kernel**2 + 1) * classes
    assert ours["parameters"]["extractor"] == plain["parameters"]["extractor"]
    assert ours["gmac"]["prediction"] > plain["gmac"]["prediction"]
    assert all(found["step_memory_gib"] > 0.1 for found in costs.values())

    settings = settings_of(domain, registry.method("supervised"), "paper", overrides | {"network.weights": "none"})
    extractor = build_extractor(domain.card, settings)
    assert sum(p.numel() for p in extractor.parameters() if p.requires_grad) == plain["parameters"]["extractor"]
    z = extractor(torch.rand(2, domain.card.dates, domain.card.channels, 64, 64))
    assert z.shape == (2, dim, 64 // extractor.stride, 64 // extractor.stride)
    assert extractor.stride == (1 if decoder == "unet_bilinear" else settings.network.stride)
    z.square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in extractor.parameters() if p.requires_grad)


SMALL = {
    "network.decoder": "unet",
    "network.encoder": "plain4",
    "network.dim": 16,
    "network.heads": 2,
    "network.layers": 1,
    "data.crop": 256,
}


def test_activations_grow_with_the_batch_and_the_rest_does_not():
    one, two, four = (
        cost_of(None, 3, "diffmatch", "paper", SMALL | {"train.batch": n})["step_memory_gib"] for n in (1, 2, 4)
    )
    assert one > 0
    assert four - two == pytest.approx(2 * (two - one), rel=0.1)


def test_more_sampler_steps_cost_predictions_only():
    three, six = (cost_of(None, 3, "diffmatch", "paper", SMALL | {"diffusion.steps": n}) for n in (3, 6))
    assert three["parameters"] == six["parameters"]
    assert three["gmac"]["denoiser_step"] == six["gmac"]["denoiser_step"]
    assert six["gmac"]["prediction"] > three["gmac"]["prediction"]


class Foreign(Supervised):
    """A network that is none of ours."""

    def __init__(self, card, settings, statistics):
        super().__init__(card, settings, statistics)
        self.network = torch.nn.Conv2d(card.channels, len(card.classes), 1)

    def probabilities(self, images, keys):
        return self.network(images[:, 0]).softmax(1)

    def losses(self, batch, progress):
        return Losses({"sup": F.cross_entropy(self.network(batch.labelled.images[:, 0]), batch.labelled.masks.long())})


class NoMeta(Foreign):
    """Fails wherever tensors have no content."""

    def __init__(self, card, settings, statistics):
        super().__init__(card, settings, statistics)
        float(self.network.weight.detach().sum())


@pytest.mark.parametrize(("kind", "measures"), [(Foreign, {"parameters", "gmac"}), (NoMeta, set())])
def test_what_cannot_be_measured_of_a_foreign_method_is_absent(kind, measures, monkeypatch, capsys):
    monkeypatch.setitem(registry.methods._loaded, "foreign", kind)
    assert set(method_costs(kind)) == measures
    costs = cost_of(None, 3, "foreign", "paper", SMALL)
    known = {"parameters", "gmac", "step_memory_gib"} & costs.keys()
    assert known == ({"parameters", "gmac", "step_memory_gib"} if measures else set())
    assert "extractor" not in costs.get("parameters", {})

    plugin = plugins.Plugin("foreign", "another", kind, None)
    shipped = registry.methods.all()
    monkeypatch.setattr(registry.methods, "all", lambda: {"foreign": plugin, "supervised": shipped["supervised"]})
    assert invoke(["methods"]) == 0
    shown = capsys.readouterr().out
    lines = {line.split()[0]: line.split() for line in shown.splitlines() if line.split()}
    assert lines["foreign"][-1] == ("0.0" if measures else "–") and "[another]" in shown
    assert lines["supervised"][-1] == "1.0"


def test_a_run_does_not_need_the_meta_device(planned, monkeypatch):
    asked = planned("supervised")
    monkeypatch.setitem(registry.methods._loaded, "supervised", NoMeta)
    look_at_network(asked)
    assert isinstance(asked.build(), NoMeta)


@pytest.mark.parametrize(("dataset", "classes"), [(None, None), ("acdc", 4)])
def test_neither_or_both_of_dataset_and_classes_is_an_error(dataset, classes):
    with pytest.raises(InputError, match="--classes"):
        cost_of(dataset, classes, "diffmatch", "paper", {})
