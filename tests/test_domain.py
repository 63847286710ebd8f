"""What plugins are made of: label maps, cards, atomic files, the cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from diffmatch.domain import (
    Cache,
    Card,
    ClassInfo,
    Domain,
    InputError,
    Item,
    Protocol,
    Reading,
    Recipe,
    TopBottom,
    map_labels,
)
from diffmatch.shared.files import write_atomically


def card(**changes) -> Card:
    base = {
        "version": 1,
        "name": "toy",
        "title": "toy",
        "modality": "none",
        "label_unit": "images",
        "budgets": ("1",),
        "metric": "mean_iou",
        "classes": (ClassInfo(name="a", color=(0, 0, 0)), ClassInfo(name="b", color=(1, 1, 1))),
        "head_tail": TopBottom(k=1),
        "protocols": (
            Protocol(name="whole", title="", mode="image"),
            Protocol(name="w", title="", mode="window", window=4, stride=2),
        ),
        "licence": "",
        "citation": "",
        "source": "",
    }
    return Card(**(base | changes))


# -- labels ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, bool])
def test_raw_values_go_through_the_exact_map(dtype):
    raw = np.array([[0, 1], [1, 0]], dtype)
    mapped = map_labels(raw, {0: 255, 1: 7}, "x.png")
    assert mapped.dtype == np.uint8
    assert mapped.tolist() == [[255, 7], [7, 255]]


@given(st.lists(st.sampled_from([0, 3, 200, 65_535]), min_size=1, max_size=30))
def test_mapping_equals_a_dictionary(values):
    mapping = {0: 0, 3: 1, 200: 255, 65_535: 2}
    assert map_labels(np.array(values, np.uint16), mapping, "x").tolist() == [mapping[v] for v in values]


@pytest.mark.parametrize("value", [2, -1, 255, 0.5, float("nan"), float("inf")])
def test_an_unknown_value_is_told_with_file_and_count(value):
    raw = np.zeros((3, 3))
    raw[0, :2] = value
    with pytest.raises(InputError, match=r"scans/x\.png: label value .* on [12] pixels") as told:
        map_labels(raw, {0: 0, 1: 1}, "scans/x.png")
    assert "\n" not in str(told.value)


# -- readings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", [(2, 1, 0), (0, 2, 1), "SPL", "RAS"])
def test_a_reading_comes_back_from_its_record(axes):
    scaling = [{"kind": "window", "low": -125, "high": 275}, {"kind": "percentiles", "low": 1, "high": 99}]
    reading = Reading(kind="volume", values=(0, 300), axes=axes, scaling=[*scaling, {"kind": "min_max"}], half=True)
    assert Reading.model_validate_json(reading.model_dump_json()) == reading


@pytest.mark.parametrize("axes", [(0, 0, 1), (1, 2, 3), "SPX", "SI", "SIL", "spl", ""])
def test_axes_that_are_no_three_axes_are_refused(axes):
    with pytest.raises(ValidationError, match="each of 0, 1 and 2 once"):
        Reading(kind="volume", values=(0, 1), axes=axes)


# -- cards -------------------------------------------------------------------------------------------------------------


def test_a_card_refuses_what_it_does_not_know():
    with pytest.raises(ValidationError):
        card(licens="typo")
    with pytest.raises(ValidationError):
        card(classes=(ClassInfo(name="a", color=(0, 0, 0)),))


def test_class_names_get_colours_and_a_background_is_black():
    names = [f"class {number}" for number in range(9)]
    plain = card(classes=tuple(names))
    assert plain.names == names and len({info.color for info in plain.classes}) == 9
    first, second = card(classes=("background", ClassInfo(name="b", color=(1, 2, 3)))).classes
    assert first.color == (0, 0, 0) and second.color == (1, 2, 3)
    assert Card.model_validate_json(plain.model_dump_json()) == plain


def test_what_a_card_of_photographs_must_say():
    short = Card(name="short", title="Short", classes=("a", "b"), licence="l", citation="c", source="s")
    assert (short.label_unit, short.metric, short.protocol().mode, short.channels) == ("images", "mean_iou", "image", 3)


def test_a_recipe_is_updated_by_key():
    recipe = Recipe(version=3, paper={"a": 1, "b": 2}, quick={"a": 3})
    updated = recipe.updated({"b": 4}, {"c": 5}, {"a": 6})
    assert (updated.version, updated.paper, updated.quick) == (3, {"a": 1, "b": 4}, {"a": 3, "c": 5})
    assert recipe.paper == {"a": 1, "b": 2}
    assert recipe.presets == ("quick", "paper") and updated.presets == ("quick", "standard", "paper")
    assert [updated.settings(preset) for preset in updated.presets] == [
        {"a": 3, "b": 4, "c": 5},
        {"a": 6, "b": 4},
        {"a": 1, "b": 4},
    ]


@pytest.mark.parametrize("changes", [{}, {"window": 4}, {"stride": 4}, {"window": 4, "stride": 5}])
def test_windows_need_a_side_and_leave_no_gap(changes):
    with pytest.raises(ValidationError, match="window"):
        Protocol(name="w", title="w", mode="window", **changes)


def test_protocols_are_found_by_name():
    assert card().protocol().name == "whole"
    assert card().protocol("w").window == 4
    with pytest.raises(InputError, match="whole, w"):
        card().protocol("sliding")


def test_scored_classes_by_metric():
    assert card().scored == [0, 1]
    assert card(metric="mean_dice").scored == [1]
    assert card(metric="changed_iou").scored == [1]
    assert card(metric="mean_dice", background=False).scored == [0, 1]


# -- domains ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Nested:
    pair: tuple[Path, Path]
    part: tuple[int, int] | None = None


class Listed(Domain):
    card = card(source="ask for it")

    def index(self, split):
        refs = {"train": [Nested((Path("b"), Path("a"))), {"image": Path("c"), "mask": None}], "test": [Path("a"), "d"]}
        return [Item(str(number), str(number), ref) for number, ref in enumerate(refs.get(split, []))]

    def read(self, item, mask=True):
        raise NotImplementedError


def test_the_files_are_the_paths_in_the_items():
    assert Listed(Path("/nowhere")).files() == [Path("a"), Path("b"), Path("c")]


def test_a_domain_need_not_invent_data(tmp_path):
    class Inventive(Listed):
        @classmethod
        def fabricate(cls, root, seed=0, size=1):
            """Writes nothing."""

    assert not Listed.can_fabricate() and Inventive.can_fabricate()
    with pytest.raises(InputError, match=r"toy: this domain cannot invent data; .*DATA/toy.*ask for it"):
        Listed.fabricate(tmp_path)
    assert not list(tmp_path.iterdir())


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_file_that_could_not_be_written_whole_leaves_the_old_one(tmp_path):
    path = tmp_path / "x"
    write_atomically(path, lambda handle: handle.write(b"old"))

    def fail(handle):
        handle.write(b"half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_the_cache_decodes_once(tmp_path):
    calls = []

    def decode():
        calls.append(1)
        return np.arange(6).reshape(2, 3)

    cache = Cache(tmp_path / "cache")
    first, second = cache.array("a/b", decode), cache.array("a/b", decode)
    assert len(calls) == 1
    assert np.array_equal(first, second)
    with pytest.raises(ValueError, match="read-only"):
        second[0, 0] = 9
    without = Cache(None)
    assert without.array("a", decode) is not without.array("a", decode)
    assert len(calls) == 3
