"""UniMatch: one confident weak view teaches two strong views and a view with perturbed features."""

from __future__ import annotations

import torch
from pydantic import Field

from diffmatch.domain import VOID
from diffmatch.learning.batch import Batch, Losses, Progress
from diffmatch.learning.losses import pseudo_loss, supervised_loss
from diffmatch.learning.method import Views
from diffmatch.learning.pseudo_labels import ThresholdOptions, cutmix, mixed_targets
from diffmatch.methods.fixmatch import FixMatch


class UniMatchOptions(ThresholdOptions):
    """Threshold 0.95 and both weights 0.5 as in the paper (threshold 0 on Cityscapes)."""

    features: float = Field(default=0.5, ge=0, description="lambda, weight of the feature perturbation")
    strong: float = Field(default=0.5, ge=0, description="mu, shared by the two strong views")


class UniMatch(FixMatch):
    """L = L_sup + lambda H(p_w, p_fp) + mu/2 [H(p_w, p_s1) + H(p_w, p_s2)] where max p_w >= threshold (Yang et al.
    2023, section 3.4).

    p_fp comes from the weak view's encoder features with half of the channels dropped (`network.feature_dropout`,
    section 3.2), p_s1 and p_s2 from two draws of the strong view (section 3.3). CutMix, with probability 0.5 and a box
    of its own for each strong view, moves image, label, acceptance and void alike; `data.cutmix` overrules the
    probability, 0 turns it off. Settings of the paper: threshold 0.95, lambda = mu = 0.5, SGD 1e-3 (head x10), 80
    epochs on PASCAL, crop 321 or 513.

    Differs from the paper: p_w is of eval mode; all four streams go through the network together and share BatchNorm's
    statistics; CutMix takes the next image of the batch; the factor 1/2 on the whole loss is left to the learning rate,
    so that L_sup weighs as in every other method. A medical recipe's Dice takes the place of cross-entropy.
    """

    Options = UniMatchOptions
    views = Views(strong=2, cutmix=0.5)
    title = "UniMatch"
    citation = "Yang et al., CVPR 2023"

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        assert (
            batch.weak is not None
            and batch.inside is not None
            and batch.boxes is not None
            and batch.pool_keys is not None
        )
        options, kind, labelled, pool = (
            self.settings.method,
            self.settings.train.loss,
            len(batch.images),
            len(batch.weak),
        )
        pseudo = self.pseudo_labels(batch.weak, batch.pool_keys, batch.inside)
        boxes = (batch.boxes, batch.boxes.roll(1, 0))  # the second view is cut where its neighbour's first view is
        mixed = [cutmix(view, box) for view, box in zip(batch.strong, boxes, strict=True)]
        images = torch.cat([batch.images, batch.weak, *mixed])
        place = torch.arange(len(images), device=images.device)
        scores = self.scores(images, (place >= labelled) & (place < labelled + pool))
        own, features, *strong = scores.split_with_sizes([labelled, pool, pool, pool])

        unmixed = torch.where(batch.inside, pseudo.labels, VOID)
        targets = [mixed_targets(pseudo, batch.inside, box) for box in boxes]
        taught = [pseudo_loss(kind, view, *target) for view, target in zip(strong, targets, strict=True)]
        terms = {
            "sup": supervised_loss(kind, own, batch.masks),
            "features": options.features * pseudo_loss(kind, features, unmixed, pseudo.accepted & batch.inside),
            "unsup": options.strong * (taught[0] + taught[1]) / 2,
        }
        return Losses.of(terms, pseudo, batch.inside)
