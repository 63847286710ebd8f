"""What a method is given in a step, and what it answers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from diffmatch.learning.pseudo_labels import PseudoLabels, pixels_per_class


@dataclass
class Labelled:
    """The labelled images of a step.

    Attributes:
        images: (B, dates, channels, H, W) float32, weakly augmented and normalised.
        masks: (B, H, W) uint8, 255 where there is nothing to learn.
        keys: names of these draws, unique over the run. Noise is seeded by them and messages quote them.
    """

    images: Tensor
    masks: Tensor
    keys: list[str]


@dataclass
class Pool:
    """The unlabelled images of a step.

    Attributes:
        weak: (U, dates, channels, H, W) float32, the weak views.
        strong: strong views of the same crops, as many as `Views.strong` says, each of `weak`'s shape.
        inside: (U, H, W) bool, false in padding.
        boxes: (U, H, W) bool, CutMix: where true, a strong view takes another image's pixels. All false for no CutMix.
        keys: as of the labelled images.
        partner: another draw of the pool, whose pixels CutMix takes and whose boxes a second strong view has; None for
            the next images of the batch (`Views.partner`), or where no CutMix is asked for.
    """

    weak: Tensor
    strong: tuple[Tensor, ...]
    inside: Tensor
    boxes: Tensor
    keys: list[str]
    partner: Pool | None = None


@dataclass
class Batch:
    """One rank's share of a step, on the device. Without `Views.unlabelled` the pool is None."""

    labelled: Labelled
    pool: Pool | None = None

    @property
    def unlabelled(self) -> Pool:
        """The pool of a method that asked for unlabelled images.

        Raises:
            RuntimeError: the method's views did not ask for them.
        """
        if self.pool is None:
            raise RuntimeError("this method's views ask for no unlabelled images (Views.unlabelled)")
        return self.pool

    @property
    def all_keys(self) -> list[str]:
        """Names of all draws of the step."""
        return self.labelled.keys + (self.pool.keys if self.pool else [])

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with every tensor changed."""
        changed: Batch = apply_to_collection(self, Tensor, change)
        return changed

    def to(self, device: torch.device) -> Batch:
        """All tensors on the device; a copy from pinned memory does not wait."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """All tensors in page-locked memory; the data loader calls it where it was asked to pin."""
        return self.map(Tensor.pin_memory)


@dataclass
class Progress:
    """The step that is being taken, and how many there are.

    Not frozen, because Fabric rebuilds what it hands to a wrapped module field by field.
    """

    step: int
    steps: int

    @property
    def share(self) -> float:
        """The part of the training that lies behind, in [0, 1)."""
        return self.step / max(self.steps, 1)

    def ramp(self, length: float = 1.0) -> float:
        """exp(-5 (1 - r)^2), where r goes from 0 to 1 over the first `length` of the training (Laine & Aila 2017)."""
        return math.exp(-5 * (1 - min(self.share / length, 1.0)) ** 2)


@dataclass
class Losses:
    """What a step returns.

    Attributes:
        terms: scalars by name; their sum times `factor` is descended.
        given, accepted: pseudo-label pixels per class, (C,): all of them, and those that were trained on.
        times: the diffusion times that were drawn, (N,); the message of a loss that is not finite quotes them.
        factor: `Method.factor`.
    """

    terms: dict[str, Tensor]
    given: Tensor | None = None
    accepted: Tensor | None = None
    times: Tensor | None = None
    factor: float = 1.0

    @classmethod
    def of(
        cls,
        terms: dict[str, Tensor],
        pseudo: PseudoLabels,
        inside: Tensor,
        times: Tensor | None = None,
        factor: float = 1.0,
    ) -> Self:
        """The terms, with the pseudo-labels inside the images counted.

        Args:
            inside: (U, H, W) bool, false in padding.
        """
        classes = pseudo.probabilities.shape[1]
        given = pixels_per_class(pseudo.labels, inside, classes)
        accepted = pixels_per_class(pseudo.labels, pseudo.accepted & inside, classes)
        return cls(terms, given, accepted, times, factor)

    @property
    def total(self) -> Tensor:
        """The scalar that is descended."""
        return self.factor * torch.stack(list(self.terms.values())).sum()
