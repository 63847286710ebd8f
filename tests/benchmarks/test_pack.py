"""The script that adds runs to a packed study, and the studies of this repository."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from diffmatch_benchmarks import pack

from diffmatch.records import packed
from diffmatch.records.folder import RunFolder, find_runs

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "benchmarks" / "results").glob("*.zip"))
FOLDER = ROOT / "tests" / "reports" / "fixtures" / "schema1" / "0-4a878704"
NAME = "acdc/diffmatch/3/0-4a878704"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder as training leaves it, with paths of the machine in its record."""
    path = tmp_path / "runs" / "anything"
    shutil.copytree(FOLDER, path)
    for name in ("last.ckpt", "log.txt", "samples/00.npz", "report/index.html", "posthoc.json"):
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text("{}")
    record = json.loads((path / "run.json").read_text())
    record["data"]["root"] = "/home/me/.cache/diffmatch/fabricated/acdc-1-e97cd500"
    record["environment"]["command"] = ["--labels", "1/16", "--out", "/scratch/me/runs", "--split=/home/lists"]
    (path / "run.json").write_text(json.dumps(record))
    return path


def invoked(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["pack.py", *map(str, words)])
    try:
        pack.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_a_run_is_packed_without_checkpoints_pictures_and_the_machines_folders(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = run.parents[1] / "study.zip"
    assert invoked(monkeypatch, study, run.parent) == 0
    names = {path.relative_to(study / NAME).as_posix() for path in packed.files(study)}
    assert names == {path.relative_to(FOLDER).as_posix() for path in packed.files(FOLDER)} | {"posthoc.json"}
    record = RunFolder(study / NAME).record()
    assert record.data.root == "fabricated/acdc-1-e97cd500"
    assert record.environment["command"] == ["--labels", "1/16", "--out", "runs", "--split=lists"]


def test_a_study_keeps_what_it_holds_and_a_run_is_replaced(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = run.parents[1] / "study.zip"
    packed.write(study, {"msd/diffmatch/1/0-a/run.json": b"{}", f"{NAME}/run.json": b"old", f"{NAME}/old.json": b"old"})
    assert invoked(monkeypatch, study, run) == 0
    assert [path.path.relative_to(study).as_posix() for path in find_runs(study)] == [NAME, "msd/diffmatch/1/0-a"]
    assert RunFolder(study / NAME).record().status == "done" and not packed.is_file(study / NAME / "old.json")
    before = study.read_bytes()
    assert invoked(monkeypatch, study, run) == 0 and study.read_bytes() == before


def test_what_is_no_record_is_refused_in_one_line(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = run.parents[1] / "study.zip"
    packed.write(study, {f"{NAME}/run.json": b"{}"})
    record = json.loads((run / "run.json").read_text())
    cases = {
        "a run belongs to one study": (study.with_name("other.zip"), run),
        "no run.json below": (study, run / "evaluations"),
        "ends in .zip": (study.with_name("folder"), run),
        "only finished runs": (study, run),
    }
    for message, words in cases.items():
        if message == "only finished runs":
            (run / "run.json").write_text(json.dumps(record | {"status": "failed"}))
        assert invoked(monkeypatch, *words) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert len(packed.files(study)) == 1 and not study.with_name("other.zip").exists()


def test_there_are_studies() -> None:
    assert len(STUDIES) >= 10


def test_a_run_stands_in_one_study() -> None:
    names = [run.path.relative_to(study) for study in STUDIES for run in find_runs(study)]
    assert len(names) == len(set(names)) >= 300


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.stem)
def test_a_study_of_the_repository_is_what_packing_its_runs_gives(study: Path, tmp_path: Path) -> None:
    again = tmp_path / study.name
    pack.add(again, find_runs(study))
    content = {path.relative_to(again): packed.read_bytes(path) for path in packed.files(again)}
    assert content == {path.relative_to(study): packed.read_bytes(path) for path in packed.files(study)}


DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "benchmarks" / "results" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "datasets").glob("*/README.md")),
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_record_that_a_document_names_is_there(document: Path) -> None:
    named = set(re.findall(r"\b\d+-[0-9a-f]{8}\b", document.read_text()))
    assert named <= {run.path.name for run in find_runs(STUDIES[0].parent)}


def test_the_readme_of_the_records_counts_the_runs_of_each_study() -> None:
    readme = (ROOT / "benchmarks" / "results" / "README.md").read_text()
    counts = {name: int(count) for name, count in re.findall(r"^\| `(\w+\.zip)` \| (\d+) \|", readme, re.MULTILINE)}
    assert counts == {study.name: len(find_runs(study)) for study in STUDIES}
