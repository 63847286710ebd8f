"""Ctrl-C and SIGTERM between two steps, not in the middle of one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, TypeVar

from diffmatch.card import ExpectedError


class StoppedError(ExpectedError):
    """The user or the system asked to stop; a checkpoint of the last whole step is on disk."""

    exit_code = 130
    advice = "; the same command, or `diffmatch resume`, goes on from there"


T = TypeVar("T")


class Stop:
    """Notes Ctrl-C and SIGTERM in `asked`, for the loop to look at between steps. A second Ctrl-C stops at once.

    Args:
        alone: no other process takes part in the loop, so that it may end while it waits for data.
    """

    def __init__(self, alone: bool = True) -> None:
        self.asked, self.alone = False, alone
        self._waiting = False
        self._old: dict[int, Any] = {}

    def waiting(self, batches: Iterator[T]) -> Iterator[T]:
        """The batches. A loop that is alone is over when it is asked to stop while it waits for one."""
        while True:
            self._waiting = self.alone
            try:
                if self.alone and self.asked:
                    return
                batch = next(batches)
            except StopIteration:
                return
            except KeyboardInterrupt:
                if self.alone:
                    return
                raise
            finally:
                self._waiting = False
            yield batch

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for name in (signal.SIGINT, signal.SIGTERM):
                self._old[name] = signal.signal(name, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for name, handler in self._old.items():
            signal.signal(name, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        again, self.asked = self.asked, True
        if again or self._waiting:
            raise KeyboardInterrupt
