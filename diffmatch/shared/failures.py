"""What the system refuses (room, rights, memory, a share that is gone), in words: only the user can mend it."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PLACE = (
    "mend that or name another place (--data, --out; $DIFFMATCH_CACHE for decoded and invented data, $DIFFMATCH_SPLITS "
    "for lists)"
)
FILES = "allow more open files (ulimit -n), or take fewer processes (--workers, --devices)"
GONE = "bring the disk or the share back and give the same command again"
MEMORY = "out of memory; take a smaller train.batch, data.crop or eval.batch, fewer --workers, or a larger machine"
SHARED = (
    "no room in shared memory (/dev/shm) for the loading processes; give the machine more (docker run --shm-size=8g), "
    "or load without them (--workers 0)"
)
LOADING = (
    "a loading process ended or hangs; see that memory suffices and the data answer, or load without (--workers 0)"
)
RANKS = "a process of this run ended or hangs; see that memory suffices, and give the same command again"

ADVICE: Mapping[int, str] = {
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), FILES),
    **dict.fromkeys(
        (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENODEV, errno.ENXIO), GONE
    ),
    **dict.fromkeys(
        (
            errno.EACCES,
            errno.EPERM,
            errno.EROFS,
            errno.ENOTDIR,
            errno.EISDIR,
            errno.ELOOP,
            errno.ENAMETOOLONG,
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EFBIG,
        ),
        PLACE,
    ),
}
"""What to do about an error of the system, by its number."""

TEXTS: Mapping[str, str] = {
    "can't allocate memory": MEMORY,
    "CUDA out of memory": MEMORY,
    "CUDA error: out of memory": MEMORY,
    "unable to allocate shared memory": SHARED,
    "out of shared memory": SHARED,
    "insufficient shared memory": SHARED,
    "DataLoader worker": LOADING,
    "DataLoader timed out": LOADING,
    "Connection closed by peer": RANKS,
    "Timed out waiting": RANKS,
    "terminated abruptly": RANKS,
}
"""What torch and the pools of processes say with an error of no class of its own, and what to do about it."""


def refused(error: BaseException) -> str | None:
    """What the system refused and what to do, in one line; None for an error of another kind."""
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return MEMORY
    if isinstance(error, OSError) and error.errno is not None and error.errno in ADVICE:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror}; {ADVICE[error.errno]}"
    if isinstance(error, MemoryError):
        return f"{MEMORY} ({error})" if str(error) else MEMORY
    if isinstance(error, RuntimeError):
        text = str(error)
        return next((advice for part, advice in TEXTS.items() if part in text), None)
    return None


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of the system in the block are about `path`, unless they name a file themselves.

    Raises:
        OSError: with its number, its words and a file's name.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
