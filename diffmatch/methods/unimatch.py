"""UniMatch: one confident weak view teaches two strong views and a view with perturbed features."""

from __future__ import annotations

from typing import TypeVar

import torch
from pydantic import Field
from torch import Tensor

from diffmatch.learning.batch import Batch, Labelled, Losses, Pool, Progress
from diffmatch.learning.losses import pseudo_loss, supervised_loss
from diffmatch.learning.method import Views
from diffmatch.learning.pseudo_labels import Pasted, PseudoLabels, ThresholdOptions, mixed_targets, unmixed_targets
from diffmatch.learning.weak_to_strong import WeakToStrong, in_one_pass, mixed
from diffmatch.networks.segmenter import ClassifierNetwork


class UniMatchOptions(ThresholdOptions):
    """Threshold 0.95 and both weights 0.5 as in the paper (threshold 0 on Cityscapes)."""

    features: float = Field(default=0.5, ge=0, description="lambda, weight of the feature perturbation")
    strong: float = Field(default=0.5, ge=0, description="mu, shared by the two strong views")


U = TypeVar("U", bound=UniMatchOptions)


class UniMatch(WeakToStrong[U]):
    """L = 1/2 {L_sup + lambda H(p_w, p_fp) + mu/2 [H(p_w, p_s1) + H(p_w, p_s2)]} where max p_w >= threshold.

    (Yang et al. 2023, section 3.4.) p_fp comes from the weak view's encoder features with half of the channels dropped
    (`network.feature_dropout`, section 3.2), p_s1 and p_s2 from two draws of the strong view (section 3.3). CutMix has
    probability 1/2 and a box of its own for each strong view; it pastes another draw of the pool and moves image,
    label, acceptance and void alike. `data.cutmix` sets another probability, 0 turns it off.

    The labelled images and the weak views go through the network together in train mode; p_w comes from that pass, and
    so does p_fp, whose features pass the decoder beside the clean ones. The two strong views follow together. The
    pasted image is labelled in eval mode. Settings of the authors: threshold 0.95, lambda = mu = 1/2, the factor 1/2,
    SGD 1e-3 (head x10), 80 epochs on PASCAL, crop 321 or 513.

    Differs from the authors' code: a medical recipe's Dice takes the place of cross-entropy, as in their code for ACDC.
    OHEM keeps 100,000 pixels of an image, theirs 200,000 of the two images of a GPU.
    """

    views = Views(strong=2, cutmix=0.5, partner=True)
    features = "channel dropout"
    factor = 0.5
    family = "consistency"
    use = "strong default for photographs"
    version = 2  # labels from the pass that learns, passes as theirs, CutMix with a draw of its own, factor 1/2
    title = "UniMatch"
    citation = "Yang et al., CVPR 2023"
    network: ClassifierNetwork

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        pool = batch.unlabelled
        pasted = self.pasted(pool)
        own, weak, features = self.learn_both(batch.labelled, pool)
        return self.taught(batch, own, features, self.accept(weak.softmax(1), pool.inside), pasted)

    def taught(
        self, batch: Batch, own: Tensor, features: Tensor, pseudo: PseudoLabels, pasted: Pasted | None
    ) -> Losses:
        """L of the scores of the labelled images, those of the perturbed weak views, and the strong views' pass.

        Args:
            own, features: scores (N, C, H, W).
            pseudo, pasted: labels of the weak views and of what CutMix pastes.
        """
        pool, options, kind = batch.unlabelled, self.settings.method, self.settings.train.loss
        boxes = (pool.boxes, pool.partner.boxes if pool.partner else pool.boxes)
        strong = in_one_pass(self.scores, *((mixed(pool, view, box), False) for view, box in enumerate(boxes)))
        targets = [mixed_targets(pseudo, pool.inside, box, pasted) for box in boxes]
        unsup = [pseudo_loss(kind, view, *target) for view, target in zip(strong, targets, strict=True)]
        terms = {
            "sup": supervised_loss(kind, own, batch.labelled.masks),
            "features": options.features * pseudo_loss(kind, features, *unmixed_targets(pseudo, pool.inside)),
            "unsup": options.strong * (unsup[0] + unsup[1]) / 2,
        }
        return Losses.of(terms, pseudo, pool.inside, factor=self.factor)

    def learn_both(self, labelled: Labelled, pool: Pool) -> tuple[Tensor, Tensor, Tensor]:
        """`learn`, and the scores of the weak views with feature channels lost."""
        clean, lost = self.network.both(torch.cat([labelled.images, pool.weak]))
        count = len(labelled.images)
        return clean[:count], clean[count:].detach(), lost[count:]
