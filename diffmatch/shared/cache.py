"""Decoded arrays on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffmatch.shared.files import write_atomically


class Cache:
    """Decoded arrays, one .npy file each, written atomically: two workers that decode the same volume do no harm.

    Args:
        folder: created when first written to; None keeps nothing and decodes every time.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def array(self, key: str, decode: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """The array stored under `key` (memory-mapped, read-only), decoding and storing it if it is not there."""
        if self.folder is None:
            return decode()
        path = self.folder / f"{key.replace('/', '__')}.npy"
        if not path.exists():
            values = decode()
            write_atomically(path, lambda handle: np.save(handle, values))
        return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]
