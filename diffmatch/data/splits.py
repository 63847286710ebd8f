"""Label budgets and splits: who is labelled, who is not, who is scored; identity by hash, never by fraction alone."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from diffmatch.domain import Card, Domain, InputError, Item
from diffmatch.readers.lists import canonical, chosen, installed


@dataclass(frozen=True)
class Budget:
    """How much is labelled: a count of units (`3`), a fraction rounded up (`1/16`), or a percentage rounded down
    (`5%`)."""

    text: str

    def count(self, total: int) -> int:
        """Units out of `total`.

        Raises:
            InputError: not a budget, or not between 1 and total - 1.
        """
        if re.fullmatch(r"\d+", self.text):
            n = int(self.text)
        elif match := re.fullmatch(r"(\d+)/(\d+)", self.text):
            n = math.ceil(total * int(match[1]) / int(match[2])) if int(match[2]) else 0
        elif match := re.fullmatch(r"(\d+(?:\.\d+)?)%", self.text):
            n = math.floor(total * Fraction(match[1]) / 100)
        else:
            raise InputError(f"labels '{self.text}': write a count (3), a fraction (1/16) or a percentage (5%)")
        if not 1 <= n < total:
            raise InputError(
                f"labels '{self.text}' asks for {n} of {total}: at least 1 must be labelled and 1 left unlabelled"
            )
        return n


@dataclass(frozen=True)
class Split:
    """The members of a run. `sha256` identifies it: of the four sorted id lists, so that any difference in members
    shows."""

    family: str
    budget: str
    labelled: tuple[Item, ...]
    unlabelled: tuple[Item, ...]
    val: tuple[Item, ...]
    test: tuple[Item, ...]

    @property
    def sha256(self) -> str:
        lists = (self.labelled, self.unlabelled, self.val, self.test)
        return hashlib.sha256(
            "\n\n".join("\n".join(sorted(i.id for i in items)) for items in lists).encode()
        ).hexdigest()


def make_split(domain: Domain, budget: str | None, seed: int, lists: str | None = None, partial: bool = False) -> Split:
    """The split of an opened domain at a label budget: of the lists asked for, else the community's (the plugin's own,
    or installed by `diffmatch splits`), else a seeded draw.

    Args:
        budget: as typed; None: that of the lists, else the card's first.
        seed: of the draw (`data.split_seed`); published budgets do not depend on it.
        lists: a folder of split lists, or the name of an installed family.
        partial: the data are fabricated and hold a part of the real set: of unlabelled, val and test lists, what is
            there is taken, and installed lists whose labelled members were not drawn are passed over.

    Raises:
        InputError: an impossible budget (with those that are published), an empty split, an id or case in two places, a
            list that names what is not there, or that has not as many units as the count it is for.
    """
    card = domain.card
    train, val, test = domain.index("train"), domain.index("val"), domain.index("test")
    found = chosen(domain, budget, lists) if lists else None
    if budget is None:
        budget = (found and found.budget) or card.budgets[0]
    published = None if lists else domain.published(budget)
    if published is None and found is None:
        there = {name for i in (*train, *val, *test) for name in (i.id, i.case)}
        found = next((f for f in installed(domain, budget) if not partial or there.issuperset(f.labelled or ())), None)
    if found:
        everything = [*train, *val, *test]
        if found.val is not None:
            val = _pick(everything, found.val, f"{found.name} val", domain, partial)
        if found.test is not None:
            test = _pick(everything, found.test, f"{found.name} test", domain, partial)
        if found.unlabelled is not None:
            train = _pick(
                everything, [*(found.labelled or ()), *found.unlabelled], f"{found.name} train", domain, partial
            )
    if not train or not test:
        raise InputError(
            f"{domain.root}: {card.name} finds {len(train)} training and {len(test)} test items; both are needed"
        )
    by_case = card.label_unit == "cases"
    if published is not None:
        family, chosen_ids = published.family, set(published.ids)
    elif found and found.labelled is not None:
        listed = _pick(train, found.labelled, f"{found.name} {found.budget}", domain)
        family, chosen_ids = found.name, {i.case if by_case else i.id for i in listed}
        if found.budget and found.budget.isdigit() and len(chosen_ids) != int(found.budget):
            raise InputError(
                f"{lists or family}: the list for labels '{found.budget}' has {len(chosen_ids)} {card.label_unit}: "
                "correct it, or name its folder after what it has"
            )
    else:
        units = sorted({i.case if by_case else i.id for i in train if i.masked})
        try:
            total = len({i.case if by_case else i.id for i in train})
            # a published size is one of the whole set; of a pool that lists fix, a fraction is that pool's
            count = Budget(budget if found else str(domain.sizes.get(canonical(domain, budget), budget))).count(total)
        except InputError as error:
            raise InputError(f"{error}; {card.name} publishes {', '.join(card.budgets)} {card.label_unit}") from error
        if count > len(units):
            raise InputError(f"labels '{budget}' asks for {count} {card.label_unit}, only {len(units)} have masks")
        order = np.random.default_rng([seed, 0x5EED]).permutation(len(units))
        family, chosen_ids = f"seeded-{seed}", {units[i] for i in order[:count]}
        family = f"{family} in {found.name}" if found else family
    labelled = tuple(i for i in train if (i.case if by_case else i.id) in chosen_ids)
    members = {id(i) for i in labelled}
    unlabelled = tuple(i for i in train if id(i) not in members)
    members_found = {i.case if by_case else i.id for i in labelled}
    if missing := sorted(chosen_ids - members_found):
        raise InputError(
            f"{domain.root}: labels '{budget}' needs {card.label_unit} that are not there: {', '.join(missing[:5])}"
        )
    if not unlabelled:
        raise InputError(f"labels '{budget}' leaves nothing unlabelled in {domain.root}")
    split = Split(family, budget, labelled, unlabelled, tuple(val), tuple(test))
    check_disjoint(split, card)
    return split


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
