"""AugSeg: an EMA teacher, strong views of random intensity, and labelled content pasted where the teacher is unsure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from pydantic import Field
from torch import Tensor

from diffmatch.diffusion.objective import masked_mean
from diffmatch.domain import VOID, Card
from diffmatch.learning.batch import Batch, Labelled, Losses, Pool, Progress
from diffmatch.learning.ema import follow, teacher_of, warmed_after_an_epoch
from diffmatch.learning.labelling import Labelling
from diffmatch.learning.losses import entropy, pseudo_loss, supervised_loss
from diffmatch.learning.method import Statistics, Views
from diffmatch.learning.pseudo_labels import PseudoLabels, ThresholdOptions, cutmix, mixed_targets
from diffmatch.learning.weak_to_strong import WeakToStrong, in_one_pass
from diffmatch.settings import Settings


class AugSegOptions(ThresholdOptions):
    """Threshold 0.95, momentum 0.999 and weight 1 as in the paper's code."""

    ema: float = Field(default=0.999, ge=0, lt=1)
    weight: float = Field(default=1.0, ge=0, description="lambda_u")


A = TypeVar("A", bound=AugSegOptions)


class AugSeg(WeakToStrong[A]):
    """L = L_sup + lambda_u L_u (Zhao et al. 2023, Eq. 1-4); only the augmentations of the strong view are new.

    Random intensity (section 3.2): one to three photometric operations out of eleven, each with a strength from its
    whole range. Adaptive CutMix (section 3.3): with probability 1 - rho an image receives a box of a labelled image,
    pixels and truth, rho = mean of max p (1 - H(p) / ln C), the teacher's confidence in the image. Then each image, as
    it was, receives a box of another one with what was pasted there. The boxes' shares of the area are drawn from
    Beta(2, 8) and Beta(4, 4), once a batch, before the image's edge cuts them. The teacher labels in eval mode and
    predicts. It is the student through the first epoch, then the plain mean of students, then an average with momentum
    0.999, BatchNorm statistics included. Settings of the authors: threshold 0.95, lambda_u 1, boxes always
    (`data.cutmix` overrules, 0 turns both pastings off), SGD 1e-3, 80 epochs on PASCAL.

    Differs from the authors' code: an epoch is an 80th of the training. The other image is the next one of the batch,
    where theirs is a random one, which may be the image itself. Padding teaches nothing. Gray images leave out
    saturation and hue. A medical recipe's Dice takes the place of cross-entropy. There is no auxiliary head.
    """

    views = Views(cutmix=1.0, photometry="random_intensity")
    labelling = Labelling("teacher", "eval")
    family = "consistency"
    use = "simple, strong augmentation"
    version = 2  # the teacher predicts and is the student through the first epoch; boxes as theirs
    title = "AugSeg"
    citation = "Zhao et al., CVPR 2023"

    def __init__(self, card: Card, settings: Settings[A], statistics: Statistics) -> None:
        super().__init__(card, settings, statistics)
        self.teacher = teacher_of(self.network)

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        labelled, pool = batch.labelled, batch.unlabelled
        options, kind = self.settings.method, self.settings.train.loss
        pseudo = self.pseudo_labels(pool.weak, pool.keys, pool.inside)
        images, target, accepted = self.mixture(labelled, pool, pseudo)
        scores, strong = in_one_pass(self.scores, (labelled.images, False), (images, False))
        terms = {
            "sup": supervised_loss(kind, scores, labelled.masks),
            "unsup": options.weight * pseudo_loss(kind, strong, target, accepted),
        }
        return Losses.of(terms, pseudo, pool.inside)

    def mixture(self, labelled: Labelled, pool: Pool, pseudo: PseudoLabels) -> tuple[Tensor, Tensor, Tensor]:
        """The strong views after adaptive CutMix (U, dates, channels, H, W), their `mixed_targets`."""
        views = pool.strong[0]
        rho = self.confidence(pseudo.probabilities, pool.inside)
        mixes = pool.boxes.flatten(1).any(1)
        unsure = mixes & (torch.rand_like(rho) >= rho)
        paste = self.boxes(pool.inside, 2, 9) & unsure[:, None, None]
        boxes = self.boxes(pool.inside, 4, 7) & mixes[:, None, None]

        donor = torch.where(paste[:, None, None], labelled.images, views).roll(-1, 0)
        taught = PseudoLabels(
            torch.where(paste, labelled.masks, pseudo.labels).roll(-1, 0),
            torch.where(paste, labelled.masks != VOID, pseudo.accepted).roll(-1, 0),
            pseudo.probabilities,
        )
        target, accepted = mixed_targets(pseudo, pool.inside, boxes, (taught, (pool.inside | paste).roll(-1, 0)))
        return cutmix(views, boxes, donor), target, accepted

    def confidence(self, probabilities: Tensor, inside: Tensor) -> Tensor:
        """rho of each image, (N,) in [0, 1]; 0 where nothing is inside."""
        certain = probabilities.amax(1) * (1 - entropy(probabilities) / math.log(probabilities.shape[1]))
        return torch.stack([masked_mean(image, where, where) for image, where in zip(certain, inside, strict=True)])

    def boxes(self, like: Tensor, rank: int, draws: int) -> Tensor:
        """A box for each image, of the shape of `like` (N, H, W) bool, all of one size.

        Its share of the area is the rank-th smallest of so many uniform draws: Beta(rank, draws + 1 - rank). Its centre
        is anywhere but in the first eighth of a side, and the edge cuts it.
        """
        side = torch.rand(draws, device=like.device).sort().values[rank - 1].sqrt()
        spans = []
        for length in like.shape[1:]:
            half, first = (length * side).floor() // 2, length // 8
            centre = first + (torch.rand(len(like), 1, device=like.device) * (length - first)).floor()
            place = torch.arange(length, device=like.device)
            spans.append((place >= centre - half) & (place < centre + half))
        return spans[0][:, :, None] & spans[1][:, None]

    def after_step(self, progress: Progress) -> None:
        follow(self.teacher, self.network, warmed_after_an_epoch(self.settings.method.ema, progress))

    @torch.no_grad()
    def pseudo_labels(self, images: Tensor, keys: Sequence[str], inside: Tensor | None = None) -> PseudoLabels:
        return self.accept(self.probabilities(images, keys), inside)

    def probabilities(self, images: Tensor, keys: Sequence[str], offset: tuple[int, int] = (0, 0)) -> Tensor:
        scores: Tensor = self.teacher(images)
        return scores.softmax(1)
