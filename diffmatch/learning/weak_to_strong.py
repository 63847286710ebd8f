"""The pass that weak-to-strong methods share: a pseudo-label of the weak view teaches the strong view."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from diffmatch.learning.batch import Labelled, Pool
from diffmatch.learning.method import Method, evaluating
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


def weak_to_strong(scores: Scores, labelled: Labelled, pool: Pool) -> tuple[Tensor, Tensor]:
    """Scores of the labelled images and of the CutMixed strong views, in one pass; strong views lose feature channels.

    The targets of the strong views are `mixed_targets` of the pseudo-labels.
    """
    own, strong = in_one_pass(scores, (labelled.images, False), (cutmix(pool.strong[0], pool.boxes), True))
    return own, strong


class WeakToStrong(Method[T]):
    """Pseudo-labels are the network's own on the weak view, in eval mode, accepted by a threshold (FixMatch, Eq. 4)."""

    def scores(self, images: Tensor, perturbed: Tensor | None = None) -> Tensor:
        """Class scores (N, C, H, W); the discriminative twin answers with its own network."""
        scores: Tensor = self.network(images, perturbed)
        return scores

    @torch.no_grad()
    def pseudo_labels(self, images: Tensor, keys: Sequence[str], inside: Tensor | None = None) -> PseudoLabels:
        with evaluating(self.network):
            return accepted_by(self.scores(images).softmax(1), self.settings.method, inside)

    def probabilities(self, images: Tensor, keys: Sequence[str], offset: tuple[int, int] = (0, 0)) -> Tensor:
        return self.scores(images).softmax(1)
