"""DARS: self-training in rounds, with pseudo-labels that are distributed as the labels are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from diffmatch.domain import VOID, Card
from diffmatch.learning.batch import Batch, Losses, Progress
from diffmatch.learning.ema import teacher_of
from diffmatch.learning.histogram import ConfidenceHistogram
from diffmatch.learning.labelling import Labelling
from diffmatch.learning.losses import supervised_loss
from diffmatch.learning.method import Method, Statistics, Views
from diffmatch.learning.pseudo_labels import PseudoLabels
from diffmatch.learning.rounds import lots, place
from diffmatch.settings import Section, Settings

LEVELS = 2048
"""Confidences are rounded to multiples of 1 / LEVELS, as float16 rounds them between 1/2 and 1."""


class DARSOptions(Section):
    """The authors use 0.4 and 0.5 on PASCAL, 0.4 and 0.65 on Cityscapes at 713 pixels, 0.2 and 0.5 at 361 pixels."""

    ratios: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        default=(0.4, 0.5), min_length=1, description="rho, the share of pixels that is labelled in rounds 1, 2, ..."
    )


class DARS(Method[DARSOptions]):
    """L = CE(labelled) + CE(pseudo-labelled), each the mean over its pixels that are not void (He et al. 2021).

    The training has rounds of equal length; round 0 knows no pseudo-labels. A later one labels the weak views with the
    network as it stood at the round's start. With N pixels seen in the round and pi_c the labelled pixels' share of
    class c, the class has the budget B_c = floor(rho pi_c N).
    t_c = the B_c-th largest confidence among the pixels predicted c
    s_c = min(1, B_c / #{predicted c, confidence >= t_c})
    A pixel predicted c is taught if its confidence reaches t_c, and then with probability s_c: many confidences are
    equal, 1 above all, and without the draw a class could have many more pixels than its budget.
    Settings of the authors: PSPNet-50, three rounds, rho 0.4 and 0.5 (PASCAL), SGD 0.01, ten times that in the head.

    Differs from the authors' code: there is no pass over the whole pool before a round; confidences are counted as the
    round goes on. They are rounded to 1/2048, where the code has float16. A pixel is dropped with probability 1 - s_c,
    whatever happens to others; the code drops floor(n (1 - s_c)) of an image's n pixels. A class that was never
    predicted has no threshold; there the code fails. Labels come from the weak view, not from the whole image in a
    sliding window. The learning rate has one schedule, where the code starts again at every round, and the views stay
    as they are, where the code scales more widely in the last round. BatchNorm sees the pool in round 0 too. There is
    no auxiliary head. A medical recipe has Dice besides cross-entropy.
    """

    views = Views(strong=0)
    labelling = Labelling("teacher", "eval")
    family = "self-training"
    use = "long training, representative labels"
    title = "DARS"
    citation = "He et al., ICCV 2021"
    pixels: Tensor
    ratio: Tensor

    def __init__(self, card: Card, settings: Settings[DARSOptions], statistics: Statistics) -> None:
        super().__init__(card, settings, statistics)
        self.teacher = teacher_of(self.network)
        self.histogram = ConfidenceHistogram(len(card.classes), LEVELS + 1)
        self.register_buffer("pixels", torch.tensor(statistics.pixels))
        self.register_buffer("ratio", torch.tensor(0.0))  # rho of the round

    def advance(self, progress: Progress) -> None:
        """Make the network as it stands the teacher and count anew, at the first step of each round but round 0."""
        ratios = self.settings.method.ratios
        now, first = place(progress, 1 + len(ratios))
        if now > 0 and progress.step == first:
            self.teacher.load_state_dict(self.network.state_dict())
            self.histogram.reset()
            self.ratio.fill_(ratios[now - 1])

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        self.advance(progress)
        labelled, pool, kind = batch.labelled, batch.unlabelled, self.settings.train.loss
        probabilities = self.taught(pool.weak)
        self.histogram.add(probabilities.argmax(1), levels(probabilities), pool.inside)
        pseudo = self.select(probabilities, pool.keys)
        target = torch.where(pseudo.accepted & pool.inside, pseudo.labels, VOID)
        terms = {
            "sup": supervised_loss(kind, self.network(labelled.images), labelled.masks),
            "unsup": supervised_loss(kind, self.network(pool.weak), target),
        }
        return Losses.of(terms, pseudo, pool.inside)

    @torch.no_grad()
    def taught(self, images: Tensor) -> Tensor:
        """The teacher's probabilities (N, C, H, W), of the mean of its scores for an image and for its mirror image."""
        scores: Tensor = (self.teacher(images) + self.teacher(images.flip(-1)).flip(-1)) / 2
        return scores.softmax(1)

    def select(self, probabilities: Tensor, keys: Sequence[str]) -> PseudoLabels:
        """Accepted is what reaches its class's threshold and whose lot is below its class's rate."""
        labels, pixels = probabilities.argmax(1), self.pixels.double()
        budget = self.ratio * pixels / pixels.sum().clamp(min=1) * self.histogram.counts.sum()
        least, rates = self.histogram.limits(budget.long())
        accepted = (levels(probabilities) >= least[labels]) & (lots("dars", keys, labels) < rates[labels])
        return PseudoLabels(labels.to(torch.uint8), accepted, probabilities)

    @torch.no_grad()
    def pseudo_labels(self, images: Tensor, keys: Sequence[str], inside: Tensor | None = None) -> PseudoLabels:
        return self.select(self.taught(images), keys)


def levels(probabilities: Tensor) -> Tensor:
    """The confidence of probabilities (N, C, H, W) in whole multiples of 1 / LEVELS, (N, H, W) int64."""
    return (probabilities.amax(1) * LEVELS).round().long()
