"""One process at a time trains a run: of several on one folder the others go on elsewhere, or wait."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from diffmatch.domain import InputError


class HeldError(InputError):
    """Another process holds the run folder."""


@contextmanager
def held(folder: Path, wait: bool = False) -> Iterator[None]:
    """Hold a run folder. The lock ends with the process, however that ends; the file that stays behind locks nothing.

    Args:
        wait: until the other process lets go, instead of raising.

    Raises:
        HeldError: another process has it.
    """
    if os.environ.get("RANK", "0") != "0":  # of torchrun's processes the first one holds the folder for all
        yield
        return
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=wait)
    except Timeout:
        raise HeldError(
            f"{folder}: another process trains this run; wait for it, or stop it and go on from its checkpoint"
        ) from None
    try:
        yield
    finally:
        lock.release()
