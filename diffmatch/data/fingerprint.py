"""What a data set is, wherever it lies: what its files hold, and what the plugin makes of them."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from diffmatch.domain import SPLITS, Domain, InputError, Item, paths_in
from diffmatch.progress import Bar
from diffmatch.records.schema import FingerprintOf
from diffmatch.shared.files import digest, write_atomically

SETTLED = 2 * 10**9
"""Nanoseconds after which a file that changes again has another time of change on every file system."""
QUIET = 1.0
"""Seconds of reading without a progress bar."""

State = tuple[int, int, int, int]
"""Size, time of modification and time of change in nanoseconds, inode: together they differ where a file differs."""
Known = dict[str, tuple[State, str]]
_KNOWN = TypeAdapter(Known)


@dataclass(frozen=True)
class Fingerprint:
    """Two data sets share it only if they train the same.

    Attributes:
        sha256: of the names and contents of the files, and of what the plugin makes of them.
        names_and_sizes: sha256 of the files' names and sizes, which older records hold.
        files: name relative to the root -> digest of what the file holds.
    """

    sha256: str
    names_and_sizes: str
    files: Mapping[str, str]

    def of(self, kind: FingerprintOf) -> str:
        """The one that a record of this kind is compared with."""
        return self.sha256 if kind == "contents" else self.names_and_sizes


def look_at(paths: Mapping[str, Path], store: Path) -> Known:
    """Name -> state and digest (BLAKE2b, 128 bits) of the whole file.

    Args:
        store: a file that remembers the digests. A file is read again unless its state is the remembered one. Processes
            that write it at once lose at most each other's news.

    Raises:
        InputError: a file is not there or cannot be read.
    """
    known, now = _remembered(store), time.time_ns()
    states = {name: _state(path) for name, path in paths.items()}
    found = {name: known[name][1] for name, state in states.items() if name in known and known[name][0] == state}
    missing = {name: path for name, path in paths.items() if name not in found}
    found |= zip(missing, _read(list(missing.values())), strict=True)
    seen = {name: (state, found[name]) for name, state in states.items()}
    settled = {name: entry for name, entry in seen.items() if entry[0][2] < now - SETTLED}
    if settled != known:
        with suppress(OSError):  # a cache that cannot be written costs time, nothing else
            write_atomically(store, lambda handle: handle.write(json.dumps(settled).encode()))
    return seen


def _remembered(store: Path) -> Known:
    try:
        return _KNOWN.validate_json(store.read_bytes())
    except (OSError, ValidationError):  # not there yet, or damaged
        return {}


def _state(path: Path) -> State:
    try:
        status = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _read(paths: list[Path]) -> Iterator[str]:
    """The digests of some files, read by several threads."""
    threads = min(16, 4 * (os.cpu_count() or 1))
    began, bar = time.monotonic(), None
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPool(threads)) if len(paths) > 1 else None
        chunk = max(1, min(64, len(paths) // (4 * threads)))
        for done, found in enumerate(pool.imap(_digest, paths, chunk) if pool else map(_digest, paths)):
            if bar is None and time.monotonic() - began > QUIET:
                bar = stack.enter_context(Bar("look for changed files", len(paths), start=done))
            if bar:
                bar.advance()
            yield found


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be read ({error.strerror}); bring the file back, or allow reading it")


def lines_digest(rows: Iterable[str]) -> str:
    """sha256 of the sorted lines."""
    return hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest()


def names_of(root: Path, items: Iterable[Item]) -> set[str]:
    """The files that some items refer to, relative to the root."""
    return {path.relative_to(root).as_posix() for path in {path for item in items for path in paths_in(item.ref)}}


def sizes_of(root: Path, items: Iterable[Item]) -> str | None:
    """sha256 of names and sizes of the files that some items refer to; None where they refer to none."""
    names = names_of(root, items)
    return lines_digest(f"{name} {(root / name).stat().st_size}" for name in names) if names else None


def concerning(domain: Domain, files: Mapping[str, str], items: Iterable[Item]) -> dict[str, str]:
    """Those of a set's files that bear on some items: without the files that only other items refer to."""
    every = (item for split in SPLITS for item in domain.index(split))
    others = names_of(domain.root, every) - names_of(domain.root, items)
    return {name: files[name] for name in sorted(files.keys() - others)}


def made_of(domain: Domain, items: Iterable[Item] = ()) -> str:
    """sha256 of what the plugin makes of the files: classes, channels, the reading, and the files of some items."""
    card = domain.card
    parts = {name: getattr(card, name) for name in ("names", "background", "dates", "channels", "label_unit")}
    reading = domain.reading.model_dump(mode="json", exclude_defaults=True)
    rows = [
        (item.id, item.case, item.masked, [path.relative_to(domain.root).as_posix() for path in paths_in(item.ref)])
        for item in sorted(items, key=lambda item: item.id)
    ]
    return digest({**parts, "reading": reading, "items": rows})
