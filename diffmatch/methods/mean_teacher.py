"""Mean Teacher: the student agrees with the running average of itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from diffmatch.domain import Card
from diffmatch.learning.batch import Batch, Losses, Progress
from diffmatch.learning.ema import follow, teacher_of, warmed
from diffmatch.learning.labelling import Labelling
from diffmatch.learning.losses import consistency_loss, supervised_loss
from diffmatch.learning.method import Method, Statistics
from diffmatch.learning.pseudo_labels import PseudoLabels, confident, cutmix
from diffmatch.learning.weak_to_strong import in_one_pass, mixed
from diffmatch.settings import Section, Settings


class MeanTeacherOptions(Section):
    """On CIFAR-10 with 4,000 labels the paper's weight is 8 on the mean over ten classes: 0.8 on the sum taken here."""

    weight: float = Field(default=1.0, ge=0, description="of the consistency, at its highest")
    ramp: float = Field(default=0.25, gt=0, le=1, description="share of the training over which the weight rises")
    ema: float = Field(default=0.99, ge=0, lt=1, description="alpha")


M = TypeVar("M", bound=MeanTeacherOptions)


class MeanTeacher(Method[M]):
    """L = L_sup + w(t) mean ||f(x_s; theta) - f(x_w; theta')||^2 (Tarvainen & Valpola 2017, section 2).

    f are the class probabilities. theta' <- a theta' + (1 - a) theta after step t = 0, 1, ... (Eq. 1). Its momentum is
    a = min(1 - 1/(t + 1), alpha): the plain mean of all students until alpha takes over. Buffers follow too, so that
    the teacher's statistics fit its weights. w rises by exp(-5 (1 - r)^2). The teacher predicts. Settings of the paper:
    alpha 0.99 and later 0.999, weight up to 100 times the labelled share, rising over 40,000 of 150,000 steps
    (CIFAR-10), Adam.

    Differs from the authors' code: the student's noise is the strong view with feature channels dropped, theirs is a
    second weak view and dropout; the teacher has none. It is in eval mode with averaged statistics, where theirs labels
    in train mode with its own. Consistency is asked for on unlabelled images only, which alone have two views. alpha is
    0.99 throughout.
    """

    labelling = Labelling("teacher", "eval")
    features = "channel dropout"
    family = "consistency"
    use = "few labels, steady, cheap"
    title = "Mean Teacher"
    citation = "Tarvainen & Valpola, NeurIPS 2017"

    def __init__(self, card: Card, settings: Settings[M], statistics: Statistics) -> None:
        super().__init__(card, settings, statistics)
        self.teacher = teacher_of(self.network)

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        labelled, pool, options = batch.labelled, batch.unlabelled, self.settings.method
        pseudo = self.pseudo_labels(pool.weak, pool.keys)
        scores, strong = in_one_pass(self.network, (labelled.images, False), (mixed(pool), True))
        accepted = cutmix(pseudo.accepted & pool.inside, pool.boxes)
        consistency = consistency_loss(strong, cutmix(pseudo.probabilities, pool.boxes), accepted, accepted)
        terms = {
            "sup": supervised_loss(self.settings.train.loss, scores, labelled.masks),
            "unsup": options.weight * progress.ramp(options.ramp) * consistency,
        }
        return Losses.of(terms, pseudo, pool.inside)

    def after_step(self, progress: Progress) -> None:
        averaged = self.labelling.buffers == "averaged"
        follow(self.teacher, self.network, warmed(self.settings.method.ema, progress.step), buffers=averaged)

    @torch.no_grad()
    def pseudo_labels(self, images: Tensor, keys: Sequence[str], inside: Tensor | None = None) -> PseudoLabels:
        return confident(self.teacher(images).softmax(1), 0.0)

    @property
    def predictor(self) -> nn.Module:
        return self.teacher
