"""Label budgets and splits: who is labelled, who is not, who is scored; identity by hash, never by fraction alone."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from diffmatch.data.folds import Fold
from diffmatch.domain import SPLITS, Card, Domain, InputError, Item
from diffmatch.readers.lists import Family, canonical, chosen, installed


@dataclass(frozen=True)
class Budget:
    """How much is labelled.

    A count of units (`3`), a fraction rounded up (`1/16`), a percentage rounded down (`5%`), or `all` that have masks.
    """

    text: str

    def count(self, total: int) -> int:
        """Units out of `total`.

        Raises:
            InputError: not a budget, or not between 1 and total.
        """
        if self.text == ALL:
            n = total
        elif re.fullmatch(r"\d+", self.text):
            n = int(self.text)
        elif match := re.fullmatch(r"(\d+)/(\d+)", self.text):
            n = math.ceil(total * int(match[1]) / int(match[2])) if int(match[2]) else 0
        elif match := re.fullmatch(r"(\d+(?:\.\d+)?)%", self.text):
            n = math.floor(total * Fraction(match[1]) / 100)
        else:
            raise InputError(f"labels '{self.text}': write a count (3), a fraction (1/16), a percentage (5%) or all")
        if not 1 <= n <= total:
            raise InputError(f"labels '{self.text}' asks for {n} of {total}: at least 1 must be labelled")
        return n


ALL = "all"
"""The budget of everything that has a mask."""
PARTS = ("labelled", "unlabelled", "val", "test")


@dataclass(frozen=True)
class Split:
    """The members of a run.

    `sha256` identifies it. It is of the four sorted id lists, so that any difference in members shows.
    """

    family: str
    budget: str
    labelled: tuple[Item, ...]
    unlabelled: tuple[Item, ...]
    val: tuple[Item, ...]
    test: tuple[Item, ...]

    @property
    def items(self) -> tuple[Item, ...]:
        return (*self.labelled, *self.unlabelled, *self.val, *self.test)

    @property
    def sha256(self) -> str:
        lists = (self.labelled, self.unlabelled, self.val, self.test)
        return hashlib.sha256(
            "\n\n".join("\n".join(sorted(i.id for i in items)) for items in lists).encode()
        ).hexdigest()


def make_split(
    domain: Domain, budget: str | None, seed: int, lists: str | None = None, partial: bool = False, pool: bool = True
) -> Split:
    """The split of an opened domain at a label budget.

    Its labelled members are those of the lists that `lists` names; without, the community's (the plugin's own, or those
    that `diffmatch splits` installed); without any, a seeded draw.

    Args:
        budget: as typed; None: that of the lists, else the card's first.
        seed: of the draw (`data.split_seed`); published budgets do not depend on it.
        lists: a folder of split lists, the name of an installed family, or a fold (`fold-1-of-5`).
        partial: the data are fabricated and hold a part of the real set. Of unlabelled, val and test lists, what is
            there is taken; installed lists whose labelled members were not drawn are passed over.
        pool: something must be left unlabelled, as most methods need.

    Raises:
        InputError: an impossible budget (with those that are published), an empty split, an id or case in two places, a
            list that names what is not there, or that has not as many units as the count it is for.
    """
    items = Parts(*(domain.index(part) for part in ("train", "val", "test")))
    fold = Fold.named(lists)
    named = chosen(domain, budget, lists) if lists and not fold else None
    if budget is None:
        budget = (named and named.budget) or domain.card.budgets[0]
    published = None if lists else domain.published(budget)
    if published is None and named is None and fold is None:
        named = _installed(domain, budget, items, partial)
    if named:
        items = _divided(items, named, domain, partial)
    if fold:
        train, test = fold.divided(items.everything, domain, seed)
        items = Parts(train, [], test)
    if not items.train or not items.test:
        raise InputError(
            f"{domain.root}: {domain.card.name} finds {len(items.train)} training and {len(items.test)} test items; "
            "both are needed"
        )
    if published is not None:
        family, units = published.family, set(published.ids)
    elif named and named.labelled is not None:
        family, units = named.name, _listed_units(items.train, named, domain, lists)
    else:
        family, units = f"seeded-{seed}", _drawn_units(items.train, budget, domain, seed, whole_set=not (named or fold))
        family = ALL if budget == ALL else family
        family = f"{family} in {named.name if named else lists}" if named or fold else family
    labelled, unlabelled = _labelled(items.train, units, budget, domain, pool)
    split = Split(family, budget, labelled, unlabelled, tuple(items.val), tuple(items.test))
    check_disjoint(split, domain.card)
    return split


def recorded_split(domain: Domain, family: str, budget: str, ids: Mapping[str, Sequence[str]]) -> Split:
    """The split of an opened domain whose members a run has recorded; nothing is drawn and no list is read.

    Args:
        ids: of the items `labelled`, `unlabelled`, `val` and `test`.

    Raises:
        InputError: a member is not there.
    """
    there = {item.id: item for item in all_items(domain)}
    if missing := [name for names in ids.values() for name in names if name not in there]:
        raise InputError(
            f"{domain.root}: {len(missing)} items of the run's split are not there ({', '.join(missing[:3])}); "
            "bring the files back, or name the folder that has them with --data"
        )
    place = {name: n for n, name in enumerate(there)}
    parts = (tuple(there[name] for name in sorted(ids[part], key=place.__getitem__)) for part in PARTS)
    return Split(family, budget, *parts)


def all_items(domain: Domain) -> list[Item]:
    """The items of all parts of an opened domain."""
    return [item for part in SPLITS for item in domain.index(part)]


class Parts(NamedTuple):
    """The items of a data set by the part that they are in."""

    train: list[Item]
    val: list[Item]
    test: list[Item]

    @property
    def everything(self) -> list[Item]:
        return [*self.train, *self.val, *self.test]


def unit(item: Item, card: Card) -> str:
    """What is labelled as a whole: the item's case where the label unit is cases, else the item."""
    return item.case if card.label_unit == "cases" else item.id


