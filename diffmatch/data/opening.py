"""Where a data set lies, how it is opened, and the cache of what was decoded."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from diffmatch import invented, readers
from diffmatch.domain import Cache, Domain, InputError, Item, paths_in
from diffmatch.readers.lists import canonical, store

KEPT = 14 * 24 * 3600
"""Seconds after which decoded arrays that nobody opened are deleted."""


def cache_root() -> Path:
    """$DIFFMATCH_CACHE, else ~/.cache/diffmatch: decoded arrays and fabricated data."""
    return Path(os.environ.get("DIFFMATCH_CACHE") or Path.home() / ".cache" / "diffmatch")


def find_data(domain: type[Domain], given: Path | None, size: int = 1) -> tuple[Path, bool]:
    """The data root and whether it is fabricated: `given`, else $DIFFMATCH_DATA/<name>, else made by the plugin.

    Args:
        size: see `fabricated_data`.

    Raises:
        InputError: `given` does not exist or is empty; it is never replaced by something else. Or nothing is given and
            the domain cannot invent data.
    """
    name = domain.card.name
    if given is not None:
        if not given.is_dir():
            raise InputError(f"--data {given}: no such folder. {domain.card.source}")
        if not any(given.iterdir()):
            raise InputError(f"--data {given}: the folder is empty. {domain.card.source}")
        return given, False
    if (base := os.environ.get("DIFFMATCH_DATA")) and (Path(base) / name).is_dir():
        return Path(base) / name, False
    return fabricated_data(domain, size), True


def fabricated_data(domain: type[Domain], size: int = 1) -> Path:
    """The root of the data that the plugin invents; made on the first call, kept in the cache.

    Args:
        size: in multiples of the smallest set; 1 holds the smallest published budget (`size_for`).

    Raises:
        InputError: the domain cannot invent data.
    """
    name = domain.card.name
    made_by = hashlib.sha256(fabricator_source(domain)).hexdigest()[:8]
    root = cache_root() / "fabricated" / f"{name}-{domain.card.version}-{made_by}{f'-x{size}' if size > 1 else ''}"
    if not root.exists():
        root.parent.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(dir=root.parent, prefix=f".{name}-"))
        try:
            domain.fabricate(making, size=size)
            making.rename(root)
        except OSError:
            if not root.exists():  # otherwise another process was faster
                raise
        finally:
            shutil.rmtree(making, ignore_errors=True)
    return root


def size_for(domain: type[Domain], budgets: Iterable[str]) -> int:
    """How many times the smallest invented set is needed for the largest of some published budgets."""
    sizes = [domain.sizes[name] for budget in budgets if (name := canonical(domain, budget)) in domain.sizes]
    return math.ceil(max(sizes) / min(domain.sizes.values())) if sizes else 1


def fabricator_source(domain: type[Domain]) -> bytes:
    """What fabricated data depend on: the text of plugin and painters, and the split lists that gave the names."""
    module = __import__(domain.__module__)
    sources = [*Path(module.__file__ or "").parent.glob("diffmatch_*.py")]
    sources += [path for package in (invented, readers) for path in Path(package.__path__[0]).glob("*.py")]
    sources += (store() / domain.card.name).rglob("*.txt")
    return b"".join(path.read_bytes() for path in sorted(sources))


def open_domain(domain: type[Domain], root: Path) -> tuple[Domain, str]:
    """The domain on its root with its cache, and the data's fingerprint: sha256 of relative names and sizes."""
    opened = domain(root)
    stats = [(path.relative_to(root).as_posix(), path.stat()) for path in opened.files()]
    state = _digest([str(root.resolve()), *(f"{name} {status.st_size} {status.st_mtime_ns}" for name, status in stats)])
    opened.prepare(_decoded(opened.card.name, f"{opened.card.version}-{state[:16]}"))
    return opened, _digest(f"{name} {status.st_size}" for name, status in stats)


def files_of(root: Path, items: Iterable[Item]) -> str | None:
    """sha256 of relative names and sizes of the files that some items refer to; None where they refer to none."""
    paths = {path for item in items for path in paths_in(item.ref)}
    return _digest(f"{path.relative_to(root).as_posix()} {path.stat().st_size}" for path in paths) if paths else None


def _decoded(name: str, state: str) -> Cache:
    """The cache of decoded arrays for a dataset's files as they are now.

    Cached arrays whose source changed or disappeared are deleted after KEPT seconds without use.
    """
    folder = cache_root() / "decoded" / f"{name}-{state}"
    with suppress(OSError):  # not there yet, or another user's
        os.utime(folder)
    for other in folder.parent.glob(f"{name}-*"):
        with suppress(OSError):  # another process was faster
            if other != folder and time.time() - other.stat().st_mtime > KEPT:
                shutil.rmtree(other, ignore_errors=True)
    return Cache(folder)


def _digest(rows: Iterable[str]) -> str:
    """sha256 of the sorted lines."""
    return hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest()
