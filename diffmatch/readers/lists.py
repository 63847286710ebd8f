"""Community split lists: read in the forms their authors publish, named by hash, kept in a store for later runs.

Forms that are read, all plain text with one item a line (`Domain.listed` makes the id of a line):

* UniMatch, U2PL: `<budget>/{labeled,unlabeled}.txt`, `val.txt`, `test.txt` beside or above; lines are pairs of paths,
  or bare ids;
* SemiCD: `5_train_supervised.txt`, `5_train_unsupervised.txt`, `val.txt`, `test.txt`;
* SSL4MIS: `train_slices.list`, `train.list`, `val.list`, `test.list`: a division without labelled members;
* TransUNet: `train.txt`, `test_vol.txt`: likewise.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from diffmatch.card import InputError
from diffmatch.domain import Domain
from diffmatch.readers import below, composed, inside, text_of
from diffmatch.shared.files import write_atomically

TRAIN = ("train_slices.list", "train_slices.txt", "train_aug.txt", "train.list", "train.txt")
VAL = ("val.list", "val.txt")
TEST = ("test.list", "test.txt", "test_vol.txt")

Opened = type[Domain] | Domain


@dataclass(frozen=True)
class Family:
    """Members that somebody fixed. None: the lists do not say.

    Attributes:
        name: what the community calls the lists, by the hash of the labelled ids; `lists-<hash>` if it is not a known
            one.
        budget: as typed on the command line (`1/16`, `5%`, `92`), None for a division without labelled members.
        labelled, unlabelled, val, test: item ids, or case ids.
    """

    name: str
    budget: str | None
    labelled: tuple[str, ...] | None
    unlabelled: tuple[str, ...] | None
    val: tuple[str, ...] | None
    test: tuple[str, ...] | None


def identity(ids: Iterable[str]) -> str:
    """sha256 of the sorted ids, joined by newlines."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()


def canonical(domain: Opened, budget: str) -> str:
    """The published budget that a count stands for (662 is 1/16 on PASCAL), else the budget as it is."""
    return {str(size): name for name, size in domain.sizes.items()}.get(budget, budget)


def store() -> Path:
    """Where `diffmatch splits` keeps lists: $DIFFMATCH_SPLITS, else the user's data folder."""
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(os.environ.get("DIFFMATCH_SPLITS") or Path(home) / "diffmatch" / "splits")


