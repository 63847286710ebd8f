"""What a method gets from its base: options, a network, rates by what a module is and not by what it is called."""

from __future__ import annotations

from typing import Any, TypeVar

import pytest
import torch
from pydantic import Field
from torch import nn

from diffmatch.learning.batch import Batch, Losses, Progress
from diffmatch.learning.losses import supervised_loss
from diffmatch.learning.method import Method
from diffmatch.learning.pseudo_labels import ThresholdOptions
from diffmatch.methods.mean_teacher import MeanTeacher, MeanTeacherOptions
from diffmatch.methods.ua_mt import UAMT, UAMTOptions
from diffmatch.networks.encoders import as_encoder, build_encoder
from diffmatch.networks.segmenter import ClassifierNetwork
from diffmatch.settings import Section, resolve

T = TypeVar("T", bound=ThresholdOptions)


class OwnOptions(Section):
    weight: float = Field(default=0.5, ge=0)


class Plain(Method[OwnOptions]):
    """A stranger's: everything but the losses comes from the base."""

    title = "Plain"
    citation = "nobody"

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        scores = self.network(batch.labelled.images)
        return Losses({"sup": self.settings.method.weight * supervised_loss("ce", scores, batch.labelled.masks)})


class Named(Plain):
    """Encoders of its own under names of its own, one of them not made by `build_encoder`."""

    def build_network(self) -> nn.Module:
        network = super().build_network()
        self.encoder = build_encoder("plain2", 1, "none", 16)[0]
        self.backbone = as_encoder(nn.Conv2d(1, 2, 3))
        self.tricky = nn.ModuleDict({"encoder": nn.Conv2d(1, 2, 3)})  # called one, but none
        return network


def build(kind: type[Method[Any]], planned: Any) -> Method[Any]:
    p = planned("supervised")
    settings = p.settings.model_copy(update={"method": kind.Options()})
    settings = settings.model_copy(update={"train": p.settings.train.model_copy(update={"head_lr_scale": 10.0})})
    return kind.build(p.card, settings, p.statistics)


def test_options_come_from_the_brackets() -> None:
    class Generic(Method[T]):
        pass

    class Special(Generic[ThresholdOptions]):
        pass

    assert Plain.Options is Named.Options is OwnOptions
    assert Generic.Options is Special.Options is ThresholdOptions
    assert MeanTeacher.Options is MeanTeacherOptions and UAMT.Options is UAMTOptions
    assert isinstance(resolve(Plain.Options, {"method.weight": 0.25}).method, OwnOptions)


def test_a_method_of_losses_alone_predicts(planned: Any) -> None:
    method = build(Plain, planned).eval()
    assert isinstance(method.network, ClassifierNetwork)
    images = torch.randn(2, 1, 1, 20, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        probabilities = method.probabilities(images, ["a", "b"])
        assert torch.equal(probabilities, method.network(images).softmax(1))
    assert probabilities.shape == (2, 4, 20, 24)


def test_encoders_learn_at_the_base_rate_whatever_they_are_called(planned: Any) -> None:
    method = build(Named, planned)
    scale = {id(q): group["lr_scale"] for group in method.parameter_groups() for q in group["params"]}
    slow = [method.encoder, method.backbone, method.network.extractor.encoder]
    assert {id(q) for part in slow for q in part.parameters()} == {key for key, value in scale.items() if value == 1.0}
    assert all(scale[id(q)] == 10.0 for q in (*method.tricky.parameters(), *method.network.classifier.parameters()))


def test_a_batch_without_a_pool_is_told_from_one_with(planned: Any, draw: Any) -> None:
    batch = draw(planned("supervised"))
    with pytest.raises(RuntimeError, match=r"Views\.unlabelled"):
        batch.unlabelled  # noqa: B018
