"""Files whose pixels are odd: of one value, saturated, or far from the others of the set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffmatch.domain import Card, Domain, Image, Item, Mask, Window, paths_in

TOLD = 5
"""Files that are named; the rest is counted."""
SATURATED, DARK = 0.5, 0.95
"""Shares of a file's values at white and above, and at black, that are odd. What a window leaves of CT may be dark."""
CUT = 0.01
"""Share of the foreground's values at the ends of a window that is odd."""
APART, FACTOR, ENOUGH = 6.0, 2.0, 8
"""Robust deviations and factor by which a mean or a contrast is far from the others', of so many files at least."""

COUNT, SUM, SQUARES, LEAST, MOST, BLACK, WHITE, MARKED, CUT_OFF = range(9)
"""What is measured; `MARKED` values are of the foreground, and `CUT_OFF` of them lie at the ends of the range."""


def measured(image: Image, mask: Mask | None, card: Card) -> NDArray[np.float64]:
    """What is measured of each date of an item, (dates, 9)."""
    rows = np.zeros((len(image), 9))
    marked = np.isin(mask, card.foreground) if mask is not None and mask.shape == image.shape[2:] else None
    for row, date in zip(rows, image, strict=True):
        ends = (date <= 0) | (date >= 1)
        row[:MARKED] = (
            date.size,
            date.sum(dtype=np.float64),
            np.vdot(date.astype(np.float64), date),
            date.min(),
            date.max(),
            np.count_nonzero(date <= 0),
            np.count_nonzero(date >= 1),
        )
        if marked is not None:
            row[MARKED:] = marked.sum() * len(date), (ends & marked).sum()
    return rows


class Oddities:
    """Looks of one set, file by file. The slices of a volume are one file."""

    def __init__(self, domain: Domain) -> None:
        reading, self.root = domain.reading, domain.root
        self.volumes = reading.kind == "volume"
        self.windowed = any(isinstance(scaling, Window) for scaling in reading.scaling)
        self.files: dict[str, NDArray[np.float64]] = {}

    def add(self, item: Item, rows: NDArray[np.float64]) -> None:
        """Take what was `measured` of an item."""
        path = next(paths_in(item.ref), None)
        name = item.id if path is None else _within(path, self.root)
        for date, row in enumerate(rows, 1):
            key = name if len(rows) == 1 else f"{name}, date {date}"
            known = self.files.get(key)
            if known is not None:
                least, most = min(known[LEAST], row[LEAST]), max(known[MOST], row[MOST])
                row = known + row
                row[LEAST], row[MOST] = least, most
            self.files[key] = row

    def told(self) -> list[str]:
        """A line for each kind of oddity."""
        return list(self._told()) if self.files else []

    def _told(self) -> Iterator[str]:
        names = sorted(self.files)
        looks, total = np.stack([self.files[name] for name in names]), len(names)
        flat = looks[:, LEAST] == looks[:, MOST]
        white, black = looks[:, WHITE] / looks[:, COUNT], looks[:, BLACK] / looks[:, COUNT]
        mean = looks[:, SUM] / looks[:, COUNT]
        contrast = np.sqrt(np.maximum(looks[:, SQUARES] / looks[:, COUNT] - mean**2, 0))
        far = ~flat & (_far(mean, ~flat) | _far(contrast, ~flat))
        kinds: Mapping[str, NDArray[np.bool_]] = {
            "zero throughout": flat & (looks[:, MOST] == 0),
            "of one value throughout": flat & (looks[:, MOST] != 0),
            "saturated, half of the values or more at white": ~flat & (white >= SATURATED),
            "black but for a few values": ~flat & (black >= DARK) & (not self.volumes),
            "far from the others in brightness or contrast": far,
        }
        for what, which in kinds.items():
            if which.any():
                yield f"{which.sum()} of {total} files are {what}: {_named(np.array(names)[which].tolist())}"
        marked, cut = looks[:, MARKED].sum(), looks[:, CUT_OFF].sum()
        if self.windowed and cut > CUT * marked:
            shares = looks[:, CUT_OFF] / np.maximum(looks[:, MARKED], 1)
            worst = [names[i] for i in np.argsort(-shares) if shares[i] > CUT]
            yield (
                f"{100 * cut / marked:.1f} % of what the masks mark is cut off at the ends of the window of values: "
                f"{_named(worst)}"
            )


def _far(values: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of them are far from the others, by the median deviation of their logarithms."""
    if known.sum() < ENOUGH:
        return np.zeros(len(values), bool)
    logs = np.log(np.maximum(values, 1e-6))
    off = np.abs(logs - np.median(logs[known]))
    far: NDArray[np.bool_] = (off > np.log(FACTOR)) & (off > APART * 1.4826 * np.median(off[known]))
    return far


def _within(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - TOLD} more" if len(names) > TOLD else ""
    return ", ".join(names[:TOLD]) + more
