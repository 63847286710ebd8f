"""Ctrl-C and SIGTERM between two steps, not in the middle of one."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from diffmatch.card import ExpectedError


class StoppedError(ExpectedError):
    """The user or the system asked to stop; a checkpoint of the last whole step is on disk."""

    exit_code = 130
    advice = "; the same command, or `diffmatch resume`, goes on from there"


class Stop:
    """Notes Ctrl-C and SIGTERM in `asked`, for the loop to look at between steps. A second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.asked = False
        self._old: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for name in (signal.SIGINT, signal.SIGTERM):
                self._old[name] = signal.signal(name, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for name, handler in self._old.items():
            signal.signal(name, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
