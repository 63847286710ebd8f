"""FixMatch on pixels: a confident weak view teaches the strong view."""

from __future__ import annotations

from typing import TypeVar

from diffmatch.learning.batch import Batch, Losses, Progress
from diffmatch.learning.losses import pseudo_loss, supervised_loss
from diffmatch.learning.method import Views
from diffmatch.learning.pseudo_labels import SOFT_RAMP, TargetOptions, mixed_targets, soft_loss
from diffmatch.learning.weak_to_strong import WeakToStrong


class FixMatchOptions(TargetOptions):
    """Sohn et al. 2020 use a threshold of 0.95. So does UniMatch on PASCAL, COCO, WHU-CD and ACDC; on Cityscapes 0."""


F = TypeVar("F", bound=FixMatchOptions)


class FixMatch(WeakToStrong[F]):
    """L = 1/2 [L_sup + 1/n sum 1[max p_w >= threshold] H(argmax p_w, p_s)] (Sohn et al. 2020, Eq. 3-4).

    p_w is the weak view's prediction without gradient, p_s the strong view's. A pixel below the threshold has zero
    loss. The version is that of UniMatch's authors, whose FixMatch the field compares with: the labelled images and the
    weak views go through the network together in train mode and p_w comes from that pass; the strong views follow
    alone. CutMix has probability 1/2 and pastes another draw of the pool, which is labelled in eval mode. Settings of
    UniMatch's authors: threshold 0.95, SGD 1e-3 (head x10), 80 epochs on PASCAL, the factor 1/2.

    Differs from the authors' code: a medical recipe's Dice takes the place of cross-entropy, as in their code for ACDC.
    """

    views = Views(cutmix=0.5, partner=True)
    factor = 0.5
    family = "consistency"
    use = "the plain baseline with thresholds"
    version = 2  # labels from the pass that learns, CutMix with a draw of its own, no feature dropout, factor 1/2
    title = "FixMatch"
    citation = "Sohn et al., NeurIPS 2020"

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        labelled, pool, kind = batch.labelled, batch.unlabelled, self.settings.train.loss
        pasted = self.pasted(pool)
        own, pseudo, strong = self.streams(labelled, pool)
        if self.settings.method.targets == "soft":
            unsup = progress.ramp(SOFT_RAMP) * soft_loss(strong, pseudo, pool.inside, pool.boxes, pasted)
        else:
            unsup = pseudo_loss(kind, strong, *mixed_targets(pseudo, pool.inside, pool.boxes, pasted))
        terms = {"sup": supervised_loss(kind, own, labelled.masks), "unsup": unsup}
        return Losses.of(terms, pseudo, pool.inside, factor=self.factor)
