"""Reweighting: rare classes weigh more in the loss, by the inverse of their effective number of samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor

from diffmatch.domain import VOID, Card
from diffmatch.learning.batch import Batch, Losses, Progress
from diffmatch.learning.losses import dice_loss, per_pixel
from diffmatch.learning.method import Statistics
from diffmatch.methods.supervised import Supervised
from diffmatch.settings import Section, Settings


class ReweightingOptions(Section):
    """`beta` 0 weighs all classes alike, `beta` -> 1 by inverse frequency.

    Cui et al. 2019 use 0.9, 0.99, 0.999 and 0.9999.
    """

    beta: float = Field(default=0.9999, ge=0, lt=1)
    unit: int = Field(default=256, ge=1, description="labelled pixels that count as one sample")


def effective_number_weights(samples: Sequence[float], beta: float) -> Tensor:
    """w_c proportional to (1 - beta) / (1 - beta^n_c), (C,).

    Their mean is 1 over the classes that have samples; the others have 0.

    A class that has any sample counts for one at least.
    """
    n = torch.tensor(samples, dtype=torch.float64)
    weights = torch.where(n > 0, (1 - beta) / (1 - beta ** n.clamp(min=1)), 0.0)
    return (weights * (n > 0).sum() / weights.sum().clamp(min=1e-12)).float()


class Reweighting(Supervised[ReweightingOptions]):
    """L = sum_x w_{y(x)} CE(x) / sum_x w_{y(x)}, with w_c = (1 - beta) / (1 - beta^{n_c}) summing to C.

    The weights are Cui et al.'s (2019, section 4).

    E_n = (1 - beta^n) / (1 - beta) (Proposition 1) is what n overlapping samples are worth. Their settings: beta as
    above, n in images (CIFAR: 5 to 5,000), ResNet-32 and -50, SGD 0.9.

    Differs from the paper: n_c counts labelled pixels in units of 256, the 16 x 16 of an output stride. Neighbouring
    pixels are the overlapping samples that the paper is about; counted one by one, every class would pass 1/(1 - beta)
    = 10^4 and weigh the same. The mean is a weighted one: pixels are so uneven that a plain mean would shrink the loss
    and with it the step. In medical recipes the Dice half has no weights, it balances classes itself; OHEM, a weighting
    of its own, is replaced.
    """

    family = "class-imbalance"
    use = "rare classes at head's expense"
    title = "Reweighting"
    citation = "Cui et al., CVPR 2019"
    weights: Tensor

    def __init__(self, card: Card, settings: Settings[ReweightingOptions], statistics: Statistics) -> None:
        super().__init__(card, settings, statistics)
        samples = [pixels / settings.method.unit for pixels in statistics.pixels]
        self.register_buffer("weights", effective_number_weights(samples, settings.method.beta))

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        masks = batch.labelled.masks
        scores, valid = self.network(batch.labelled.images), masks != VOID
        weight = self.weights[torch.where(valid, masks, 0).long()] * valid
        kind = self.settings.train.loss
        loss = (per_pixel(kind, scores, masks) * weight).sum() / weight.sum().clamp(min=1e-12)
        if kind == "ce_dice":
            loss = (loss + dice_loss(scores, masks, valid.float())) / 2
        return Losses({"sup": loss})
