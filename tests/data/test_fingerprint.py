"""A file is known by what it holds; what is remembered of it is believed only while nothing about it has changed."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from diffmatch.data import fingerprint
from diffmatch.data.fingerprint import concerning, look_at, made_of, names_of, sizes_of
from diffmatch.data.opening import open_domain
from diffmatch.domain import Card, InputError, Item, Reading
from diffmatch.readers.photographs import Photographs


class Ponds(Photographs):
    """Two pictures, of which the second has no mask, and a list that no item refers to."""

    card = Card(name="ponds", title="", classes=("a", "b"), licence="", citation="", source="")

    def index(self, split):
        refs = {"train": (self.root / "a.png", self.root / "am.png"), "test": (self.root / "b.png",)}
        return [Item(split, split, refs[split])] if split in refs else []

    def files(self):
        return [self.root / "list.txt", *super().files()]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "set").mkdir()
    for name in ("a.png", "am.png", "b.png", "list.txt"):
        (tmp_path / "set" / name).write_text(f"this is {name}")
    return tmp_path / "set"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read; what is remembered is trusted at once."""
    names, real = [], fingerprint._digest
    monkeypatch.setattr(fingerprint, "SETTLED", 0)
    monkeypatch.setattr(fingerprint, "_digest", lambda path: names.append(path.name) or real(path))
    return names


def look(root: Path, store: Path) -> dict[str, str]:
    time.sleep(0.02)  # longer than the kernel's clock ticks
    return {name: found for name, (_, found) in look_at({path.name: path for path in root.iterdir()}, store).items()}


def test_the_digest_is_of_all_bytes(root: Path, tmp_path: Path) -> None:
    expected = {path.name: hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest() for path in root.iterdir()}
    assert look(root, tmp_path / "store.json") == expected


def test_the_second_look_reads_nothing_and_finds_the_same(root: Path, tmp_path: Path, read: list[str]) -> None:
    first = look(root, tmp_path / "store.json")
    assert sorted(read) == sorted(first) and look(root, tmp_path / "store.json") == first
    assert len(read) == 4
    (root / "c.png").write_text("new")
    (root / "b.png").unlink()
    assert look(root, tmp_path / "store.json").keys() == (first.keys() - {"b.png"}) | {"c.png"} and read[4:] == [
        "c.png"
    ]


def in_place(path: Path) -> None:
    path.write_text("this IS a.png")


def by_another(path: Path) -> None:
    """As an editor saves, or `cp -p` and `mv`: another inode."""
    path.with_suffix(".new").write_text("this IS a.png")
    path.with_suffix(".new").replace(path)


@pytest.mark.parametrize("change", [in_place, by_another])
def test_a_change_that_keeps_size_and_time_is_noticed(change, root: Path, tmp_path: Path, read: list[str]) -> None:
    before, old = look(root, tmp_path / "store.json"), (root / "a.png").stat()
    change(root / "a.png")
    os.utime(root / "a.png", ns=(old.st_atime_ns, old.st_mtime_ns))
    new = (root / "a.png").stat()
    assert (new.st_size, new.st_mtime_ns) == (old.st_size, old.st_mtime_ns)
    after = look(root, tmp_path / "store.json")
    assert {name for name in after if after[name] != before[name]} == {"a.png"} and read[4:] == ["a.png"]


def test_what_changed_a_moment_ago_is_read_again(root: Path, tmp_path: Path, read: list[str], monkeypatch) -> None:
    """Within one tick of the file system's clock a second change would leave no trace."""
    monkeypatch.setattr(fingerprint, "SETTLED", 10**11)
    look(root, tmp_path / "store.json")
    look(root, tmp_path / "store.json")
    assert len(read) == 8


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a.png": 3}', '{"a.png": [[1, 2, 3, 4], null]}', "\x00"])
def test_a_damaged_store_is_made_again(content: str, root: Path, tmp_path: Path, read: list[str]) -> None:
    whole = look(root, tmp_path / "store.json")
    (tmp_path / "store.json").write_text(content)
    assert look(root, tmp_path / "store.json") == whole and len(read) == 8
    assert look(root, tmp_path / "store.json") == whole and len(read) == 8


def test_a_store_that_cannot_be_written_costs_time_alone(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert look(root, tmp_path / "file" / "store.json") == look(root, tmp_path / "store.json")


def test_processes_that_look_at_once_find_the_same(root: Path, tmp_path: Path) -> None:
    for n in range(200):
        (root / f"{n}.txt").write_text(str(n))
    alone = look(root, tmp_path / "alone.json")
    with ProcessPoolExecutor(4) as pool:
        together = list(pool.map(look, [root] * 12, [tmp_path / "store.json"] * 12))
    assert all(found == alone for found in together)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")], "nothing half is left"


def test_a_file_that_cannot_be_read_is_named(root: Path, tmp_path: Path) -> None:
    (root / "a.png").unlink()
    (root / "a.png").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"a\.png: cannot be read \(No such file"):
        look(root, tmp_path / "store.json")
    (root / "a.png").unlink()
    (root / "a.png").write_text("secret")
    (root / "a.png").chmod(0)
    if os.access(root / "a.png", os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(InputError, match=r"a\.png: cannot be read \(Permission denied"):
        look(root, tmp_path / "store.json")
    (root / "a.png").chmod(stat.S_IRUSR)


def test_a_long_look_is_told(root: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    look(root, tmp_path / "store.json")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(fingerprint, "QUIET", -1.0)
    look(root, tmp_path / "other.json")
    assert "look for changed files 4/4" in capsys.readouterr().err


def test_any_byte_of_any_file_is_part_of_the_fingerprint(root: Path) -> None:
    seen = {open_domain(Ponds, root)[1].sha256}
    for path in sorted(root.iterdir()):
        whole = path.read_bytes()
        for place in range(len(whole)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            found = open_domain(Ponds, root)[1]
            assert found.sha256 not in seen
            seen.add(found.sha256)
        path.write_bytes(whole)
    assert open_domain(Ponds, root)[1].sha256 in seen


def test_the_fingerprint_is_that_of_the_files_wherever_they_lie(root: Path, tmp_path: Path) -> None:
    before = open_domain(Ponds, root)[1]
    shutil.copytree(root, tmp_path / "copy")
    assert open_domain(Ponds, tmp_path / "copy")[1] == before
    assert before.of("contents") == before.sha256 != before.of("names and sizes")


@pytest.mark.parametrize(
    "change",
    [
        {"card": Ponds.card.model_copy(update={"classes": Ponds.card.classes[::-1]})},
        {"card": Ponds.card.model_copy(update={"channels": 1})},
        {"reading": Reading(kind="picture", values=(1, 0))},
    ],
)
def test_what_the_plugin_makes_of_the_files_is_part_of_it(change: dict, root: Path) -> None:
    assert open_domain(type("Other", (Ponds,), change), root)[1].sha256 != open_domain(Ponds, root)[1].sha256


def test_what_concerns_some_items(root: Path) -> None:
    domain, found = open_domain(Ponds, root)
    train, test = domain.index("train"), domain.index("test")
    assert names_of(root, train) == {"a.png", "am.png"} and names_of(root, []) == set()
    assert concerning(domain, found.files, train).keys() == {"a.png", "am.png", "list.txt"}
    assert concerning(domain, found.files, train + test) == found.files
    assert sizes_of(root, []) is None and sizes_of(root, train) != sizes_of(root, test)
    other = [Item("train", "train", (root / "am.png", root / "a.png"))]
    assert len({made_of(domain, items) for items in (train, test, other, [])}) == 4
