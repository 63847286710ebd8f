"""Labelled images only: the baseline of every table."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from diffmatch.domain import Card
from diffmatch.learning.batch import Batch, Losses, Progress
from diffmatch.learning.losses import supervised_loss
from diffmatch.learning.method import Method, Statistics, Views
from diffmatch.networks.segmenter import ClassifierNetwork
from diffmatch.settings import Settings


class Supervised(Method):
    """L = L_sup, the domain's labelled loss. Everything but the pool is shared with the semi-supervised methods."""

    views = Views(unlabelled=False, strong=0)
    title = "Sup.-only"
    citation = "labelled images only"

    def __init__(self, card: Card, settings: Settings, statistics: Statistics) -> None:
        super().__init__(card, settings, statistics)
        self.network = ClassifierNetwork(card, settings)

    def losses(self, batch: Batch, progress: Progress) -> Losses:
        return Losses({"sup": supervised_loss(self.settings.train.loss, self.network(batch.images), batch.masks)})

    def probabilities(self, images: Tensor, keys: Sequence[str], offset: tuple[int, int] = (0, 0)) -> Tensor:
        scores: Tensor = self.network(images)
        return scores.softmax(1)
