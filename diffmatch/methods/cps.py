"""Cross pseudo supervision: two networks that began differently teach each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from diffmatch.domain import Card
from diffmatch.learning.batch import Batch, Losses, Progress
from diffmatch.learning.losses import pseudo_loss, supervised_loss
from diffmatch.learning.method import Method, Statistics, Views, evaluating
from diffmatch.learning.pseudo_labels import PseudoLabels, confident, cutmix, mixed_targets
from diffmatch.networks.segmenter import ClassifierNetwork
from diffmatch.settings import Section, Settings


class CPSOptions(Section):
    """lambda: 1.5 on PASCAL, 6 on Cityscapes."""

    weight: float = Field(default=1.5, ge=0, description="lambda, of the cross supervision")


class CPS(Method):
    """L = L_sup(f1) + L_sup(f2) + lambda [l(f1(x), y2) + l(f2(x), y1)], y_k = argmax f_k(x) without gradient (Chen et
    al. 2021, section 3).

    With `data.cutmix` x is the mixed image and y_k the mixed labels of its parts. Settings of the paper: lambda as in
    the options, DeepLabv3+, SGD 0.9, poly 0.9, lr 2.5e-3 (PASCAL), CutMix in its best figures. The first network
    predicts, as in the authors' code.

    Differs from the paper: cross supervision is on unlabelled images only (the paper's have the labelled ones too, its
    code with CutMix has not); medical recipes use Dice. No strong view: what the networks differ in is the
    perturbation. What is audited is what the first network is taught: the labels of the second, in eval mode there.
    """

    Options: ClassVar[type[Section]] = CPSOptions
    views = Views(strong=0)
    version = 2  # labels come from the pass that learns
    title = "CPS"
    citation = "Chen et al., CVPR 2021"

    def __init__(self, card: Card, settings: Settings, statistics: Statistics) -> None:
        super().__init__(card, settings, statistics)
        self.network = ClassifierNetwork(card, settings)
        self.second = self.build_second()

    def build_second(self) -> nn.Module:
        """The other network; it draws its initial weights after the first and so has different ones."""
        return ClassifierNetwork(self.card, self.settings)

    def weight(self, progress: Progress) -> float:
        weight: float = self.settings.method.weight
        return weight

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        assert batch.weak is not None and batch.inside is not None and batch.boxes is not None
        networks, kind, labelled = (self.network, self.second), self.settings.train.loss, len(batch.images)
        mixed = self.views.mixing(self.settings.data) > 0
        with torch.no_grad():  # a mixed image's labels are those of its parts: they need a pass of their own
            unmixed = [network(batch.weak) for network in networks] if mixed else []
        images = torch.cat([batch.images, cutmix(batch.weak, batch.boxes)])
        scores = [network(images) for network in networks]
        by_first, by_second = (confident(s.detach().softmax(1), 0.0) for s in unmixed or [s[labelled:] for s in scores])
        supervised = [supervised_loss(kind, s[:labelled], batch.masks) for s in scores]
        crossed = [
            pseudo_loss(kind, s[labelled:], *mixed_targets(pseudo, batch.inside, batch.boxes))
            for s, pseudo in zip(scores, (by_second, by_first), strict=True)
        ]
        terms = {"sup": torch.stack(supervised).sum(), "unsup": self.weight(progress) * torch.stack(crossed).sum()}
        return Losses.of(terms, by_second, batch.inside)

    @torch.no_grad()
    def pseudo_labels(self, images: Tensor, keys: Sequence[str], inside: Tensor | None = None) -> PseudoLabels:
        with evaluating(self.second):
            return confident(self.second(images).softmax(1), 0.0)

    def probabilities(self, images: Tensor, keys: Sequence[str], offset: tuple[int, int] = (0, 0)) -> Tensor:
        scores: Tensor = self.network(images)
        return scores.softmax(1)
