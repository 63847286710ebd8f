"""Scoring a method on test, val or the unlabelled pool: one function, whatever the world size."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from diffmatch.data.splits import Split
from diffmatch.domain import Domain, Image, InputError, Item, Mask, Protocol
from diffmatch.learning.labelling import in_mode
from diffmatch.learning.method import Method
from diffmatch.progress import Bar
from diffmatch.records.counts import Counts
from diffmatch.scoring.counting import count, gathered, surface_distances
from diffmatch.scoring.inference import batches, frame, framed, predict_item
from diffmatch.settings import Data, Section

Part = Literal["test", "val", "unlabeled"]
POOL_LIMIT = 1000
"""The most items of the unlabelled pool that are scored, drawn with a fixed seed."""


def members(split: Split, part: Part, protocol: Protocol) -> list[Item]:
    """The items behind a part: a protocol may pool several splits for its test figure."""
    if part == "unlabeled":
        items = [i for i in split.unlabelled if i.masked]
        return (
            items
            if len(items) <= POOL_LIMIT
            else sorted(random.Random(0).sample(items, POOL_LIMIT), key=lambda i: i.id)
        )
    if part == "val":
        return list(split.val)
    return [item for name in protocol.splits for item in {"train": (), "val": split.val, "test": split.test}[name]]


def shares(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """The items in groups of `size`, to be dealt to ranks.

    An item has the same neighbours in its batch for any number of ranks, and so the same rounding.
    """
    return [items[first : first + size] for first in range(0, len(items), size)]


@torch.no_grad()
def evaluate(
    method: Method[Section],
    domain: Domain,
    items: Sequence[Item],
    protocol: Protocol,
    *,
    bar: Bar,
    distances: bool,
    device: torch.device,
    rank: int = 0,
    world: int = 1,
) -> Counts:
    """Counts of test or val items, each predicted whole.

    Each rank predicts its share; the sum over the ranks is returned on all of them.

    Args:
        distances: surface distances of volumes too.
    """
    card, settings = domain.card, method.settings
    counts = Counts(len(card.classes))
    with in_mode(method, "eval"):
        for item in bar.track(items[rank::world]):
            sample = domain.read(item, mask=True)
            truth = known_mask(item, sample.mask)
            prediction = predict_item(method, item, sample.image, settings.data, protocol, settings.eval.batch, device)
            if prediction.probabilities.shape[1:] != truth.shape:
                raise InputError(
                    f"{item.id}: image and mask differ in size, {prediction.probabilities.shape[1:]} and {truth.shape}"
                )
            count(
                counts,
                item.id,
                torch.from_numpy(prediction.probabilities),
                torch.from_numpy(truth),
                background=card.background,
            )
            if distances and truth.ndim == 3:
                labels = prediction.labels
                counts.surface[item.id] = surface_distances(
                    labels, truth, card.foreground, counts.classes, sample.spacing
                )
    return gathered(counts)


@torch.no_grad()
def evaluate_pool(
    method: Method[Section],
    domain: Domain,
    items: Sequence[Item],
    *,
    bar: Bar,
    device: torch.device,
    rank: int = 0,
    world: int = 1,
) -> Counts:
    """Counts of the teacher's pseudo-labels of pool items against the hidden truth (Figures 1, 4, 5, 8).

    The images are not augmented.
    """
    card, settings = domain.card, method.settings
    counts = Counts(len(card.classes))
    masks: dict[str, Mask] = {}

    def read(chunk: Sequence[Item]) -> Iterator[tuple[Item, Image]]:
        for item in bar.track(chunk):
            sample = domain.read(item, mask=True)
            masks[item.id] = known_mask(item, sample.mask)
            yield item, sample.image

    chunks = shares(items, settings.eval.batch)[rank::world]
    for group in (group for chunk in chunks for group in batches(read(chunk), settings.eval.batch)):
        images = torch.stack([torch.from_numpy(image.copy()) for _, image in group]).to(device)
        probabilities, accepted = pool_labels(method, images, [item.id for item, _ in group], settings.data)
        for i, (item, _) in enumerate(group):
            truth = torch.from_numpy(masks.pop(item.id).copy())
            count(counts, item.case, probabilities[i].cpu(), truth, accepted[i].cpu(), card.background)
    return gathered(counts)


def pool_labels(method: Method[Section], images: Tensor, keys: Sequence[str], data: Data) -> tuple[Tensor, Tensor]:
    """Pseudo-labels of raw images (N, dates, channels, H, W), on their own grid.

    Returns probabilities (N, C, H, W) and acceptance (N, H, W).
    """
    ready, back = framed(images, data)
    inside = frame(torch.ones_like(images[:, :1, :1]), data)[0][:, 0, 0] > 0.5
    pseudo = method.pseudo_labels(ready, keys, inside)
    return back(pseudo.probabilities), back(pseudo.accepted[:, None].float())[:, 0] >= 0.5


def known_mask(item: Item, mask: Mask | None) -> Mask:
    if mask is None:
        raise InputError(f"{item.id}: has no mask to be scored against")
    return mask
