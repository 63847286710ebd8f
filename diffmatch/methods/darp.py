"""DARP: FixMatch whose pseudo-labels are first moved so that they are distributed as the labels are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from diffmatch.diffusion.prior import smoothed
from diffmatch.domain import Card
from diffmatch.learning.batch import Batch, Losses, Progress
from diffmatch.learning.ema import follow, teacher_of, warmed
from diffmatch.learning.losses import pseudo_loss, supervised_loss
from diffmatch.learning.memory import MemoryBank
from diffmatch.learning.method import Statistics
from diffmatch.learning.pseudo_labels import PseudoLabels, ThresholdOptions, mixed_targets
from diffmatch.learning.refinery import Refinery
from diffmatch.learning.weak_to_strong import WeakToStrong, in_one_pass, mixed
from diffmatch.settings import Settings


class DARPOptions(ThresholdOptions):
    """The authors' values, the memory excepted: they keep the last prediction of every unlabelled image."""

    alpha: float = Field(default=2.0, gt=0, description="of a class, alpha times its total of pixels keep their entry")
    sweeps: int = Field(default=10, ge=1, description="T, of the solver")
    every: int = Field(default=10, ge=1, description="steps between two solutions")
    warm_up: float = Field(default=0.4, ge=0, le=1, description="share of the training that is FixMatch")
    ema: float = Field(default=0.999, ge=0, lt=1, description="of the network that predicts")
    memory: int = Field(default=16384, ge=1, description="pixels whose predictions are kept")
    draws: int = Field(default=16, ge=1, description="pixels per image and step that the memory takes")


class DARP(WeakToStrong[DARPOptions]):
    """L = L_sup + 1/n sum 1[max q >= threshold] H(argmax q, p_s): FixMatch with refined pseudo-labels q.

    Each unlabelled pixel is a sample of Kim et al. 2020, and c are the labelled pixels' shares. `Refinery` has the
    equations; it is solved on a memory of the weak views' predictions. The weak views are labelled in a pass of their
    own in train mode; the labelled images and the strong views follow together. Settings of the authors: the options'
    defaults, WRN-28-2 on CIFAR-10, Adam 0.002, 64 images of each kind, 500 epochs.

    Differs from the authors' code: the memory holds pixels drawn from the last steps, not the last prediction of each
    sample of the pool. What a solution found is applied to the step's own predictions, where the code takes the labels
    that it stored. A class's share is at least 1 in 10,000, and the pixel most certain of a class is never struck out
    of it. v is found by Newton's method on logarithms, where the code has the secant method, and is bounded. There is
    one strong view, where the code has two. c is not estimated from held-out labels. The average network, which
    predicts, is the plain mean at first. A medical recipe's Dice takes the place of cross-entropy. Of several processes
    the first one's memory is kept, and all solve on it.
    """

    family = "class-imbalance"
    use = "pool distributed like the labels"
    title = "DARP"
    citation = "Kim et al., NeurIPS 2020"
    prior: Tensor

    def __init__(self, card: Card, settings: Settings[DARPOptions], statistics: Statistics) -> None:
        super().__init__(card, settings, statistics)
        classes = len(card.classes)
        self.teacher = teacher_of(self.network)
        self.refine = Refinery(classes)
        self.memory = MemoryBank(1, settings.method.memory, classes, "method.memory")
        self.register_buffer("prior", smoothed(torch.tensor(statistics.pixels)))

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        labelled, pool, kind = batch.labelled, batch.unlabelled, self.settings.train.loss
        self.solve(progress)
        with torch.no_grad():
            weak = self.scores(pool.weak).softmax(1)
        self.memory.push(weak, pool.inside[:, None], self.settings.method.draws * len(weak))
        pseudo = self.accept(weak, pool.inside)
        own, strong = in_one_pass(self.scores, (labelled.images, False), (mixed(pool), False))
        unsup = pseudo_loss(kind, strong, *mixed_targets(pseudo, pool.inside, pool.boxes))
        return Losses.of({"sup": supervised_loss(kind, own, labelled.masks), "unsup": unsup}, pseudo, pool.inside)

    def solve(self, progress: Progress) -> None:
        """Solve on the memory at the first step after the warm-up, and every so many steps from there.

        The step's own predictions enter afterwards, so that all processes solve the same.
        """
        options, since = self.settings.method, progress.step - math.ceil(self.settings.method.warm_up * progress.steps)
        if since >= 0 and since % options.every == 0:
            valid = torch.arange(options.memory, device=self.prior.device) < self.memory.filled
            self.refine.solve(self.memory.keys[0], valid, self.prior, options.alpha, options.sweeps)

    def accept(self, probabilities: Tensor, inside: Tensor | None) -> PseudoLabels:
        return super().accept(self.refine(probabilities), inside)

    def after_step(self, progress: Progress) -> None:
        follow(self.teacher, self.network, warmed(self.settings.method.ema, progress.step))

    def probabilities(self, images: Tensor, keys: Sequence[str], offset: tuple[int, int] = (0, 0)) -> Tensor:
        scores: Tensor = self.predictor(images)
        return scores.softmax(1)

    @property
    def predictor(self) -> nn.Module:
        return self.teacher
