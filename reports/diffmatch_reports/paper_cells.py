"""A filled paper table: its cells, what was measured in them, and the runs behind the numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from diffmatch.records.schema import EvaluationRecord, RunRecord
from diffmatch.records.tables import Column, Row, Table

Place = tuple[str, str]
"""A cell: the row's name and the `key` of the column."""


def key(column: Column) -> str:
    """Name of a column in its table, with the heading above it."""
    return f"{column.group} {column.name}".strip()


@dataclass(frozen=True)
class Source:
    """One run behind a cell and the evaluation that was read."""

    folder: Path
    record: RunRecord
    evaluation: EvaluationRecord | None


@dataclass(frozen=True)
class Measured:
    """The values of one or more runs, seed by seed, as printed: percent, millions, images/s, seconds."""

    values: tuple[float, ...]

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @property
    def std(self) -> float | None:
        """Standard deviation (n - 1), from two runs on."""
        return float(np.std(self.values, ddof=1)) if self.n > 1 else None


@dataclass(frozen=True)
class Filled:
    """A cell as it is printed.

    Attributes:
        measured: None where nothing was measured. The cell is blank then, whatever the reason in `problem`.
        published: the paper's number, as printed there.
        difference: measured minus published; None where the two do not mean the same. `mark` is then the footnote that
            says why.
        best: its seeds tell it to be better than every comparable row of its column (`ranking.winners`).
        published_best: the best published number of its column, which is the smallest for a metric such as the ECE.
    """

    row: Row
    column: Column
    measured: Measured | None = None
    published: str | None = None
    difference: float | None = None
    mark: str = ""
    problem: str = ""
    best: bool = False
    published_best: bool = False
    sources: tuple[Source, ...] = ()


@dataclass
class PaperTable:
    """A filled table.

    Attributes:
        footnotes: mark -> what it says.
        basis: what the measured numbers rest on, in sentences.
        improvement: (baseline, `key` of the column) -> `ours` against that row, seed by seed. With one baseline it is
            an improvement, positive where `ours` is better. With several it is the difference, `ours` minus the row.
        published_improvement: the same of the published numbers.
        checkpoint: by which rule of SELECTION the checkpoints were chosen.
    """

    table: Table
    cells: dict[Place, Filled]
    footnotes: dict[str, str]
    basis: list[str]
    improvement: dict[Place, Measured] = field(default_factory=dict)
    published_improvement: dict[Place, float] = field(default_factory=dict)
    checkpoint: str = "last"

    @property
    def blank(self) -> list[str]:
        """Cells that an installed method should have filled and did not."""
        return [
            f"{cell.row.name}, {key(cell.column)}: {cell.problem or 'not run'}"
            for cell in self.cells.values()
            if cell.row.method and cell.measured is None and "not installed" not in cell.problem
        ]
