"""RankMatch: UniMatch whose strong views must also rank the landmarks of an image as the weak view does."""

from __future__ import annotations

from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor

from diffmatch.learning.batch import Batch, Losses, Pool, Progress
from diffmatch.learning.pseudo_labels import cutmix
from diffmatch.learning.ranking import at_corners, rank_loss
from diffmatch.methods.unimatch import UniMatch, UniMatchOptions
from diffmatch.networks.recording import recorded


class RankMatchOptions(UniMatchOptions):
    """The authors' values."""

    rank: float = Field(default=0.1, ge=0, description="weight of the rank consistency; not halved")
    landmarks: int = Field(default=64, ge=2, description="L, of each image")
    top: int = Field(default=4, ge=2, le=5, description="K, landmarks whose order is compared")


class RankMatch(UniMatch[RankMatchOptions]):
    """L = L_UniMatch + 0.1 * mean over the two strong views of KL(P || P^) (Mai et al. 2024).

    Each image has 64 landmarks, positions of its weak coarse map that are as unlike each other as can be. A pixel's
    relation to them is q = softmax <r, landmark>, inner products without temperature. P is the Plackett-Luce
    probability of each of the 24 orders of the weak view's four nearest landmarks, P^ the strong view's of the same.
    The weak map is cut as the strong view is, from the partner's map in eval mode, and carries no gradient. What is
    compared is how pixels of an image stand to each other, not their features. Settings of the authors: the options'
    defaults, 80 epochs on PASCAL, crop 513, batch 8 + 8, SGD 1e-3 (head x10).

    The mean over the 24 orders makes the term small, as in the authors' code. There and here 1e-10 is added to every
    sum, so that a pixel which gives one landmark all but 1e-10 of its relation carries no loss.

    Differs from the authors' code: padding is neither a landmark nor a pixel that ranks. The weak map is cut on its own
    grid, which is what cutting it at the image's size is when the image's side less one is a multiple of the grid's
    (their 513 and 33). With a U-Net the coarse map is the encoder's deepest, with PSPNet what follows the pyramid; with
    DeepLabv3+ it is the output of ASPP, as theirs.
    """

    use = "relations between pixels"
    version = 1
    title = "RankMatch"
    citation = "Mai et al., CVPR 2024"

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        pool, count = batch.unlabelled, len(batch.labelled.images)
        with recorded(self.network.extractor.decoder.coarse) as seen:
            found = super().losses(batch, progress)
        *pasted, both, strong = seen[1::2]
        weak = both[count : count + len(pool.weak)].detach()
        rank = self.rank_loss(weak, strong, pool, pasted[0] if pasted else None)
        return replace(found, terms=found.terms | {"rank": self.settings.method.rank / self.factor * rank})

    def rank_loss(self, weak: Tensor, strong: Tensor, pool: Pool, pasted: Tensor | None) -> Tensor:
        """The mean over both strong views.

        Args:
            weak, pasted: coarse maps (U, R, h, w) of the weak views and of what CutMix pastes; None: the next image's.
            strong: of both strong views, (2U, R, h, w).
        """
        options, grid, partner = self.settings.method, weak.shape[-2:], pool.partner
        inside = at_corners(pool.inside, grid)
        other = at_corners(partner.inside, grid) if partner else None
        boxes = [at_corners(b, grid) for b in (pool.boxes, partner.boxes if partner else pool.boxes)]
        mixed = [cutmix(weak, box, pasted) for box in boxes]
        where = [cutmix(inside, box, other) for box in boxes]
        return rank_loss(torch.cat(mixed), strong, torch.cat(where), options.landmarks, options.top)
