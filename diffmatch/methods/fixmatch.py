"""FixMatch on pixels: a confident weak view teaches the strong view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from diffmatch.domain import Card
from diffmatch.learning.batch import Batch, Losses, Progress
from diffmatch.learning.losses import pseudo_loss, supervised_loss
from diffmatch.learning.method import Method, Statistics, evaluating
from diffmatch.learning.pseudo_labels import (
    SOFT_RAMP,
    PseudoLabels,
    TargetOptions,
    accepted_by,
    cutmix,
    mixed_targets,
    soft_loss,
)
from diffmatch.networks.segmenter import ClassifierNetwork
from diffmatch.settings import Section, Settings


class FixMatchOptions(TargetOptions):
    """Sohn et al. 2020 use a threshold of 0.95; so does UniMatch on PASCAL, COCO, WHU-CD and ACDC (0 on Cityscapes)."""


class FixMatch(Method):
    """L = L_sup + 1/n sum 1[max p_w >= threshold] H(argmax p_w, p_s) (Sohn et al. 2020, Eq. 3-4). Below the threshold:
    zero loss.

    p_w is the weak view's prediction in eval mode without gradient, p_s the strong view's. Differs from the paper: the
    mean is over pixels, the strong view loses half of its feature channels (`network.feature_dropout`, DiffMatch's
    fourth strong augmentation), and a medical recipe's Dice takes the place of cross-entropy. There is no CutMix unless
    `data.cutmix` asks for it; the FixMatch whose figures UniMatch's authors print has it, with probability 0.5.
    """

    Options: ClassVar[type[Section]] = FixMatchOptions
    title = "FixMatch"
    citation = "Sohn et al., NeurIPS 2020"

    def __init__(self, card: Card, settings: Settings, statistics: Statistics) -> None:
        super().__init__(card, settings, statistics)
        self.network = self.build_network()

    def build_network(self) -> nn.Module:
        return ClassifierNetwork(self.card, self.settings)

    def scores(self, images: Tensor, perturbed: Tensor | None = None) -> Tensor:
        """Class scores (N, C, H, W); the discriminative twin answers with its own network."""
        scores: Tensor = self.network(images, perturbed)
        return scores

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        assert (
            batch.weak is not None
            and batch.inside is not None
            and batch.boxes is not None
            and batch.pool_keys is not None
        )
        pseudo = self.pseudo_labels(batch.weak, batch.pool_keys, batch.inside)
        labelled = len(batch.images)
        images = torch.cat([batch.images, cutmix(batch.strong[0], batch.boxes)])
        perturbed = torch.arange(len(images), device=images.device) >= labelled
        scores = self.scores(images, perturbed)
        kind, strong = self.settings.train.loss, scores[labelled:]
        if self.settings.method.targets == "soft":
            unsup = progress.ramp(SOFT_RAMP) * soft_loss(strong, pseudo, batch.inside, batch.boxes)
        else:
            unsup = pseudo_loss(kind, strong, *mixed_targets(pseudo, batch.inside, batch.boxes))
        terms = {"sup": supervised_loss(kind, scores[:labelled], batch.masks), "unsup": unsup}
        return Losses.of(terms, pseudo, batch.inside)

    @torch.no_grad()
    def pseudo_labels(self, images: Tensor, keys: Sequence[str], inside: Tensor | None = None) -> PseudoLabels:
        with evaluating(self.network):
            return accepted_by(self.probabilities(images, keys), self.settings.method, inside)

    def probabilities(self, images: Tensor, keys: Sequence[str], offset: tuple[int, int] = (0, 0)) -> Tensor:
        return self.scores(images).softmax(1)
