"""Which rows of a table may be set against each other, and which one their seeds tell to be the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import stdtrit

from diffmatch.records.comparable import Conditions
from diffmatch.scoring.metrics import direction
from diffmatch_reports.paper_cells import Filled, Place

BOLD = (
    "Bold: better than every other row of the same conditions, where the 95 % interval of the difference, paired by "
    "seed (Student's t), leaves out 0 for each of them; one seed makes nothing bold."
)
IN_COLUMN = ("dataset", "split")
"""Conditions that a column shares, or that change with the seed's label draw for all its rows alike."""


def told_apart(differences: Sequence[float]) -> bool:
    """Whether the 95 % interval of the mean of a few differences lies above 0 (Student's t, n - 1 degrees of freedom).

    Fewer than two tell nothing.
    """
    n = len(differences)
    if n < 2:
        return False
    half = stdtrit(n - 1, 0.975) * np.std(differences, ddof=1) / np.sqrt(n)
    return bool(np.mean(differences) > half)


def conditions(cell: Filled) -> dict[int, Conditions]:
    """Seed -> what its run was trained and scored under."""
    return {
        source.record.seed: Conditions.of(source.record, source.evaluation.protocol if source.evaluation else "")
        for source in cell.sources
    }


def comparable(one: Filled, other: Filled) -> bool:
    """Whether two cells agree in their conditions, for every seed that both have."""
    own, others = conditions(one), conditions(other)
    return all(own[seed] == others[seed] for seed in own.keys() & others.keys())


def winners(cells: Mapping[Place, Filled], by_seed: Any) -> set[Place]:
    """The measured cells to be printed bold, as `BOLD` says.

    Args:
        cells: those of columns that a row can win.
        by_seed: a series of numbers by row, column and seed.
    """
    best = set()
    for place, cell in cells.items():
        rivals = [
            other
            for other, theirs in cells.items()
            if other[1] == place[1] and other != place and theirs.measured and comparable(cell, theirs)
        ]
        if cell.measured and rivals:
            sign = direction(cell.column.metric)
            gains = [(sign * (by_seed[place] - by_seed[rival])).dropna().tolist() for rival in rivals]
            best |= {place} if all(map(told_apart, gains)) else set()
    return best


def apart(cells: Mapping[Place, Filled]) -> str:
    """A sentence that names the rows whose conditions differ within a column, and in what; empty where none do."""
    words: dict[str, dict[str, list[dict[str, str]]]] = {}
    for (row, column), cell in cells.items():
        if cell.measured:
            own = [one.words(without=IN_COLUMN) for one in conditions(cell).values()]
            words.setdefault(column, {})[row] = own
    names = {
        name: None
        for rows in words.values()
        for each in [[one for own in rows.values() for one in own]]
        for name in each[0]
        if len({one[name] for one in each}) > 1
    }
    groups: dict[str, dict[str, None]] = {}
    for rows in words.values():
        for row, own in rows.items():
            for one in own:
                text = ", ".join(f"{name} {one[name]}" for name in names)
                groups.setdefault(text, {})[row] = None
    if not names:
        return ""
    told = "; ".join(f"{', '.join(rows)}: {text}" for text, rows in groups.items())
    return f"Not all rows are comparable; bold and differences are among those that are. {told}."
