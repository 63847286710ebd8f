"""Contrast of pixels between classes: means, the choice of negatives, the loss. No shape depends on the data."""

from __future__ import annotations

import torch
from torch import Tensor

from diffmatch.learning.pseudo_labels import pixels_per_class
from diffmatch.networks.precision import full_precision


def class_means(vectors: Tensor, members: Tensor) -> Tensor:
    """The mean vector of each class, (C, R), without gradient; 0 for a class without members.

    Args:
        vectors: (N, R, h, w).
        members: (N, C, h, w) bool, which positions belong to which classes.
    """
    with full_precision(vectors.device):  # a sum over many pixels is too large for half of it
        flat = members.movedim(1, 0).flatten(1).float()
        total = flat @ vectors.detach().float().movedim(1, -1).flatten(0, 2)
        return total / flat.sum(1, keepdim=True).clamp(min=1)


def related_negatives(relation: Tensor, labels: Tensor, count: int) -> Tensor:
    """Random pixels of other classes, more of them from related classes (Liu et al. 2022, ReCo).

    The class of a negative is drawn with probability softmax(relation) over the other classes that have pixels, the
    pixel evenly from its class.

    Args:
        relation: (C, C), the similarity of each pair of classes over the temperature.
        labels: (N, h, w) integers, void where there is no class.

    Returns:
        (C, count) positions in the flattened labels; without meaning where no other class has pixels.
    """
    classes = len(relation)
    sizes = pixels_per_class(labels, torch.ones_like(labels, dtype=torch.bool), classes)
    barred = torch.eye(classes, dtype=torch.bool, device=relation.device) | (sizes == 0)
    chosen = torch.multinomial(relation.masked_fill(barred, -1e9).softmax(1), count, replacement=True)
    place = torch.minimum((torch.rand(chosen.shape, device=chosen.device) * sizes[chosen]).long(), sizes[chosen] - 1)
    order = labels.flatten().argsort(stable=True)
    return order[((sizes.cumsum(0) - sizes)[chosen] + place).clamp(min=0)]


def info_nce(positive: Tensor, negatives: Tensor, valid: Tensor, present: Tensor, temperature: float) -> Tensor:
    """-log of the softmax over one positive and K negatives at the positive (van den Oord et al. 2018).

    It is the mean over each class's anchors, summed over the classes and divided by the number of classes present,
    those without anchors included; 0 with fewer than two classes (ReCo's and U2PL's code).

    Args:
        positive: (C, M), similarity of each anchor to its class.
        negatives: (C, M, K), to its negatives.
        valid: (C, M) bool, which anchors there are.
        present: (C,) bool, which classes there are.
    """
    logits = torch.cat([positive[..., None], negatives], 2) / temperature
    each = -logits.log_softmax(2)[..., 0] * valid
    classes = present.sum()
    return (each.sum(1) / valid.sum(1).clamp(min=1)).sum() / classes.clamp(min=1) * (classes > 1)
