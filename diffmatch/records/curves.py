"""curves.csv: losses, rates and pseudo-label counts over the training."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

from diffmatch.records import packed


class Curves:
    """curves.csv: appended as training goes; on resume, rows after the checkpoint's step are dropped."""

    FIELDS = ("step", "name", "class", "value")

    def __init__(self, path: Path, upto: int = -1) -> None:
        self.path = path
        kept = [row for row in self.read(path) if int(row["step"]) <= upto] if path.exists() else []
        with path.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, self.FIELDS)
            writer.writeheader()
            writer.writerows(kept)

    def append(self, rows: Iterable[tuple[int, str, str, float | int]]) -> None:
        with self.path.open("a", newline="") as handle:
            csv.writer(handle).writerows(rows)

    @staticmethod
    def read(path: Path) -> Iterator[dict[str, str]]:
        """Complete rows; a line cut off by a kill is left out."""
        rows = csv.reader(io.StringIO(packed.read_bytes(path).decode(), newline=""))
        names = next(rows, [])
        for row in rows:
            if len(row) == len(names) and row[-1]:
                yield dict(zip(names, row, strict=True))
