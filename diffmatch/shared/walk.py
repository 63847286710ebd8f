"""One walk of folders for all, and one form of the names found there."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path

LEFT = frozenset(
    {"__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini", "lost+found", "$RECYCLE.BIN", "System Volume Information"}
)
"""Names of what systems leave in folders."""


def seen(name: str) -> bool:
    """Whether a file or folder of this name is anybody's data: not hidden, and not left by a system."""
    return not name.startswith(".") and name not in LEFT


def children(folder: Path) -> list[Path]:
    """What lies in a folder and is anybody's data, sorted; nothing where there is no such folder.

    Raises:
        OSError: the folder cannot be read.
    """
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if seen(path.name))


def below(folder: Path) -> Iterator[Path]:
    """The files below a folder that are anybody's data, sorted. Links to folders are not followed.

    Raises:
        OSError: a folder cannot be read.
    """
    for path in children(folder):
        if path.is_dir() and not path.is_symlink():
            yield from below(path)
        elif path.is_file():
            yield path


def composed(name: str) -> str:
    """A name in Unicode's composed form (NFC): some systems store an accent beside its letter, others in one."""
    return unicodedata.normalize("NFC", name)
