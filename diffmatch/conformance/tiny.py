"""A plugin on a tiny network: what the conformance suites train and score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from diffmatch.data.loading import labelled_pixels
from diffmatch.data.opening import open_domain
from diffmatch.data.splits import Split, make_split
from diffmatch.domain import Domain, InputError
from diffmatch.learning import registry
from diffmatch.learning.method import Method, Statistics
from diffmatch.running.plan import settings_of
from diffmatch.settings import Section, Settings

T = TypeVar("T")
STUB: dict[str, Any] = {
    "network.encoder": "plain2",
    "network.dim": 16,
    "network.heads": 2,
    "network.layers": 1,
    "data.crop": 32,
    "train.batch": 2,
}
"""Settings that make any recipe's network tiny."""
LOOKED_AT = 24
"""Items that are read by checks that need not read all."""


def spread(items: Sequence[T], at_most: int = LOOKED_AT) -> list[T]:
    """At most so many of the items, evenly spread."""
    return [items[n * len(items) // at_most] for n in range(at_most)] if len(items) > at_most else list(items)


def smallest(opened: Domain, seed: int = 0) -> Split:
    """The split of the first budget of the card that these data can give."""
    errors = []
    for budget in opened.card.budgets:
        try:
            return make_split(opened, budget, seed, partial=True)
        except InputError as error:
            errors.append(str(error))
    raise InputError(errors[0])


def tiny(domain: type[Domain], root: Path) -> tuple[Domain, Split, Method[Section], Settings[Section]]:
    """The opened domain with diffmatch on a tiny network, initialised from seed 0."""
    opened, _ = open_domain(domain, root)
    split = smallest(opened)
    method = registry.method("diffmatch")
    settings = settings_of(opened, method, "quick", STUB)
    pixels = labelled_pixels(opened, split.labelled).sum(0)
    torch.manual_seed(0)
    built = method.build(
        opened.card, settings, Statistics(tuple(map(int, pixels)), len(split.labelled), len(split.unlabelled))
    )
    return opened, split, built, settings
