"""The labelled and the unlabelled stream.

Draw n is the same whatever the workers, the ranks or the time of resuming.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from diffmatch.data import augment
from diffmatch.data.fetching import fetched
from diffmatch.domain import Domain, InputError, Item
from diffmatch.learning.batch import Batch, Labelled, Pool
from diffmatch.learning.method import Views
from diffmatch.settings import Data
from diffmatch.shared.machine import shared_memory, usable_cores

LITTLE = 1 << 25
"""Bytes of shared memory below which batches are not loaded by other processes."""
PARTNER = 2
"""Name of the stream of the images that CutMix takes pixels from; the labelled one is 0, the pool 1."""


def labelled_pixels(domain: Domain, items: Sequence[Item]) -> NDArray[np.int64]:
    """Pixels per class of each labelled item, (items, C), read once before training: bad masks surface here."""
    classes = len(domain.card.classes)
    rows = []
    for item in items:
        mask = domain.read(item, mask=True).mask
        if mask is None:
            raise InputError(f"{item.id} is in the labelled set but has no mask")
        rows.append(np.bincount(mask.ravel(), minlength=256)[:classes])
    return np.stack(rows)


class Stream:
    """An endless order of items: a new permutation per pass, or weighted draws. `item(n)` needs no history."""

    def __init__(self, items: Sequence[Item], seed: int, name: int, weights: NDArray[np.float64] | None = None) -> None:
        self.items, self.seed, self.name = items, seed, name
        self.cumulative = None if weights is None else np.cumsum(weights / weights.sum())
        self._pass: tuple[int, NDArray[np.int64]] | None = None

    def rng(self, n: int, purpose: int = 1) -> np.random.Generator:
        """The generator of draw n, for its views (purpose 1) or its CutMix box (3).

        Two generators, so that the views are the same with and without a box.
        """
        return np.random.default_rng([self.seed, self.name, purpose, n])

    def item(self, n: int) -> Item:
        if self.cumulative is not None:
            u = self.rng(n, 2).random()
            return self.items[min(int(np.searchsorted(self.cumulative, u, "right")), len(self.items) - 1)]
        turn, place = divmod(n, len(self.items))
        if self._pass is None or self._pass[0] != turn:
            self._pass = turn, np.random.default_rng([self.seed, self.name, 0, turn]).permutation(len(self.items))
        return self.items[int(self._pass[1][place])]


@dataclass(frozen=True)
class Drawn:
    """One image's tensors, ready to stack, and the draw's key."""

    tensors: dict[str, Tensor]
    key: str


@dataclass(frozen=True)
class Draw:
    """One labelled and, where asked for, one unlabelled sample, and the one that CutMix takes pixels from."""

    labelled: Drawn
    pool: Drawn | None = None
    partner: Drawn | None = None


class Draws(Dataset[Draw]):
    """Draw n of both streams. An unlabelled item's mask is never opened here."""

    def __init__(self, domain: Domain, labelled: Stream, pool: Stream, data: Data, views: Views) -> None:
        self.domain, self.labelled, self.pool, self.data, self.views = domain, labelled, pool, data, views
        self.partner = Stream(pool.items, pool.seed, PARTNER)

    def __getitem__(self, n: int) -> Draw:
        item, rng = self.labelled.item(n), self.labelled.rng(n)
        sample = self.domain.read(item, mask=True)
        assert sample.mask is not None
        view = augment.weak(tensor(sample.image), tensor(sample.mask), self.data, rng)
        assert view.mask is not None
        own = Drawn({"images": augment.normalised(view.image, self.data), "masks": view.mask}, f"{item.id}#{n}")
        if not self.views.unlabelled:
            return Draw(own)
        mixes = self.views.partner and self.views.mixing(self.data) > 0
        return Draw(own, self.unlabelled(self.pool, n), self.unlabelled(self.partner, n) if mixes else None)

    def unlabelled(self, stream: Stream, n: int) -> Drawn:
        """The views of draw n of a stream of unlabelled items."""
        item, rng = stream.item(n), stream.rng(n)
        view = augment.weak(tensor(self.domain.read(item, mask=False).image), None, self.data, rng)
        tensors = {
            "weak": augment.normalised(view.image, self.data),
            "inside": view.inside,
            "boxes": augment.cutmix_box(self.data.crop, self.views.mixing(self.data), stream.rng(n, 3)),
        }
        for i in range(self.views.strong):
            tensors[f"strong{i}"] = augment.normalised(
                augment.strong(view.image, self.data, rng, self.views.photometry), self.data
            )
        return Drawn(tensors, f"{item.id}#{n}")


def tensor(array: NDArray[Any]) -> Tensor:
    """A tensor of a possibly memory-mapped, read-only array."""
    return torch.from_numpy(np.array(array))


class RankSteps(Sampler[list[int]]):
    """The draws of one rank, step by step.

    Step k of a global batch B has draws k B .. k B + B - 1; rank r has the r-th part of them.
    """

    def __init__(self, start: int, steps: int, batch: int, rank: int, world: int) -> None:
        if batch % world:
            raise InputError(f"train.batch={batch} cannot be divided among {world} devices")
        self.start, self.steps, self.batch, self.rank, self.share = start, steps, batch, rank, batch // world

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start, self.steps):
            first = step * self.batch + self.rank * self.share
            yield list(range(first, first + self.share))

    def __len__(self) -> int:
        return max(0, self.steps - self.start)


def collate(draws: list[Draw]) -> Batch:
    """The draws stacked into a batch."""
    stacked, keys = _stacked([draw.labelled for draw in draws])
    pool = _pool([draw.pool for draw in draws if draw.pool])
    if pool:
        pool.partner = _pool([draw.partner for draw in draws if draw.partner])
    return Batch(Labelled(stacked["images"], stacked["masks"], keys), pool)


def _pool(drawn: list[Drawn]) -> Pool | None:
    if not drawn:
        return None
    stacked, keys = _stacked(drawn)
    strong = tuple(stacked[name] for name in sorted(stacked) if name.startswith("strong"))
    return Pool(stacked["weak"], strong, stacked["inside"], stacked["boxes"], keys)


def _stacked(drawn: list[Drawn]) -> tuple[dict[str, Tensor], list[str]]:
    names = drawn[0].tensors
    return {name: torch.stack([one.tensors[name] for one in drawn]) for name in names}, [one.key for one in drawn]


class _Batches(Dataset[Batch]):
    """A step's draws as a batch."""

    def __init__(self, draws: Draws) -> None:
        self.draws = draws

    def __getitem__(self, numbers: list[int]) -> Batch:
        return collate([self.draws[n] for n in numbers])


def loader(draws: Draws, steps: RankSteps, workers: int, pin: bool) -> Iterator[Batch]:
    """The batches of one rank, step by step; errors are those of `fetched`."""
    return fetched(_Batches(draws), steps, workers, pin)


def default_workers() -> int:
    """min(4, usable cores); 0 on two cores and fewer, where the step itself needs them, and without shared memory."""
    cores = usable_cores()
    return 0 if cores <= 2 or shared_memory() < LITTLE else min(4, cores)
