"""Files written whole or not at all, and hashes of content."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A file to write in place of `path`, for libraries that want a name.

    It lies in the same folder, has the same ending and takes the place of `path` only when the block is done and its
    bytes are on disk. After an error in the block, it is deleted.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=f".{path.name}")
    os.close(descriptor)
    try:
        yield Path(name)
        with Path(name).open("rb+") as handle:
            os.fsync(handle.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_atomically(path: Path, write: Callable[[Any], object]) -> None:
    """Call `write` with an open binary file that takes the place of `path` only when it is complete and on disk."""
    with beside(path) as new, new.open("wb") as handle:
        write(handle)


def write_json(path: Path, content: Any) -> None:
    """Indented JSON, atomically; NaN is refused, because a number not computed is absent."""
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    write_atomically(path, lambda handle: handle.write(text.encode()))


def digest(content: Any) -> str:
    """sha256 of the canonical JSON of `content`: the order of keys does not matter."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()
