"""curves.csv: losses, rates and pseudo-label counts over the training."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

from diffmatch.records import packed
from diffmatch.shared.failures import naming
from diffmatch.shared.files import write_atomically


class Curves:
    """curves.csv: appended as training goes; on resume, rows after the checkpoint's step are dropped."""

    FIELDS = ("step", "name", "class", "value")

    def __init__(self, path: Path, upto: int = -1) -> None:
        self.path = path
        kept = [row for row in self.read(path) if int(row["step"]) <= upto] if path.exists() else []
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.FIELDS)
        writer.writeheader()
        writer.writerows(kept)
        write_atomically(path, lambda handle: handle.write(text.getvalue().encode()))

    def append(self, rows: Iterable[tuple[int, str, str, float | int]]) -> None:
        with naming(self.path), self.path.open("a", encoding="utf-8", newline="") as handle:
            csv.writer(handle).writerows(rows)

    @staticmethod
    def read(path: Path) -> Iterator[dict[str, str]]:
        """Complete rows; a line cut off by a kill is left out."""
        text = packed.read_bytes(path)
        rows = csv.reader(io.StringIO(text[: text.rfind(b"\n") + 1].decode(), newline=""))
        names = next(rows, [])
        for row in rows:
            if len(row) == len(names) and row[-1]:
                yield dict(zip(names, row, strict=True))
