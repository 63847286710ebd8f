"""AugSeg: an EMA teacher, strong views of random intensity, and labelled content pasted where the teacher is unsure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from diffmatch.diffusion.objective import masked_mean
from diffmatch.domain import VOID, Card
from diffmatch.learning.batch import Batch, Losses, Progress
from diffmatch.learning.ema import follow, teacher_of, warmed
from diffmatch.learning.losses import entropy, pseudo_loss, supervised_loss
from diffmatch.learning.method import Statistics, Views
from diffmatch.learning.pseudo_labels import PseudoLabels, ThresholdOptions, accepted_by, cutmix, mixed_targets
from diffmatch.methods.fixmatch import FixMatch
from diffmatch.settings import Settings


class AugSegOptions(ThresholdOptions):
    """Threshold 0.95, momentum 0.999 and weight 1 as in the paper's code."""

    ema: float = Field(default=0.999, ge=0, lt=1)
    weight: float = Field(default=1.0, ge=0, description="lambda_u")


class AugSeg(FixMatch):
    """L = L_sup + lambda_u L_u (Zhao et al. 2023, Eq. 1-4); only the augmentations of the strong view are new.

    Random intensity (section 3.2): one to three photometric operations out of eleven, each with a strength from its
    whole range. Adaptive CutMix (section 3.3): with probability 1 - rho an image receives a box of a labelled image,
    pixels and truth, and then all images mix among themselves; rho = mean of max p (1 - H(p) / ln C), the teacher's
    confidence in the image. Settings of the paper: EMA 0.999, boxes always (`data.cutmix` overrules, 0 turns both
    pastings off), SGD 1e-3, 80 epochs on PASCAL.

    Differs from the paper: boxes have the shared size and place (2 to 40 % of the crop); a labelled box stays in its
    own image too, where the authors' code shows it in the mixed copy only; gray images leave out saturation and hue. A
    medical recipe's Dice takes the place of cross-entropy. The student predicts, as in the authors' code.
    """

    Options = AugSegOptions
    views = Views(cutmix=1.0, photometry="random_intensity")
    title = "AugSeg"
    citation = "Zhao et al., CVPR 2023"

    def __init__(self, card: Card, settings: Settings, statistics: Statistics) -> None:
        super().__init__(card, settings, statistics)
        self.teacher = teacher_of(self.network)
        self.momentum = 0.0

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        assert (
            batch.weak is not None
            and batch.inside is not None
            and batch.boxes is not None
            and batch.pool_keys is not None
        )
        options, kind, labelled = self.settings.method, self.settings.train.loss, len(batch.images)
        self.momentum = warmed(options.ema, progress.step)
        pseudo = self.pseudo_labels(batch.weak, batch.pool_keys, batch.inside)
        unsure = torch.rand(len(batch.weak), device=batch.weak.device) >= self.confidence(
            pseudo.probabilities, batch.inside
        )
        paste = (
            batch.boxes.roll(1, 0) & unsure[:, None, None]
        )  # the neighbour's box: pasting and mixing are drawn apart
        told = PseudoLabels(
            torch.where(paste, batch.masks, pseudo.labels),
            torch.where(paste, batch.masks != VOID, pseudo.accepted),
            pseudo.probabilities,
        )
        target, accepted = mixed_targets(told, batch.inside | paste, batch.boxes)
        pasted = torch.where(paste[:, None, None], batch.images, batch.strong[0])
        scores = self.scores(torch.cat([batch.images, cutmix(pasted, batch.boxes)]))
        terms = {
            "sup": supervised_loss(kind, scores[:labelled], batch.masks),
            "unsup": options.weight * pseudo_loss(kind, scores[labelled:], target, accepted),
        }
        return Losses.of(terms, pseudo, batch.inside)

    def confidence(self, probabilities: Tensor, inside: Tensor) -> Tensor:
        """rho of each image, (N,) in [0, 1]; 0 where nothing is inside."""
        certain = probabilities.amax(1) * (1 - entropy(probabilities) / math.log(probabilities.shape[1]))
        return torch.stack([masked_mean(image, where, where) for image, where in zip(certain, inside, strict=True)])

    def after_step(self) -> None:
        follow(self.teacher, self.network, self.momentum)

    @torch.no_grad()
    def pseudo_labels(self, images: Tensor, keys: Sequence[str], inside: Tensor | None = None) -> PseudoLabels:
        return accepted_by(self.teacher(images).softmax(1), self.settings.method, inside)
