"""CReST: FixMatch in generations, with the last one's pseudo-labels as labels, those of rare classes more often."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from diffmatch.diffusion.prior import smoothed
from diffmatch.domain import VOID, Card
from diffmatch.learning.batch import Batch, Losses, Progress
from diffmatch.learning.ema import teacher_of
from diffmatch.learning.labelling import Labelling
from diffmatch.learning.losses import pseudo_loss, supervised_loss
from diffmatch.learning.method import Statistics
from diffmatch.learning.pseudo_labels import PseudoLabels, ThresholdOptions, confident, cutmix, mixed_targets
from diffmatch.learning.weak_to_strong import WeakToStrong, in_one_pass
from diffmatch.settings import Settings
from diffmatch.shared.seeds import seed_of


class CReSTOptions(ThresholdOptions):
    """`threshold` is FixMatch's, inside a generation."""

    generations: int = Field(default=5, ge=1, description="G, equal parts of the training")
    alpha: float = Field(
        default=1 / 3,
        ge=0,
        description="0 keeps every pseudo-label, 1 as few of a head class as a tail class has labels",
    )


class CReST(WeakToStrong[CReSTOptions]):
    """L = L_sup(labelled) + L_sup(kept) + L_FixMatch; `kept` are pixels that the last generation's network labelled.

    A pixel labelled with the l-th most frequent class is kept with probability mu_l = (N_{C+1-l} / N_1)^alpha, with
    N_1 >= ... >= N_C the labelled pixels per class (Wei et al. 2021, section 3.3, "class-rebalancing"): all of the
    rarest, few of the most frequent. Settings of the paper: alpha 1/3, 6 to 15 generations of 64 epochs each, FixMatch
    or MixMatch inside, threshold 0.95.

    Differs from the paper: the strong view is FixMatch's here, feature dropout included. Pixels are drawn, not images,
    and anew in each step (by the item's key). The network goes on training where the paper begins each generation
    anew. Kept labels are a term of their own, on the weak view. This is CReST, not CReST+: distributions are not
    aligned. Audits count the generation's teacher with its draw; before the first generation has ended nothing is
    accepted.
    """

    labelling = Labelling("teacher", "eval")
    features = "channel dropout"
    family = "class-imbalance"
    use = "rare classes, long training"
    title = "CReST"
    citation = "Wei et al., CVPR 2021"
    rates: Tensor
    generation: Tensor

    def __init__(self, card: Card, settings: Settings[CReSTOptions], statistics: Statistics) -> None:
        super().__init__(card, settings, statistics)
        self.teacher = teacher_of(self.network)
        self.register_buffer("rates", keep_rates(torch.tensor(statistics.pixels), settings.method.alpha))
        self.register_buffer("generation", torch.tensor(0))

    def advance(self, progress: Progress) -> None:
        """Make the network as it stands the teacher, at the first step of each generation.

        The step alone decides, so that a resumed run does the same.
        """
        generations, steps = self.settings.method.generations, max(progress.steps, 1)
        now, before = (step * generations // steps for step in (progress.step, progress.step - 1))
        if now > max(before, 0):
            self.teacher.load_state_dict(self.network.state_dict())
            self.generation.fill_(now)

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        self.advance(progress)
        labelled, pool, kind = batch.labelled, batch.unlabelled, self.settings.train.loss
        kept = self.pseudo_labels(pool.weak, pool.keys)
        grown = torch.where(kept.accepted & pool.inside, kept.labels, VOID)
        own = super().pseudo_labels(pool.weak, pool.keys, pool.inside)
        target, accepted = mixed_targets(own, pool.inside, pool.boxes)
        mixed = cutmix(pool.strong[0], pool.boxes)
        scores, weak, strong = in_one_pass(self.scores, (labelled.images, False), (pool.weak, False), (mixed, True))
        terms = {
            "sup": supervised_loss(kind, scores, labelled.masks),
            "kept": supervised_loss(kind, weak, grown),
            "unsup": pseudo_loss(kind, strong, target, accepted),
        }
        return Losses.of(terms, kept, pool.inside)

    @torch.no_grad()
    def pseudo_labels(self, images: Tensor, keys: Sequence[str], inside: Tensor | None = None) -> PseudoLabels:
        pseudo = confident(self.teacher(images).softmax(1), 0.0)
        lots = torch.stack([lot(key, images.shape[-2:]) for key in keys]).to(images.device)
        return pseudo._replace(accepted=(lots < self.rates[pseudo.labels.long()]) & (self.generation > 0))


def keep_rates(pixels: Tensor, alpha: float) -> Tensor:
    """mu of each class, (C,), from its labelled pixels (C,); smoothed, so that a class never seen has a rank too."""
    share, order = smoothed(pixels).sort(descending=True, stable=True)
    return torch.empty_like(share).scatter_(0, order, (share.flip(0) / share[0]) ** alpha)


def lot(key: str, size: Sequence[int]) -> Tensor:
    """Uniform numbers in [0, 1) for an item's pixels, the same on every machine."""
    return torch.rand(*size, generator=torch.Generator().manual_seed(seed_of("crest", key)))
