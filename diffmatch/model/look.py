"""How classes appear in files: their names, their colours and the numbers that stand for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffmatch.card import Card

Color = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Look:
    """The classes as files show them.

    Attributes:
        names: in the classes' order, as are the others.
        colors: (r, g, b) in 0..255.
        values: the numbers that mask files hold.
        background: class 0 is background, which an overlay leaves clear.
    """

    names: tuple[str, ...]
    colors: tuple[Color, ...]
    values: tuple[int, ...]
    background: bool

    @classmethod
    def of(cls, card: Card, values: Sequence[int]) -> Look:
        """The look of a card's classes, with the numbers of the data set's own masks."""
        return cls(tuple(card.names), tuple(info.color for info in card.classes), tuple(values), card.background)

    @property
    def stored(self) -> NDArray[Any]:
        """The number in a file by class index, uint8 or uint16."""
        return np.array(self.values, np.uint8 if max(self.values) <= 255 else np.uint16)

    @property
    def by_value(self) -> dict[int, Color]:
        """Colours by the number in a file."""
        return dict(zip(self.values, self.colors, strict=True))
