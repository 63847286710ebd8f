"""Cross pseudo supervision: two networks that began differently teach each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from diffmatch.domain import Card
from diffmatch.learning.batch import Batch, Losses, Progress
from diffmatch.learning.labelling import Labelling, in_mode
from diffmatch.learning.losses import pseudo_loss, supervised_loss
from diffmatch.learning.method import Method, Statistics, Views
from diffmatch.learning.pseudo_labels import PseudoLabels, confident, cutmix, mixed_targets
from diffmatch.networks.segmenter import ClassifierNetwork
from diffmatch.settings import Section, Settings


class CPSOptions(Section):
    """lambda: 1.5 on PASCAL, 6 on Cityscapes."""

    weight: float = Field(default=1.5, ge=0, description="lambda, of the cross supervision")


C = TypeVar("C", bound=CPSOptions)


class CPS(Method[C]):
    """L = L_sup(f1) + L_sup(f2) + lambda [l(f1(x), y2) + l(f2(x), y1)] (Chen et al. 2021, section 3).

    y_k = argmax f_k(x), without gradient, from the pass that learns. With `data.cutmix`, x is the mixed image and y_k
    the mixed labels of its parts. The first network predicts, as in the authors' code. Settings of the paper: lambda as
    in the options, DeepLabv3+, SGD 0.9, poly 0.9, lr 2.5e-3 (PASCAL), CutMix in its best figures.

    Differs from the paper: cross supervision is on unlabelled images only; the paper's has the labelled ones too, its
    code with CutMix has not. Labelled and unlabelled images share a pass and BatchNorm's statistics; in the authors'
    code they pass one after the other. Medical recipes use Dice. There is no strong view: what the networks differ in
    is the perturbation. Audits count what the first network is taught: the labels of the second, in eval mode there.
    """

    views = Views(strong=0)
    version = 2  # labels come from the pass that learns
    labelling = Labelling("other student", "train")
    family = "co-training"
    use = "two networks, no thresholds"
    title = "CPS"
    citation = "Chen et al., CVPR 2021"

    def __init__(self, card: Card, settings: Settings[C], statistics: Statistics) -> None:
        super().__init__(card, settings, statistics)
        self.second = self.build_second()

    def build_second(self) -> nn.Module:
        """The other network. It draws its initial weights after the first and so has different ones."""
        return ClassifierNetwork(self.card, self.settings)

    def weight(self, progress: Progress) -> float:
        """lambda at this step."""
        return self.settings.method.weight

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        labelled, pool, kind = batch.labelled, batch.unlabelled, self.settings.train.loss
        networks, mixed = (self.network, self.second), self.views.mixing(self.settings.data) > 0
        with torch.no_grad():  # a mixed image's labels are those of its parts: they need a pass of their own
            unmixed = [network(pool.weak) for network in networks] if mixed else []
        images = torch.cat([labelled.images, cutmix(pool.weak, pool.boxes)])
        scores = [torch.tensor_split(network(images), [len(labelled.images)]) for network in networks]
        by_first, by_second = (confident(s.detach().softmax(1), 0.0) for s in unmixed or [weak for _, weak in scores])
        supervised = [supervised_loss(kind, own, labelled.masks) for own, _ in scores]
        crossed = [
            pseudo_loss(kind, weak, *mixed_targets(pseudo, pool.inside, pool.boxes))
            for (_, weak), pseudo in zip(scores, (by_second, by_first), strict=True)
        ]
        terms = {"sup": torch.stack(supervised).sum(), "unsup": self.weight(progress) * torch.stack(crossed).sum()}
        return Losses.of(terms, by_second, pool.inside)

    @torch.no_grad()
    def pseudo_labels(self, images: Tensor, keys: Sequence[str], inside: Tensor | None = None) -> PseudoLabels:
        with in_mode(self.second, "eval"):
            return confident(self.second(images).softmax(1), 0.0)
