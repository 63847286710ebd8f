"""UniMatch: one confident weak view teaches two strong views and a view with perturbed features."""

from __future__ import annotations

import torch
from pydantic import Field

from diffmatch.domain import VOID
from diffmatch.learning.batch import Batch, Losses, Progress
from diffmatch.learning.losses import pseudo_loss, supervised_loss
from diffmatch.learning.method import Views
from diffmatch.learning.pseudo_labels import ThresholdOptions, cutmix, mixed_targets
from diffmatch.learning.weak_to_strong import WeakToStrong, in_one_pass


class UniMatchOptions(ThresholdOptions):
    """Threshold 0.95 and both weights 0.5 as in the paper (threshold 0 on Cityscapes)."""

    features: float = Field(default=0.5, ge=0, description="lambda, weight of the feature perturbation")
    strong: float = Field(default=0.5, ge=0, description="mu, shared by the two strong views")


class UniMatch(WeakToStrong[UniMatchOptions]):
    """L = L_sup + lambda H(p_w, p_fp) + mu/2 [H(p_w, p_s1) + H(p_w, p_s2)] where max p_w >= threshold.

    (Yang et al. 2023, section 3.4.) p_fp comes from the weak view's encoder features with half of the channels dropped
    (`network.feature_dropout`, section 3.2), p_s1 and p_s2 from two draws of the strong view (section 3.3). CutMix has
    probability 0.5 and a box of its own for each strong view; it moves image, label, acceptance and void alike.
    `data.cutmix` sets another probability, 0 turns it off. Settings of the paper: threshold 0.95, lambda = mu = 0.5,
    SGD 1e-3 (head x10), 80 epochs on PASCAL, crop 321 or 513.

    Differs from the paper: p_w is of eval mode. All four streams go through the network together and share BatchNorm's
    statistics. CutMix takes the next image of the batch. The factor 1/2 on the whole loss is left to the learning rate,
    so that L_sup weighs as in every other method. A medical recipe's Dice takes the place of cross-entropy.
    """

    views = Views(strong=2, cutmix=0.5)
    title = "UniMatch"
    citation = "Yang et al., CVPR 2023"

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        labelled, pool = batch.labelled, batch.unlabelled
        options, kind = self.settings.method, self.settings.train.loss
        pseudo = self.pseudo_labels(pool.weak, pool.keys, pool.inside)
        boxes = (pool.boxes, pool.boxes.roll(1, 0))  # the second view is cut where its neighbour's first view is
        mixed = [(cutmix(view, box), False) for view, box in zip(pool.strong, boxes, strict=True)]
        own, features, *strong = in_one_pass(self.scores, (labelled.images, False), (pool.weak, True), *mixed)

        unmixed = torch.where(pool.inside, pseudo.labels, VOID)
        targets = [mixed_targets(pseudo, pool.inside, box) for box in boxes]
        taught = [pseudo_loss(kind, view, *target) for view, target in zip(strong, targets, strict=True)]
        terms = {
            "sup": supervised_loss(kind, own, labelled.masks),
            "features": options.features * pseudo_loss(kind, features, unmixed, pseudo.accepted & pool.inside),
            "unsup": options.strong * (taught[0] + taught[1]) / 2,
        }
        return Losses.of(terms, pseudo, pool.inside)
