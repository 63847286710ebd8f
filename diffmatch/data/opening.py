"""Where a data set lies, how it is opened, and the cache of what was decoded."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

from diffmatch import invented, plugins, readers
from diffmatch.data.fingerprint import Fingerprint, lines_digest, look_at, made_of
from diffmatch.domain import Cache, Domain, InputError
from diffmatch.readers.lists import canonical, store
from diffmatch.shared.walk import below, children

KEPT = 14 * 24 * 3600
"""Seconds after which what the cache holds of a data set that nobody opened is deleted."""


def cache_root() -> Path:
    """$DIFFMATCH_CACHE, else ~/.cache/diffmatch: digests of files, decoded arrays, fabricated data."""
    return Path(os.environ.get("DIFFMATCH_CACHE") or Path.home() / ".cache" / "diffmatch")


def find_data(domain: type[Domain], given: Path | None, size: int = 1) -> tuple[Path, bool]:
    """The data root and whether it is fabricated: `given`, else $DIFFMATCH_DATA/<name>, else made by the plugin.

    Args:
        size: see `fabricated_data`.

    Raises:
        InputError: `given` or $DIFFMATCH_DATA is not there, is empty, or holds no data set; it is never replaced by
            something else. Or nothing is given and the domain cannot invent data.
    """
    if given is not None:
        return _filled(f"--data {given}", given, domain), False
    if base := os.environ.get("DIFFMATCH_DATA"):
        own = _filled(f"$DIFFMATCH_DATA={base}", Path(base), domain) / domain.card.name
        if own.is_dir():
            return own, False
        if not {path.name for path in children(Path(base))} & {*plugins.domains.names()}:
            raise InputError(
                f"$DIFFMATCH_DATA={base}: holds no folder {own.name}, nor one of another data set; correct it, or "
                "unset it to use invented data"
            )
    return fabricated_data(domain, size), True


def _filled(named: str, folder: Path, domain: type[Domain]) -> Path:
    """The folder.

    Raises:
        InputError: it is not there or empty, as where a disk is not mounted; `named` says which.
    """
    if not folder.is_dir():
        raise InputError(f"{named}: no such folder. {domain.card.source}")
    if not any(folder.iterdir()):
        raise InputError(f"{named}: the folder is empty. {domain.card.source}")
    return folder


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
    """What fabricated data depend on: the plugin's modules, the painters, and the split lists that gave the names."""
    own = {kind.__module__.partition(".")[0] for kind in domain.__mro__ if issubclass(kind, Domain)} - {"diffmatch"}
    sources = {path for top in own for name in _installed_with(top) for path in _modules(name)}
    sources |= {path for package in (invented, readers) for path in Path(package.__path__[0]).glob("*.py")}
    sources |= {path for path in below(store() / domain.card.name) if path.suffix == ".txt"}
    return b"".join(path.read_bytes() for path in sorted(sources))


@cache
def _installed_with(top: str) -> set[str]:
    """A top-level module or package, and all others that its distribution installs."""
    owners = packages_distributions()
    mine = set(owners.get(top, ()))
    return {top, *(name for name, theirs in owners.items() if mine.intersection(theirs))}


def _modules(top: str) -> Iterator[Path]:
    """All modules of a package; a single module, and those beside it whose names begin with its own."""
    spec = sys.modules[top].__spec__ if top in sys.modules else find_spec(top)
    for folder in (spec and spec.submodule_search_locations) or ():
        yield from Path(folder).rglob("*.py")
    if (file := getattr(sys.modules.get(top), "__file__", spec and spec.origin)) and file.endswith(".py"):
        yield from Path(file).parent.glob(f"{Path(file).stem}*.py")


def open_domain(domain: type[Domain], root: Path) -> tuple[Domain, Fingerprint]:
    """The domain on its root with its cache, and the fingerprint of the data.

    Raises:
        InputError: the plugin cannot open the root, or a file cannot be read.
    """
    opened = domain(root)
    paths = [(path.relative_to(root).as_posix(), path) for path in opened.files()]
    place = str(root.resolve())
    seen = look_at(dict(paths), _kept("digests", opened.card.name, f"{lines_digest([place])[:16]}.json"))
    files = {name: found for name, (_, found) in seen.items()}
    contents = lines_digest(f"{name} {found}" for name, found in files.items())
    state = lines_digest([place, contents])[:16]
    opened.prepare(Cache(_kept("decoded", opened.card.name, f"{opened.card.version}-{state}")))
    sizes = lines_digest(f"{name} {seen[name][0][0]}" for name, _ in paths)
    return opened, Fingerprint(lines_digest([contents, made_of(opened)]), sizes, files)


def _kept(kind: str, dataset: str, state: str) -> Path:
    """A place in the cache for something of a data set.

    What other states of the set left there is deleted when nobody asked for it for KEPT seconds.
    """
    place = cache_root() / kind / f"{dataset}-{state}"
    with suppress(OSError):  # not there yet, or another user's
        os.utime(place)
    for other in place.parent.glob(f"{dataset}-*"):
        with suppress(OSError):  # another process was faster
            if other != place and time.time() - other.stat().st_mtime > KEPT:
                shutil.rmtree(other) if other.is_dir() else other.unlink()
    return place
