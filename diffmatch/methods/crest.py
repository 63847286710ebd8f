"""CReST: FixMatch in generations, with the last one's pseudo-labels as labels, those of rare classes more often."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from diffmatch.diffusion.prior import smoothed
from diffmatch.domain import VOID, Card
from diffmatch.learning.batch import Batch, Losses, Progress
from diffmatch.learning.ema import follow, teacher_of, warmed
from diffmatch.learning.histogram import ConfidenceHistogram
from diffmatch.learning.labelling import Labelling
from diffmatch.learning.losses import pseudo_loss, supervised_loss
from diffmatch.learning.method import Statistics
from diffmatch.learning.pseudo_labels import PseudoLabels, ThresholdOptions, confident, mixed_targets
from diffmatch.learning.rounds import place
from diffmatch.learning.weak_to_strong import WeakToStrong, in_one_pass, mixed
from diffmatch.settings import Settings

BINS, BINS_PER_HALVING = 2048, 32
"""Of the doubt 1 - max p, whose logarithm the bins divide evenly, from 1 to 2^-64."""


class CReSTOptions(ThresholdOptions):
    """`threshold` is FixMatch's, inside a generation."""

    generations: int = Field(default=5, ge=1, description="G, equal parts of the training")
    alpha: float = Field(
        default=1 / 3,
        ge=0,
        description="0 keeps every pseudo-label, 1 as few of a head class as a tail class has labels",
    )
    ema: float = Field(default=0.999, ge=0, lt=1, description="momentum of the average of weights")


class CReST(WeakToStrong[CReSTOptions]):
    """L = L_sup(labelled) + L_sup(kept) + L_FixMatch; `kept` are pixels that the last generation's network labelled.

    Of the pixels that it gives the l-th most frequent class, the share mu_l = (N_{C+1-l} / N_1)^alpha is kept, the most
    confident ones, with N_1 >= ... >= N_C the labelled pixels per class (Wei et al. 2021, section 3.3,
    "class-rebalancing"): all of the rarest, few of the most frequent. The labels of FixMatch come from the pass over
    labelled images and weak views, in train mode. An exponential average of the generation's networks predicts, and
    labels for the next generation in eval mode. Settings of the authors: alpha 1/3, 6 to 15 generations of 64 epochs
    each, FixMatch or MixMatch inside, threshold 0.95, the average's momentum 0.999.

    Differs from the authors' code: pixels take the place of images. Strong views pass alone, as in UniMatch's FixMatch
    for segmentation, where theirs has one pass over all. The pool is not sorted as a whole between two generations: a
    histogram per class of the confidences seen since the last generation ended says which pixels belong to the share,
    to within a fortieth of 1 - max p. Equals are kept together. (Sorting each batch would keep the same share of a poor
    image as of a good one.) The network goes on training where theirs begins each generation anew; the average begins
    anew, as the plain mean (`ema.warmed`), with averaged BatchNorm statistics where theirs has the last network's. Kept
    labels are a term of their own, on the weak view. This is CReST, not CReST+: distributions are not aligned. Audits
    count the generation's teacher with what is kept; before the first generation has ended nothing is.
    """

    labelling = Labelling("teacher", "eval")
    family = "class-imbalance"
    use = "rare classes, long training"
    version = 3  # the most confident are kept, clean views in one pass that gives the labels; an average predicts
    title = "CReST"
    citation = "Wei et al., CVPR 2021"
    rates: Tensor
    generation: Tensor

    def __init__(self, card: Card, settings: Settings[CReSTOptions], statistics: Statistics) -> None:
        super().__init__(card, settings, statistics)
        self.average, self.teacher = teacher_of(self.network), teacher_of(self.network)
        self.register_buffer("rates", keep_rates(torch.tensor(statistics.pixels), settings.method.alpha))
        self.histogram = ConfidenceHistogram(len(card.classes), BINS)
        self.register_buffer("generation", torch.tensor(0))

    def advance(self, progress: Progress) -> None:
        """Make the average the teacher, at the first step of each generation but the first."""
        now, first = place(progress, self.settings.method.generations)
        if now > 0 and progress.step == first:
            self.teacher.load_state_dict(self.average.state_dict())
            self.histogram.reset()
            self.generation.fill_(now)

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        self.advance(progress)
        labelled, pool, kind = batch.labelled, batch.unlabelled, self.settings.train.loss
        with torch.no_grad():
            probabilities = self.teacher(pool.weak).softmax(1)
        self.histogram.add(probabilities.argmax(1), bins(probabilities), pool.inside)
        kept = self.kept(probabilities)
        grown = torch.where(kept.accepted & pool.inside, kept.labels, VOID)
        own, weak = in_one_pass(self.scores, (labelled.images, False), (pool.weak, False))
        strong = self.scores(mixed(pool))
        pseudo = self.accept(weak.detach().softmax(1), pool.inside)
        terms = {
            "sup": supervised_loss(kind, own, labelled.masks),
            "kept": supervised_loss(kind, weak, grown),
            "unsup": pseudo_loss(kind, strong, *mixed_targets(pseudo, pool.inside, pool.boxes)),
        }
        return Losses.of(terms, kept, pool.inside)

    def kept(self, probabilities: Tensor) -> PseudoLabels:
        """Labels of the teacher's probabilities (N, C, H, W), accepted in the most confident share mu of a class."""
        pseudo = confident(probabilities, 0.0)
        least, rates = self.histogram.limits((self.rates.double() * self.histogram.counts.sum(1)).long())
        labels = pseudo.labels.long()
        accepted = (bins(probabilities) >= least[labels]) & (rates[labels] > 0)
        return pseudo._replace(accepted=accepted & (self.generation > 0))

    @torch.no_grad()
    def pseudo_labels(self, images: Tensor, keys: Sequence[str], inside: Tensor | None = None) -> PseudoLabels:
        return self.kept(self.teacher(images).softmax(1))

    def probabilities(self, images: Tensor, keys: Sequence[str], offset: tuple[int, int] = (0, 0)) -> Tensor:
        scores: Tensor = self.average(images)
        return scores.softmax(1)

    def after_step(self, progress: Progress) -> None:
        _, first = place(progress, self.settings.method.generations)
        follow(self.average, self.network, warmed(self.settings.method.ema, progress.step - first))


def keep_rates(pixels: Tensor, alpha: float) -> Tensor:
    """mu of each class, (C,), from its labelled pixels (C,); smoothed, so that a class never seen has a rank too."""
    share, order = smoothed(pixels).sort(descending=True, stable=True)
    return torch.empty_like(share).scatter_(0, order, (share.flip(0) / share[0]) ** alpha)


def bins(probabilities: Tensor) -> Tensor:
    """Bin of the doubt 1 - max p of probabilities (N, C, H, W), rising with confidence, (N, H, W) int64.

    The doubt is the sum of the other classes' probabilities: 1 - max p would be 0 for all that is surer than 2^-24.
    """
    doubt = probabilities.scatter(1, probabilities.argmax(1, keepdim=True), 0.0).sum(1)
    return (-BINS_PER_HALVING * doubt.clamp(min=2.0**-64).log2()).long().clamp(0, BINS - 1)
