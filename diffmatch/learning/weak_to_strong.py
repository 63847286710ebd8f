"""The pass that weak-to-strong methods share: a pseudo-label of the weak view teaches the strong view."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from diffmatch.learning.batch import Labelled, Pool
from diffmatch.learning.labelling import Labelling, in_mode
from diffmatch.learning.method import Method
from diffmatch.learning.pseudo_labels import PseudoLabels, ThresholdOptions, accepted_by, cutmix

T = TypeVar("T", bound=ThresholdOptions)

Scores = Callable[[Tensor, Tensor | None], Tensor]
"""(images (N, dates, channels, H, W), perturbed (N,) bool or None) -> class scores (N, C, H, W)."""


def stacked(*parts: tuple[Tensor, bool]) -> tuple[Tensor, Tensor | None]:
    """Stacks of images as one, and which of the images lose feature channels.

    Args:
        parts: images (N_i, dates, channels, H, W), and whether their features are perturbed.

    Returns:
        images (N, dates, channels, H, W) and perturbed (N,) bool, None where no part is perturbed.
    """
    images = torch.cat([part for part, _ in parts])
    if not any(perturb for _, perturb in parts):
        return images, None
    flags = [torch.full((len(part),), perturb, dtype=torch.bool, device=part.device) for part, perturb in parts]
    return images, torch.cat(flags)


def in_one_pass(scores: Scores, *parts: tuple[Tensor, bool]) -> tuple[Tensor, ...]:
    """Scores of each part. All go through the network together and share BatchNorm's statistics; see `stacked`."""
    return scores(*stacked(*parts)).split_with_sizes([len(part) for part, _ in parts])


def mixed(pool: Pool, view: int = 0, boxes: Tensor | None = None) -> Tensor:
    """The CutMixed strong view with that number, (U, dates, channels, H, W).

    Args:
        boxes: (U, H, W) bool, in place of the pool's.
    """
    other = pool.partner.strong[view] if pool.partner else None
    return cutmix(pool.strong[view], pool.boxes if boxes is None else boxes, other)


class WeakToStrong(Method[T]):
    """A weak view's confident labels teach strong views (FixMatch, Eq. 4).

    The labels of the own image come from the pass that learns, in train mode; those of the image that CutMix pastes
    from a pass of their own in eval mode (UniMatch's code, which calls the clean weak view in train mode a purpose:
    BatchNorm needs clean statistics).
    """

    labelling = Labelling("student", "train")

    def scores(self, images: Tensor, perturbed: Tensor | None = None) -> Tensor:
        """Class scores (N, C, H, W); the discriminative twin answers with its own network."""
        scores: Tensor = self.network(images, perturbed)
        return scores

    def learn(self, labelled: Labelled, pool: Pool) -> tuple[Tensor, Tensor]:
        """Scores of the labelled images and, without gradient, of the weak views, from one pass in train mode."""
        own, weak = in_one_pass(self.scores, (labelled.images, False), (pool.weak, False))
        return own, weak.detach()

    def streams(self, labelled: Labelled, pool: Pool) -> tuple[Tensor, PseudoLabels, Tensor]:
        """Scores of the labelled images, pseudo-labels of the weak views, scores of the CutMixed strong views.

        The strong views go through the network alone, so that BatchNorm never normalises clean images by their
        statistics.
        """
        own, weak = self.learn(labelled, pool)
        return own, self.accept(weak.softmax(1), pool.inside), self.scores(mixed(pool))

    def accept(self, probabilities: Tensor, inside: Tensor | None) -> PseudoLabels:
        """Pseudo-labels of weak views' probabilities (N, C, H, W); `inside` as of `pseudo_labels`."""
        return accepted_by(probabilities, self.settings.method, inside)

    @torch.no_grad()
    def pseudo_labels(self, images: Tensor, keys: Sequence[str], inside: Tensor | None = None) -> PseudoLabels:
        with in_mode(self.network, "eval"):
            return self.accept(self.scores(images).softmax(1), inside)

    def probabilities(self, images: Tensor, keys: Sequence[str], offset: tuple[int, int] = (0, 0)) -> Tensor:
        return self.scores(images).softmax(1)