def read(folder: Path, domain: Opened, budget: str | None = None) -> list[Family]:
    """All families below a folder of lists, or those of one budget and those that have none.

    Raises:
        InputError: no lists there, an empty or unreadable list, a path that leaves the data root, or an id listed
            twice.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of split lists")
    families, labelled_lists = [], sorted(_labelled(folder))
    for labelled, typed in labelled_lists:
        own = canonical(domain, typed)
        if budget is not None and own != canonical(domain, budget):
            continue
        rest = labelled.with_name(labelled.name.replace("labeled", "unlabeled").replace("_supervised", "_unsupervised"))
        ids = ids_of(labelled, domain)
        unlabelled = ids_of(rest, domain) if rest.is_file() else None
        families.append(Family(_name(domain, ids), own, ids, unlabelled, *_scored(labelled.parent, folder, domain)))
    divisions = {path.parent for path in below(folder) if path.name in {*TRAIN, *TEST}}
    for place in sorted(divisions - {parent for path, _ in labelled_lists for parent in path.parents}):
        train = next((path for name in TRAIN if (path := place / name).is_file()), None)
        val, test = _scored(place, folder, domain)
        pool = ids_of(train, domain) if train else None
        families.append(Family(_name(domain, pool or test or ()), None, None, pool, val, test))
    if not families and not labelled_lists:
        raise InputError(
            f"{folder}: no labeled.txt, *_train_supervised.txt, train or test list below; name a folder of split lists"
        )
    for family in families:
        _check_disjoint(folder, family)
    return families


def _check_disjoint(folder: Path, family: Family) -> None:
    places: dict[str, str] = {}
    for part in ("labelled", "unlabelled", "val", "test"):
        for name in getattr(family, part) or ():
            if (other := places.setdefault(name, part)) != part:
                what = f"the lists for labels '{family.budget}'" if family.budget else "the lists"
                raise InputError(f"{folder}: {what} have '{name}' in {other} and in {part}; take it out of one")


def _labelled(folder: Path) -> Iterator[tuple[Path, str]]:
    """Lists of labelled items with their budgets."""
    for path in below(folder):
        if path.name == "labeled.txt":
            yield path, budget_of(path.parent.name)
        elif path.name.endswith("_train_supervised.txt"):
            yield path, f"{path.name.split('_')[0]}%"


def budget_of(name: str) -> str:
    """The budget that a folder's name stands for.

    `1_16`, `u2pl_1_16` and `1-16` are 1/16, `5%` and `5pct` 5%, `92` is 92.
    """
    if match := re.search(r"(?:^|_)(\d+)[_-](\d+)$", name):
        return f"{match[1]}/{match[2]}"
    return name.replace("pct", "%")


def _scored(start: Path, top: Path, domain: Opened) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """val and test ids from the nearest folder that has such lists, no higher than `top`.

    Lists with val alone are scored on it.
    """
    for folder in (start, *start.parents):
        val, test = (next((path for name in names if (path := folder / name).is_file()), None) for names in (VAL, TEST))
        if test:
            return (ids_of(val, domain) if val else ()), ids_of(test, domain)
        if val:
            return (), ids_of(val, domain)
        if folder == top:
            break
    return None, None


def ids_of(path: Path, domain: Opened) -> tuple[str, ...]:
    """The ids of one list, in its order. A last line without a newline counts."""
    try:
        lines = [line for line in text_of(path).splitlines() if line.strip()]
    except OSError as error:
        raise InputError(f"{path}: cannot be read as a list ({type(error).__name__})") from error
    if not lines:
        raise InputError(f"{path}: the list is empty")
    for word in (word for line in lines for word in line.split()):
        inside(path, word, path)
    ids = tuple(composed(domain.listed(line)) for line in lines)
    if len(set(ids)) != len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise InputError(f"{path}: '{twice}' is listed twice")
    return ids


def _name(domain: Opened, ids: Iterable[str]) -> str:
    own = identity(ids)
    return domain.families.get(own, f"lists-{own[:8]}")


def install(domain: Opened, folder: Path) -> list[tuple[Family, Path]]:
    """Copy a folder's families to the store as lists of ids; the same family and budget is replaced."""
    kept = []
    for family in read(folder, domain):
        place = store() / domain.card.name / family.name / _folder(family.budget)
        parts = {"labeled": family.labelled, "unlabeled": family.unlabelled, "val": family.val, "test": family.test}
        if family.labelled is None:
            parts = {"train": family.unlabelled, "val": family.val, "test": family.test}
        for part, ids in parts.items():
            if ids:
                write_atomically(place / f"{part}.txt", _lines(ids))
            else:
                (place / f"{part}.txt").unlink(missing_ok=True)
        kept.append((family, place))
    return kept


def _lines(ids: Iterable[str]) -> Callable[[object], object]:
    text = "".join(f"{i}\n" for i in ids).encode()
    return lambda handle: handle.write(text)  # type: ignore[attr-defined]


def _folder(budget: str | None) -> str:
    return "all" if budget is None else budget.replace("/", "_").replace("%", "pct")


def installed(domain: Opened, budget: str | None = None) -> list[Family]:
    """The store's families, or those that can serve a budget.

    Its own lists before divisions, known names before unknown ones.
    """
    folder = store() / domain.card.name
    families = read(folder, domain, budget) if folder.is_dir() else []
    order = list(dict.fromkeys(domain.families.values()))
    return sorted(
        families, key=lambda f: (f.budget is None, order.index(f.name) if f.name in order else len(order), f.name)
    )


def chosen(domain: Opened, budget: str | None, lists: str) -> Family:
    """The family of a budget in a folder of lists, or in the store under a family's name.

    Without a budget, the only one there is.

    Raises:
        InputError: neither, or the folder has no list for this budget.
    """
    at_hand = read(Path(lists), domain) if Path(lists).is_dir() else installed(domain)
    families = [f for f in at_hand if Path(lists).is_dir() or f.name == lists]
    fitting = [f for f in families if budget is None or f.budget in (None, canonical(domain, budget))]
    if len(fitting) != 1:
        there = ", ".join(sorted({f"{f.name} {f.budget or ''}".strip() for f in families})) or "none"
        what = "no list" if not fitting else f"{len(fitting)} lists"
        raise InputError(
            f"--split {lists}: {what} for labels '{budget or 'not given'}' (there: {there}); name another folder, "
            "or a family that `diffmatch splits` has installed"
        )
    return fitting[0]
