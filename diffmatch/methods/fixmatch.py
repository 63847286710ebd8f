"""FixMatch on pixels: a confident weak view teaches the strong view."""

from __future__ import annotations

from diffmatch.learning.batch import Batch, Losses, Progress
from diffmatch.learning.losses import pseudo_loss, supervised_loss
from diffmatch.learning.pseudo_labels import SOFT_RAMP, TargetOptions, mixed_targets, soft_loss
from diffmatch.learning.weak_to_strong import WeakToStrong, weak_to_strong


class FixMatchOptions(TargetOptions):
    """Sohn et al. 2020 use a threshold of 0.95. So does UniMatch on PASCAL, COCO, WHU-CD and ACDC; on Cityscapes 0."""


class FixMatch(WeakToStrong[FixMatchOptions]):
    """L = L_sup + 1/n sum 1[max p_w >= threshold] H(argmax p_w, p_s) (Sohn et al. 2020, Eq. 3-4).

    p_w is the weak view's prediction in eval mode without gradient, p_s the strong view's. A pixel below the threshold
    has zero loss.

    Differs from the paper: the mean is over pixels. The strong view loses half of its feature channels
    (`network.feature_dropout`, DiffMatch's fourth strong augmentation). A medical recipe's Dice takes the place of
    cross-entropy. There is no CutMix unless `data.cutmix` asks for it; the FixMatch whose figures UniMatch's authors
    print has it, with probability 0.5.
    """

    title = "FixMatch"
    citation = "Sohn et al., NeurIPS 2020"

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        labelled, pool, kind = batch.labelled, batch.unlabelled, self.settings.train.loss
        pseudo = self.pseudo_labels(pool.weak, pool.keys, pool.inside)
        scores, strong = weak_to_strong(self.scores, labelled, pool)
        if self.settings.method.targets == "soft":
            unsup = progress.ramp(SOFT_RAMP) * soft_loss(strong, pseudo, pool.inside, pool.boxes)
        else:
            unsup = pseudo_loss(kind, strong, *mixed_targets(pseudo, pool.inside, pool.boxes))
        terms = {"sup": supervised_loss(kind, scores, labelled.masks), "unsup": unsup}
        return Losses.of(terms, pseudo, pool.inside)
