"""Packed studies: read like folders, never unpacked; damaged and hostile ones are told in one line."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import shutil
import zipfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from diffmatch.domain import InputError
from diffmatch.records import packed

CONTENT = {
    "a/1/run.json": b"{}",
    "a/1/evaluations/x.npz": bytes(range(256)),
    "b/2/run.json": b"[1]",
    "b/2/curves.csv": b"step\r\n",
}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    packed.write(tmp_path / "study.zip", CONTENT)
    return tmp_path / "study.zip"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in CONTENT.items():
        path = tmp_path / "unpacked" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "unpacked"


@pytest.mark.parametrize("made_by", ["write", "another program"])
def test_a_study_reads_like_the_folder_of_the_same_files(study: Path, folder: Path, made_by: str) -> None:
    if made_by == "another program":  # it stores entries for folders too
        shutil.make_archive(str(study.with_suffix("")), "zip", folder)
    for below in ("", "a", "a/1", "a/1/evaluations", "b/2", "nowhere", "a/1/run.json/more"):
        names = [path.relative_to(folder) for path in packed.files(folder / below)]
        assert [path.relative_to(study) for path in packed.files(study / below)] == names
        holders = [path.relative_to(folder) for path in packed.folders_with(folder / below, "run.json")]
        assert [path.relative_to(study) for path in packed.folders_with(study / below, "run.json")] == holders
    for name in (*CONTENT, "a", "a/1", "a/1/absent.json", "run.json", "../absent.zip"):
        assert packed.is_file(study / name) == (name in CONTENT) == (folder / name).is_file()
    for name, content in CONTENT.items():
        assert packed.read_bytes(study / name) == content == packed.read_bytes(folder / name)


@pytest.mark.parametrize("name", ["absent.json", "a", "a/1/run.json/more", "../study.zip"])
def test_what_is_not_there_is_missing_as_on_disk(study: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError):
        packed.read_bytes(study / name)


def test_folders_and_studies_below_one_root_are_found_together(study: Path, folder: Path) -> None:
    found = packed.folders_with(study.parent, "run.json")
    assert found == sorted([study / "a/1", study / "b/2", folder / "a/1", folder / "b/2"])
    assert pickle.loads(pickle.dumps(found)) == found


def test_the_same_content_gives_the_same_bytes(study: Path, tmp_path: Path) -> None:
    packed.write(tmp_path / "again.zip", dict(reversed(CONTENT.items())))
    assert (tmp_path / "again.zip").read_bytes() == study.read_bytes()
    packed.write(study, {"a/1/run.json": b"new"})
    assert packed.read_bytes(study / "a/1/run.json") == b"new" and len(packed.files(study)) == 1


def test_a_forked_process_reads_beside_its_parent(study: Path) -> None:
    packed.write(study, {str(n): os.urandom(200_000) for n in range(8)})
    paths = packed.files(study) * 20
    before = [packed.read_bytes(path) for path in paths]
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        assert list(pool.map(packed.read_bytes, paths, chunksize=4)) == before


def told(study: Path) -> str:
    """The one line that reading a study ends with."""
    with pytest.raises(InputError) as error:
        for path in packed.files(study):
            packed.read_bytes(path)
    assert "\n" not in str(error.value) and "study" in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("kept", [0, 1, 100, -1, -22, -60])
def test_a_truncated_study_is_told_in_one_line(study: Path, kept: int) -> None:
    study.write_bytes(study.read_bytes()[:kept])
    assert "cannot be read as a packed study" in told(study)
    assert packed.folders_with(study.parent, "run.json") == [study], "named by whoever reads it"


def test_no_damage_ends_in_another_error(study: Path) -> None:
    whole, chance = study.read_bytes(), random.Random(0)
    for _ in range(500):
        broken = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        study.write_bytes(broken)
        try:
            for path in packed.files(study):
                packed.read_bytes(path)
        except InputError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("name", ["../../escaped", "/escaped", "a/../../escaped", "..\\escaped", "a\x1b[2J\n/../x"])
def test_a_study_whose_paths_lead_out_of_it_is_refused_and_writes_nothing(tmp_path: Path, name: str) -> None:
    study = tmp_path / "inner" / "study.zip"
    study.parent.mkdir()
    with zipfile.ZipFile(study, "w") as archive:
        archive.writestr("a/run.json", "{}")
        archive.writestr(name, "x")
    assert "leads out of it" in told(study) and told(study).isprintable()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["inner", "study.zip"]


def test_a_small_study_that_holds_a_huge_file_is_refused(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed.write(study, {"a/run.json": bytes(10**6)})
    assert study.stat().st_size < 10**4
    monkeypatch.setattr(packed, "LARGEST", 10**5)
    assert "too many" in told(study)


def test_a_file_that_only_has_the_name_is_told(tmp_path: Path) -> None:
    (tmp_path / "study.zip").write_text("not a zip file")
    assert "cannot be read" in told(tmp_path / "study.zip")
    (tmp_path / "folder.zip" / "a").mkdir(parents=True)
    (tmp_path / "folder.zip" / "a" / "run.json").touch()
    assert packed.folders_with(tmp_path / "folder.zip", "run.json") == [tmp_path / "folder.zip" / "a"], (
        "a folder may be called so"
    )
