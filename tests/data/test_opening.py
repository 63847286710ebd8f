"""Data of a domain that cannot invent any: given, in the data folder, or asked for in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffmatch.data.opening import find_data, open_domain, size_for
from diffmatch.domain import Card, InputError, Item
from diffmatch.readers.photographs import Photographs


class Silent(Photographs):
    card = Card(name="silent", title="", classes=("a", "b"), licence="", citation="", source="see silent.example")

    def index(self, split):
        return [Item("a", "a", self.root / "a.png")] if split == "train" else []


def test_without_data_it_asks_for_them(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFMATCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DIFFMATCH_DATA", raising=False)
    with pytest.raises(
        InputError, match=r"silent: this domain cannot invent data; .*DATA/silent\. see silent\.example"
    ):
        find_data(Silent, None)
    assert not list((tmp_path / "cache").rglob("*silent*")), "nothing is left behind"
    (tmp_path / "all" / "silent").mkdir(parents=True)
    monkeypatch.setenv("DIFFMATCH_DATA", str(tmp_path / "all"))
    assert find_data(Silent, None) == (tmp_path / "all" / "silent", False)


def test_its_budgets_need_no_size_of_invented_data():
    assert size_for(Silent, ["1/8", "1/4"]) == 1


def test_its_fingerprint_is_that_of_the_items_files(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"123")
    (tmp_path / "notes.txt").write_bytes(b"")
    before = open_domain(Silent, tmp_path)[1]
    assert before.files.keys() == {"a.png"}
    (tmp_path / "notes.txt").write_bytes(b"changed")
    assert open_domain(Silent, tmp_path)[1] == before
    (tmp_path / "a.png").write_bytes(b"1234")
    assert open_domain(Silent, tmp_path)[1] != before
