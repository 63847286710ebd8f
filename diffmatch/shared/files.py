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

from diffmatch.shared.failures import naming, refused

UNFINISHED = ".new-"
"""How the names of files that are being written begin."""
TRIED = 1 << 20
"""Bytes of a further try to write."""


@contextmanager
def beside(path: Path, sync: bool = True) -> Iterator[Path]:
    """A file to write in place of `path`, for libraries that want a name.

    It lies in the same folder, has the same ending and takes the place of `path` only when the block is done and its
    bytes are on disk. After an error in the block, it is deleted. What a killed process leaves is hidden.

    Args:
        sync: wait for the disk; not worth it for what is quickly made again.

    Raises:
        OSError: the system refuses the file, whatever class of error the library makes of that; `path` is named.
    """
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=UNFINISHED, suffix=f".{path.name}")
    os.close(descriptor)
    try:
        with naming(path):
            yield Path(name)
            if sync:
                with Path(name).open("rb+") as handle:
                    os.fsync(handle.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(path)
    except BaseException as error:
        refusal = _refusal(Path(name), path) if isinstance(error, Exception) and refused(error) is None else None
        Path(name).unlink(missing_ok=True)
        if refusal:
            raise refusal from error
        raise


def _refusal(new: Path, path: Path) -> OSError | None:
    """Why the system takes no more bytes of a file that a library failed to write; None where it does.

    torch, numpy and others lose the error's number on the way, so that only a further try tells.
    """
    try:
        with new.open("ab") as handle:
            handle.write(bytes(TRIED))
            handle.flush()
            os.fsync(handle.fileno())
    except OSError as error:
        return OSError(error.errno, error.strerror, str(path))
    return None


def sweep(folder: Path) -> None:
    """Delete the unfinished files that killed processes left in a folder that nobody else writes to now."""
    for path in folder.glob(f"{UNFINISHED}*"):
        path.unlink(missing_ok=True)


def write_atomically(path: Path, write: Callable[[Any], object]) -> None:
    """Call `write` with an open binary file that takes the place of `path` only when it is complete and on disk."""
    with beside(path) as new, new.open("wb") as handle:
        write(handle)


def write_text(path: Path, text: str) -> None:
    """A page's text as UTF-8, whole or not at all; what is no character (in a file's name) is replaced."""
    with beside(path, sync=False) as new:
        new.write_text(text, encoding="utf-8", errors="replace")


def write_json(path: Path, content: Any) -> None:
    """Indented JSON, atomically; NaN is refused, because a number not computed is absent."""
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    write_atomically(path, lambda handle: handle.write(text.encode()))


def digest(content: Any) -> str:
    """sha256 of the canonical JSON of `content`: the order of keys does not matter."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()
