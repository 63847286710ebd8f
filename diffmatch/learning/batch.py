"""What a method is given in a step, and what it answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from diffmatch.learning.pseudo_labels import PseudoLabels, pixels_per_class


@dataclass
class Batch:
    """One rank's share of a step, on the device.

    Attributes:
        images: (B, dates, channels, H, W), labelled, weakly augmented, normalised.
        masks: (B, H, W) uint8, 255 where there is nothing to learn.
        keys, pool_keys: names of these draws, unique over the run: noise and messages go by them.
        weak: (U, dates, channels, H, W) or None where the method asked for no unlabelled images.
        strong: as many strong views of the same crops as asked for.
        inside: (U, H, W) bool, false in padding.
        boxes: (U, H, W) bool, CutMix: where True, a strong view takes the next image's pixels (none: all False).
    """

    images: Tensor
    masks: Tensor
    keys: list[str]
    weak: Tensor | None = None
    strong: tuple[Tensor, ...] = ()
    inside: Tensor | None = None
    boxes: Tensor | None = None
    pool_keys: list[str] | None = None


@dataclass
class Progress:
    """The step that is being taken, of how many. Not frozen: Fabric rebuilds what it hands to a wrapped module field by
    field."""

    step: int
    steps: int

    @property
    def share(self) -> float:
        return self.step / max(self.steps, 1)

    def ramp(self, length: float = 1.0) -> float:
        """exp(-5 (1 - r)^2), where r goes from 0 to 1 over the first `length` of the training (Laine & Aila 2017)."""
        return math.exp(-5 * (1 - min(self.share / length, 1.0)) ** 2)


@dataclass
class Losses:
    """What a step returns: the terms, whose sum is descended, and pseudo-label pixels per class, given and trained on.

    `times` are the diffusion times drawn, (N,), for the message when a loss is not finite.
    """

    terms: dict[str, Tensor]
    given: Tensor | None = None
    accepted: Tensor | None = None
    times: Tensor | None = None

    @classmethod
    def of(cls, terms: dict[str, Tensor], pseudo: PseudoLabels, inside: Tensor) -> Self:
        """The terms, with the pseudo-labels inside the images counted."""
        classes = pseudo.probabilities.shape[1]
        given = pixels_per_class(pseudo.labels, inside, classes)
        return cls(terms, given, pixels_per_class(pseudo.labels, pseudo.accepted & inside, classes))

    @property
    def total(self) -> Tensor:
        return torch.stack(list(self.terms.values())).sum()
