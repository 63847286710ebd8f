"""FreeMatch: FixMatch whose threshold follows the network's confidence, for each class its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from diffmatch.domain import Card
from diffmatch.learning.batch import Batch, Losses, Progress
from diffmatch.learning.ema import follow, teacher_of, warmed
from diffmatch.learning.labelling import Labelling, in_mode
from diffmatch.learning.losses import pseudo_loss, supervised_loss
from diffmatch.learning.method import Method, Statistics
from diffmatch.learning.pseudo_labels import PseudoLabels, mixed_targets, pixels_per_class
from diffmatch.learning.weak_to_strong import in_one_pass, mixed
from diffmatch.settings import Section, Settings
from diffmatch.shared.ranks import over_ranks


class FreeMatchOptions(Section):
    """The momenta are made for 2^20 steps.

    In a short run the thresholds stay near 1/C, and the average is the mean of all networks so far.
    """

    momentum: float = Field(default=0.999, ge=0, lt=1, description="lambda, of the running means")
    fairness: float = Field(default=0.01, ge=0, description="w_f")
    ema: float = Field(default=0.999, ge=0, lt=1, description="momentum of the average of weights that predicts")


class FreeMatch(Method[FreeMatchOptions]):
    """L = L_sup + L_u + w_f L_f (Wang et al. 2023, Eq. 12), with thresholds that begin at 1/C and rise with confidence.

    tau    <- lambda tau + (1 - lambda) mean max p_w                        (Eq. 5, global)
    p~     <- lambda p~ + (1 - lambda) mean p_w                             (Eq. 6, per class)
    tau(c) =  p~(c) / max p~ * tau                                          (Eq. 7)
    L_u    =  mean 1[max p_w >= tau(argmax p_w)] H(argmax p_w, p_s)         (Eq. 8)
    L_f    =  sum_c norm(p~ / h~) log norm(p- / h-)                         (Eq. 9-11)
    p- is the mean of p_s over accepted pixels, h- the histogram of its labels, h~ the running histogram of the weak
        view's labels.

    The network labels in eval mode; an exponential average of it predicts. Settings of the authors: lambda 0.999, w_f
    0.01 to 0.05 in the paper and 0.001 in their files for CIFAR, the average's momentum 0.999, SGD 0.03, labelled to
    unlabelled 1 : 7.

    Differs from the authors' code, which classifies whole images: their labels come from one pass in train mode over
    labelled images, weak and strong views. With pixels that pass runs away, because a rare class's threshold is near
    zero: whatever is called rare is accepted (docs/rivals.md has the numbers). Means are over the pixels inside the
    images, and the strong view is the one that all methods share. The average starts as the plain mean of all networks
    (`ema.warmed`) and has averaged BatchNorm statistics, where theirs has the last network's; over 2^20 steps both come
    to the same. A medical recipe's Dice takes the place of cross-entropy.
    """

    labelling = Labelling("student", "eval")
    family = "self-training"
    use = "no threshold to choose"
    version = 3  # no feature dropout, an average of weights predicts
    title = "FreeMatch"
    citation = "Wang et al., ICLR 2023"
    running: Tensor

    def __init__(self, card: Card, settings: Settings[FreeMatchOptions], statistics: Statistics) -> None:
        super().__init__(card, settings, statistics)
        self.average = teacher_of(self.network)
        classes = len(card.classes)
        # tau, p~ and h~ in one vector: they are summed over the ranks and averaged together
        self.register_buffer("running", torch.full((1 + 2 * classes,), 1 / classes))

    @property
    def averages(self) -> tuple[Tensor, Tensor, Tensor]:
        """tau (1,), p~ (C,), h~ (C,)."""
        classes = len(self.card.classes)
        tau, mean, histogram = self.running.split_with_sizes([1, classes, classes])
        return tau, mean, histogram

    @property
    def thresholds(self) -> Tensor:
        """tau(c), (C,)."""
        tau, mean, _ = self.averages
        return mean / mean.max() * tau

    @torch.no_grad()
    def update(self, probabilities: Tensor, inside: Tensor) -> None:
        """Follow the weak views' predictions (N, C, H, W) of all ranks.

        Where no pixel is inside (N, H, W), nothing changes.
        """
        confidence, labels = probabilities.max(1)
        histogram = pixels_per_class(labels, inside, probabilities.shape[1])
        mean = (probabilities * inside[:, None]).sum((0, 2, 3))
        sums = over_ranks(torch.cat([(confidence * inside).sum()[None], mean, histogram, inside.sum()[None]]))
        means = torch.where(sums[-1] > 0, sums[:-1] / sums[-1].clamp(min=1), self.running)
        self.running.lerp_(means, 1 - self.settings.method.momentum)

    def accept(self, probabilities: Tensor) -> PseudoLabels:
        confidence, labels = probabilities.max(1)
        return PseudoLabels(labels.to(torch.uint8), confidence >= self.thresholds[labels], probabilities)

    def fairness(self, strong: Tensor, accepted: Tensor) -> Tensor:
        """L_f of the strong views' scores; 0 where nothing is accepted."""
        probabilities = strong.softmax(1)
        mean = (probabilities * accepted[:, None]).sum((0, 2, 3))
        histogram = pixels_per_class(probabilities.argmax(1), accepted, strong.shape[1])
        _, expected, seen = self.averages
        return (relative(expected, seen) * relative(mean, histogram).clamp(min=1e-12).log()).sum() * accepted.any()

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        labelled, pool, kind = batch.labelled, batch.unlabelled, self.settings.train.loss
        with torch.no_grad(), in_mode(self.network, "eval"):
            probabilities = self.network(pool.weak).softmax(1)
        own, strong = in_one_pass(self.network, (labelled.images, False), (mixed(pool), False))
        self.update(probabilities, pool.inside)
        pseudo = self.accept(probabilities)
        target, accepted = mixed_targets(pseudo, pool.inside, pool.boxes)
        terms = {
            "sup": supervised_loss(kind, own, labelled.masks),
            "unsup": pseudo_loss(kind, strong, target, accepted),
            "fairness": self.settings.method.fairness * self.fairness(strong, accepted),
        }
        return Losses.of(terms, pseudo, pool.inside)

    @torch.no_grad()
    def pseudo_labels(self, images: Tensor, keys: Sequence[str], inside: Tensor | None = None) -> PseudoLabels:
        with in_mode(self.network, "eval"):
            return self.accept(self.network(images).softmax(1))

    def after_step(self, progress: Progress) -> None:
        follow(self.average, self.network, warmed(self.settings.method.ema, progress.step))

    @property
    def predictor(self) -> nn.Module:
        return self.average


def relative(probability: Tensor, histogram: Tensor) -> Tensor:
    """norm(probability / histogram), (C,): summing to 1 over the classes that the histogram has."""
    ratio = torch.where(histogram > 0, probability / histogram.clamp(min=1e-12), 0.0)
    return ratio / ratio.sum().clamp(min=1e-12)
