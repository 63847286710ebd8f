"""Progress that fits where it is shown: a bar on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")
PLAIN_SECONDS = 10.0


class Bar:
    """Counts `total` steps under a title. `advance` may carry a note (loss, images/s).

    Args:
        shown: false on ranks other than 0 and where nobody looks.
    """

    def __init__(
        self, title: str, total: int, console: Console | None = None, start: int = 0, shown: bool = True
    ) -> None:
        self.title, self.total, self.done, self.first = title, total, start, start
        self.console = console or Console(stderr=True)
        self.shown = shown
        self.began = self.last = time.monotonic()
        self._progress: Progress | None = None
        if shown and self.console.is_terminal and total > 0:
            columns = (
                TextColumn("[bold]{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
            )
            self._progress = Progress(*columns, console=self.console, transient=False)
            self._task = self._progress.add_task(title, total=total, completed=start, note="")

    def __enter__(self) -> Bar:
        if self._progress:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress:
            self._progress.stop()

    def advance(self, note: str = "") -> None:
        self.done += 1
        if self._progress:
            self._progress.update(self._task, completed=self.done, note=note)
        elif self.shown and (self.done == self.total or time.monotonic() - self.last > PLAIN_SECONDS):
            self.last = time.monotonic()
            rate = (self.done - self.first) / max(self.last - self.began, 1e-9)
            left = (self.total - self.done) / max(rate, 1e-9)
            self.console.print(
                f"{self.title} {self.done}/{self.total} {note} {left:.0f} s left".replace("  ", " "), highlight=False
            )

    def track(self, items: Sequence[T] | Iterable[T]) -> Iterator[T]:
        """The items, one step each."""
        for item in items:
            yield item
            self.advance()


def silent() -> Bar:
    """A bar that nobody sees."""
    return Bar("", 0, shown=False)
