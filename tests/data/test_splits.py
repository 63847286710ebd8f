"""Budgets, seeded and published splits, their identity, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffmatch.data.splits import Budget, Split, check_disjoint, make_split
from diffmatch.domain import Card, ClassInfo, Domain, InputError, Item, Protocol, Published, TopBottom


class Toy(Domain):
    """Ten training cases of three slices, two of them without a mask in one slice."""

    def __init__(self, unit="cases", train=None, published=None):
        super().__init__(Path("/toy"))
        self.card = Card(
            version=1,
            name="toy",
            title="toy",
            modality="none",
            label_unit=unit,
            budgets=("2", "1/5"),
            metric="mean_iou",
            classes=(ClassInfo(name="a", color=(0, 0, 0)), ClassInfo(name="b", color=(1, 1, 1))),
            head_tail=TopBottom(k=1),
            protocols=(Protocol(name="whole", title="whole", mode="image"),),
            licence="",
            citation="",
            source="",
        )
        self.train = train or [Item(f"p{c}/{z}", f"p{c}") for c in range(10) for z in range(3)]
        self.lists = published or {}

    def index(self, split):
        return {"train": self.train, "val": [Item("v", "v")], "test": [Item("t0", "t0"), Item("t1", "t1")]}[split]

    def read(self, item, mask=True):
        raise NotImplementedError

    def files(self):
        return []

    def published(self, budget):
        return self.lists.get(budget)

    @classmethod
    def fabricate(cls, root, seed=0, size=1):
        raise NotImplementedError


# -- budgets -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "total", "count"),
    [
        ("3", 70, 3),
        ("1/16", 2975, 186),
        ("1/16", 10582, 662),
        ("1/8", 16, 2),
        ("5%", 5947, 297),
        ("40%", 5947, 2378),
        ("2.5%", 200, 5),
    ],
)
def test_counts_fractions_up_and_percentages_down(text, total, count):
    assert Budget(text).count(total) == count


@given(st.integers(2, 20_000), st.integers(1, 9999))
def test_percentages_are_exact(total, hundredths):
    """Floats would lose one now and then: 2.3 % of 1000."""
    text = f"{hundredths // 100}.{hundredths % 100:02d}%"
    expected = math.floor(Fraction(hundredths * total, 10_000))
    if 1 <= expected < total:
        assert Budget(text).count(total) == expected
    else:
        with pytest.raises(InputError):
            Budget(text).count(total)


@given(st.integers(2, 20_000), st.integers(2, 512))
def test_fractions_round_up(total, parts):
    if -(-total // parts) < total:
        assert Budget(f"1/{parts}").count(total) == -(-total // parts)


@pytest.mark.parametrize("text", ["", "x", "-3", "0", "0%", "3.5", "1/0", "100%", "1/1", "20", "3/", "%", "1e3", "5 %"])
def test_impossible_budgets_name_the_published_ones(text):
    with pytest.raises(InputError, match=r"2, 1/5 cases$") as told:
        make_split(Toy(), text, 0)
    assert "\n" not in str(told.value)


# -- drawn splits ------------------------------------------------------------------------------------------------------


def ids(items):
    return [i.id for i in items]


def test_cases_are_labelled_as_a_whole():
    split = make_split(Toy(), "2", 0)
    labelled, unlabelled = {i.case for i in split.labelled}, {i.case for i in split.unlabelled}
    assert len(labelled) == 2
    assert len(unlabelled) == 8
    assert not labelled & unlabelled
    assert len(split.labelled) == 6
    assert sorted(ids(split.labelled) + ids(split.unlabelled)) == sorted(ids(Toy().train))


def test_images_are_counted_one_by_one():
    split = make_split(Toy("images"), "4", 0)
    assert len(split.labelled) == 4
    assert len(split.unlabelled) == 26


def test_draws_follow_the_seed_and_are_nested():
    splits = {n: make_split(Toy(), str(n), 5) for n in (1, 3, 7)}
    assert ids(make_split(Toy(), "3", 5).labelled) == ids(splits[3].labelled)
    assert set(ids(splits[1].labelled)) < set(ids(splits[3].labelled)) < set(ids(splits[7].labelled))
    assert len({frozenset(ids(make_split(Toy(), "3", seed).labelled)) for seed in range(10)}) > 5
    assert splits[3].family == "seeded-5"


def test_the_order_on_disk_does_not_matter():
    shuffled = Toy(train=list(reversed(Toy().train)))
    assert make_split(shuffled, "3", 0).sha256 == make_split(Toy(), "3", 0).sha256


def test_items_without_a_mask_are_never_labelled():
    train = [Item(f"i{k}", f"i{k}", masked=k >= 7) for k in range(10)]
    split = make_split(Toy("images", train), "3", 0)
    assert all(i.masked for i in split.labelled)
    with pytest.raises(InputError, match="only 3 have masks"):
        make_split(Toy("images", train), "4", 0)


PINNED = {
    ("cases", "3", 0): "b89d789511eb5f3c",
    ("cases", "3", 5): "5c69fda68ffc21bb",
    ("cases", "1/5", 0): "d395ae2e3a7d9feb",
    ("cases", "30%", 1): "3d1bd5e69b4ed96c",
    ("images", "3", 0): "8c4b9047d291ee21",
    ("images", "3", 5): "d5d6b89ac05eedd3",
    ("images", "1/5", 0): "4d5ab52642a2f102",
    ("images", "30%", 1): "c93f7d467c333bcd",
}
"""(unit, budget, seed) -> the first 16 digits of the split's hash, as finished runs have it."""


