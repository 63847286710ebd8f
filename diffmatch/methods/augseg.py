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
from diffmatch.learning.labelling import Labelling
from diffmatch.learning.losses import entropy, pseudo_loss, supervised_loss
from diffmatch.learning.method import Statistics, Views
from diffmatch.learning.pseudo_labels import PseudoLabels, ThresholdOptions, accepted_by, cutmix, mixed_targets
from diffmatch.learning.weak_to_strong import WeakToStrong, in_one_pass
from diffmatch.settings import Settings


class AugSegOptions(ThresholdOptions):
    """Threshold 0.95, momentum 0.999 and weight 1 as in the paper's code."""

    ema: float = Field(default=0.999, ge=0, lt=1)
    weight: float = Field(default=1.0, ge=0, description="lambda_u")


class AugSeg(WeakToStrong[AugSegOptions]):
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

    views = Views(cutmix=1.0, photometry="random_intensity")
    labelling = Labelling("teacher", "eval")
    family = "consistency"
    use = "simple, strong augmentation"
    title = "AugSeg"
    citation = "Zhao et al., CVPR 2023"

    def __init__(self, card: Card, settings: Settings[AugSegOptions], statistics: Statistics) -> None:
        super().__init__(card, settings, statistics)
        self.teacher = teacher_of(self.network)

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        labelled, pool = batch.labelled, batch.unlabelled
        options, kind = self.settings.method, self.settings.train.loss
        pseudo = self.pseudo_labels(pool.weak, pool.keys, pool.inside)
        unsure = torch.rand(len(pool.weak), device=pool.weak.device) >= self.confidence(
            pseudo.probabilities, pool.inside
        )
        paste = pool.boxes.roll(1, 0) & unsure[:, None, None]  # the neighbour's box: pasting and mixing are drawn apart
        pasted = PseudoLabels(
            torch.where(paste, labelled.masks, pseudo.labels),
            torch.where(paste, labelled.masks != VOID, pseudo.accepted),
            pseudo.probabilities,
        )
        target, accepted = mixed_targets(pasted, pool.inside | paste, pool.boxes)
        images = cutmix(torch.where(paste[:, None, None], labelled.images, pool.strong[0]), pool.boxes)
        scores, strong = in_one_pass(self.scores, (labelled.images, False), (images, False))
        terms = {
            "sup": supervised_loss(kind, scores, labelled.masks),
            "unsup": options.weight * pseudo_loss(kind, strong, target, accepted),
        }
        return Losses.of(terms, pseudo, pool.inside)

    def confidence(self, probabilities: Tensor, inside: Tensor) -> Tensor:
        """rho of each image, (N,) in [0, 1]; 0 where nothing is inside."""
        certain = probabilities.amax(1) * (1 - entropy(probabilities) / math.log(probabilities.shape[1]))
        return torch.stack([masked_mean(image, where, where) for image, where in zip(certain, inside, strict=True)])

    def after_step(self, progress: Progress) -> None:
        follow(self.teacher, self.network, warmed(self.settings.method.ema, progress.step))

    @torch.no_grad()
    def pseudo_labels(self, images: Tensor, keys: Sequence[str], inside: Tensor | None = None) -> PseudoLabels:
        return accepted_by(self.teacher(images).softmax(1), self.settings.method, inside)
