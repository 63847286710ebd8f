"""Labelled images only: the baseline of every table."""

from __future__ import annotations

from typing import TypeVar

from diffmatch.learning.batch import Batch, Losses, Progress
from diffmatch.learning.losses import supervised_loss
from diffmatch.learning.method import Method, Views
from diffmatch.settings import Section

S = TypeVar("S", bound=Section)


class Supervised(Method[S]):
    """L = L_sup, the domain's labelled loss. Everything but the pool is shared with the semi-supervised methods."""

    views = Views(unlabelled=False, strong=0)
    family = "supervised"
    use = "what every method must beat"
    title = "Sup.-only"
    citation = "labelled images only"

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        scores = self.network(batch.labelled.images)
        return Losses({"sup": supervised_loss(self.settings.train.loss, scores, batch.labelled.masks)})