def _installed(domain: Domain, budget: str, items: Parts, partial: bool) -> Family | None:
    """The first installed family of the budget; on partial data the first whose labelled members are there."""
    there = {name for item in items.everything for name in (item.id, item.case)}
    families = installed(domain, budget)
    return next((f for f in families if not partial or there.issuperset(f.labelled or ())), None)


def _divided(items: Parts, family: Family, domain: Domain, partial: bool) -> Parts:
    """The items as the family's lists divide them; a part that the lists do not mention stays."""
    everything, (train, val, test) = items.everything, items
    if family.val is not None:
        val = _pick(everything, family.val, f"{family.name} val", domain, partial)
    if family.test is not None:
        test = _pick(everything, family.test, f"{family.name} test", domain, partial)
    if family.unlabelled is not None:
        pool = [*(family.labelled or ()), *family.unlabelled]
        train = _pick(everything, pool, f"{family.name} train", domain, partial)
    return Parts(train, val, test)


def _listed_units(train: list[Item], family: Family, domain: Domain, lists: str | None) -> set[str]:
    """The labelled units that a family's list names.

    Raises:
        InputError: a member is not there, or the list has not as many units as the count that it is for.
    """
    picked = _pick(train, family.labelled or (), f"{family.name} {family.budget}", domain)
    units = {unit(item, domain.card) for item in picked}
    if family.budget and family.budget.isdigit() and len(units) != int(family.budget):
        raise InputError(
            f"{lists or family.name}: the list for labels '{family.budget}' has {len(units)} {domain.card.label_unit}: "
            "correct it, or name its folder after what it has"
        )
    return units


def _drawn_units(train: list[Item], budget: str, domain: Domain, seed: int, whole_set: bool) -> set[str]:
    """Labelled units drawn by the seed among those that have masks.

    Args:
        whole_set: a published size is one of the whole set; of a pool that lists fix, a fraction is that pool's.
    """
    card = domain.card
    size = str(domain.sizes.get(canonical(domain, budget), budget)) if whole_set else budget
    units = sorted({unit(item, card) for item in train if item.masked})
    try:
        count = Budget(size).count(len(units if size == ALL else {unit(item, card) for item in train}))
    except InputError as error:
        raise InputError(f"{error}; {card.name} publishes {', '.join(card.budgets)} {card.label_unit}") from error
    if count > len(units):
        raise InputError(f"labels '{budget}' asks for {count} {card.label_unit}, only {len(units)} have masks")
    order = np.random.default_rng([seed, 0x5EED]).permutation(len(units))
    return {units[i] for i in order[:count]}


def _labelled(
    train: list[Item], units: set[str], budget: str, domain: Domain, pool: bool
) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    """The training items of the labelled units, and the others.

    Raises:
        InputError: a unit is not there, or nothing is left unlabelled.
    """
    card = domain.card
    labelled = tuple(item for item in train if unit(item, card) in units)
    unlabelled = tuple(item for item in train if unit(item, card) not in units)
    if missing := sorted(units - {unit(item, card) for item in labelled}):
        raise InputError(
            f"{domain.root}: labels '{budget}' needs {card.label_unit} that are not there: {', '.join(missing[:5])}"
        )
    if not unlabelled and pool:
        raise InputError(
            f"labels '{budget}' leaves nothing unlabelled in {domain.root}, and this method learns from unlabelled "
            "images: take --method supervised, which is the upper bound, or fewer; "
            f"{card.name} publishes {', '.join(card.budgets)} {card.label_unit}"
        )
    return labelled, unlabelled


def _pick(items: Iterable[Item], ids: Collection[str], what: str, domain: Domain, partial: bool = False) -> list[Item]:
    """The items that a list names by id or by case.

    Raises:
        InputError: the list names something that is not among them, unless `partial`.
    """
    wanted = set(ids)
    picked = [i for i in items if i.id in wanted or i.case in wanted]
    missing = sorted(wanted - {i.id for i in picked} - {i.case for i in picked})
    if missing and not partial:
        raise InputError(
            f"{domain.root}: the list '{what}' names {len(missing)} items that are not there "
            f"({', '.join(missing[:3])}); "
            "complete the data or take other lists"
        )
    return picked


def check_disjoint(split: Split, card: Card) -> None:
    """No id twice; and where the unit is cases, no case in two parts.

    Raises:
        InputError: naming the first offender and both places.
    """
    parts = {"labelled": split.labelled, "unlabelled": split.unlabelled, "val": split.val, "test": split.test}
    _no_overlap({part: [i.id for i in items] for part, items in parts.items()}, "id")
    for part, items in parts.items():
        if len({i.id for i in items}) != len(items):
            raise InputError(f"{card.name}: an id occurs twice in {part}")
    if card.label_unit == "cases":
        _no_overlap({part: {i.case for i in items} for part, items in parts.items()}, "case")


def _no_overlap(parts: dict[str, Iterable[str]], what: str) -> None:
    seen: dict[str, str] = {}
    for part, names in parts.items():
        for name in names:
            if seen.setdefault(name, part) != part:
                raise InputError(f"{what} '{name}' is both in {seen[name]} and in {part}; the split lists overlap")
