"""What a training measures of itself: sums between two rows of curves.csv, and the best validation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
import torch.distributed
from torch import Tensor

from diffmatch.learning.batch import Losses
from diffmatch.shared.ranks import over_ranks


@dataclass
class Meters:
    """Sums since the last row of curves.csv. They travel in the checkpoint, so that a resumed run writes the same rows.

    Pixels are those of all ranks, losses rank 0's.
    """

    steps: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    given: Tensor | None = None
    accepted: Tensor | None = None

    def add(self, losses: Losses, total: float) -> None:
        self.steps += 1
        for name, value in losses.terms.items():
            self.losses[name] = self.losses.get(name, 0.0) + float(value.detach())
        self.losses["total"] = self.losses.get("total", 0.0) + total
        if losses.given is not None and losses.accepted is not None:
            given, accepted = over_ranks(torch.stack([losses.given, losses.accepted]))
            self.given = given + (0 if self.given is None else self.given)
            self.accepted = accepted + (0 if self.accepted is None else self.accepted)

    def rows(self, step: int, names: list[str], lr: float, rate: float) -> Iterable[tuple[int, str, str, float | int]]:
        for name, value in self.losses.items():
            yield step, f"loss/{name}", "", value / self.steps
        yield step, "lr", "", lr
        yield step, "images_per_second", "", round(rate, 2)
        for series, counts in (("pseudo/count", self.given), ("pseudo/accepted", self.accepted)):
            if counts is not None:
                yield from ((step, series, name, int(n)) for name, n in zip(names, counts, strict=True))


@dataclass
class Best:
    """The best validation so far. Ties keep the earlier step."""

    value: float = float("-inf")
    step: int = 0