@pytest.mark.parametrize(("unit", "budget", "seed"), PINNED)
def test_draws_stay_what_they_were(unit, budget, seed):
    assert make_split(Toy(unit), budget, seed).sha256[:16] == PINNED[unit, budget, seed]


# -- published splits --------------------------------------------------------------------------------------------------


def test_published_members_do_not_depend_on_the_seed():
    toy = Toy(published={"2": Published("community", ("p3", "p7"))})
    one, two = make_split(toy, "2", 0), make_split(toy, "2", 1)
    assert {i.case for i in one.labelled} == {"p3", "p7"}
    assert one.family == "community"
    assert one.sha256 == two.sha256
    assert make_split(toy, "3", 0).family == "seeded-0", "other budgets are drawn"


def test_published_members_that_are_missing_are_named():
    with pytest.raises(InputError, match="p98, p99"):
        make_split(Toy(published={"2": Published("community", ("p1", "p99", "p98"))}), "2", 0)


def test_something_must_be_left_unlabelled():
    everything = Published("all", tuple(f"p{c}" for c in range(10)))
    with pytest.raises(InputError, match="nothing unlabelled"):
        make_split(Toy(published={"10": everything}), "10", 0)


# -- identity ----------------------------------------------------------------------------------------------------------


def test_the_hash_depends_on_members_only():
    a, b, c, v, t = (Item(n, n) for n in "abcvt")
    split = Split("f", "2", (a, b), (c,), (v,), (t,))
    assert replace(split, family="g", budget="1/16", labelled=(b, a)).sha256 == split.sha256
    others = [
        replace(split, labelled=(a, c), unlabelled=(b,)),
        replace(split, labelled=(a,), unlabelled=(b, c)),
        replace(split, val=()),
        replace(split, val=(t,), test=(v,)),
        replace(split, test=(t, v), val=()),
    ]
    assert len({s.sha256 for s in others} | {split.sha256}) == 6


# -- overlaps ----------------------------------------------------------------------------------------------------------


def split_of(**parts):
    base = {"labelled": ("a1",), "unlabelled": ("b1", "b2"), "val": ("c1",), "test": ("d1",)}
    made = {part: tuple(Item(name, name[0]) for name in names) for part, names in (base | parts).items()}
    return Split("f", "1", **made)


@pytest.mark.parametrize(
    ("part", "names", "culprit"), [("test", ("b2", "d1"), "b2"), ("val", ("a1",), "a1"), ("unlabelled", ("a1",), "a1")]
)
def test_an_id_in_two_parts_is_refused(part, names, culprit):
    for unit in ("images", "cases"):
        with pytest.raises(InputError, match=f"id '{culprit}'"):
            check_disjoint(split_of(**{part: names}), Toy(unit).card)


def test_a_case_in_two_parts_is_refused_where_the_unit_is_cases():
    shared = split_of(test=("a9",))
    check_disjoint(shared, Toy("images").card)
    with pytest.raises(InputError, match="case 'a' is both in labelled and in test"):
        check_disjoint(shared, Toy("cases").card)


def test_an_id_twice_in_one_part_is_refused():
    with pytest.raises(InputError, match="twice in unlabelled"):
        check_disjoint(split_of(unlabelled=("b1", "b1")), Toy().card)


def test_an_overlap_on_disk_is_found_when_the_split_is_made():
    train = [*Toy().train, Item("t0", "t0")]
    with pytest.raises(InputError, match="'t0'"):
        make_split(Toy(train=train), "2", 0)


@pytest.mark.parametrize("empty", ["train", "test"])
def test_nothing_to_train_or_to_score_is_refused(empty, monkeypatch):
    toy = Toy()
    monkeypatch.setattr(toy, "index", lambda split: [] if split == empty else Toy().index(split))
    with pytest.raises(InputError, match=f" 0 {'training' if empty == 'train' else 'test'}| and 0 test"):
        make_split(toy, "2", 0)
