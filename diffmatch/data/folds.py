"""Cross-validation: the cases that have masks in n parts, each of which is the test set of one run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diffmatch.domain import Domain, InputError, Item


@dataclass(frozen=True)
class Fold:
    """The `number`-th of `count` folds, from 1 on. As a split it is called `fold-1-of-5`."""

    number: int
    count: int

    @classmethod
    def named(cls, split: str | None) -> Fold | None:
        """The fold that a split's name asks for; None for other names.

        Raises:
            InputError: there is no such fold.
        """
        match = re.fullmatch(r"fold-(\d+)-of-(\d+)", split or "")
        if match is None:
            return None
        fold = cls(int(match[1]), int(match[2]))
        if not 1 <= fold.number <= fold.count or fold.count < 2:
            raise InputError(f"{split}: there is no such fold; write fold-1-of-5 to fold-5-of-5")
        return fold

    def divided(self, items: Sequence[Item], domain: Domain, seed: int) -> tuple[list[Item], list[Item]]:
        """Training and test items: the test items are those of every `count`-th case in a seeded order.

        Cases of which an image has no mask are in no fold; they stay in training. Of a set that trains on slices and
        scores volumes, the domain divides the cases.

        Args:
            items: of all parts of the set.

        Raises:
            InputError: the set has too few cases, or cannot be divided.
        """
        bare = {item.case for item in items if not item.masked}
        cases = sorted({item.case for item in items} - bare)
        if len(cases) < self.count:
            raise InputError(f"{domain.root}: {len(cases)} cases have masks, too few for {self.count} folds")
        order = np.random.default_rng([seed, 0xF01D]).permutation(len(cases))
        scored = {cases[n] for n in order[self.number - 1 :: self.count]}
        if any(protocol.mode == "volume" for protocol in domain.card.protocols):
            domain.divide({case: "test" if case in scored else "train" for case in {item.case for item in items}})
            return domain.index("train"), domain.index("test")
        return [i for i in items if i.case not in scored], [i for i in items if i.case in scored]
