"""Runs in a packed study: reports, figures and tables read them like run folders, and nothing writes into them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffmatch.cli import invoke
from diffmatch.domain import InputError
from diffmatch.records import packed
from diffmatch.records.curves import Curves
from diffmatch.records.folder import RunFolder, find_runs
from diffmatch_reports.load import load_run

FOLDER = Path(__file__).parents[1] / "reports" / "fixtures" / "schema1" / "0-4a878704"
NAME = "acdc/diffmatch/3/0-4a878704"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run with a picture."""
    path = tmp_path / "runs" / NAME
    shutil.copytree(FOLDER, path)
    (path / "samples").mkdir()
    truth = np.zeros((8, 8), np.uint8)
    np.savez_compressed(
        path / "samples" / "00.npz", image=truth[..., None], truth=truth, steps=truth[None], title="patient101"
    )
    return RunFolder(path)


@pytest.fixture
def run(folder: RunFolder, tmp_path: Path) -> RunFolder:
    """The same run in a packed study."""
    study = tmp_path / "study.zip"
    packed.write(
        study, {f"{NAME}/{path.relative_to(folder.path)}": path.read_bytes() for path in packed.files(folder.path)}
    )
    return RunFolder(study / NAME)


def test_a_packed_run_is_read_as_its_folder_is(run: RunFolder, folder: RunFolder) -> None:
    assert run.exists() and run.record() == folder.record()
    assert [record for record, _ in run.evaluations()] == [record for record, _ in folder.evaluations()]
    for (_, counts), (_, same) in zip(run.evaluations(), folder.evaluations(), strict=True):
        assert np.array_equal(counts.confusion, same.confusion) and counts.cases.keys() == same.cases.keys()
    assert list(Curves.read(run.path / "curves.csv")) == list(Curves.read(folder.path / "curves.csv"))
    shown, same_shown = load_run(run), load_run(folder)
    assert (
        not shown.problems and shown.metrics("test") == same_shown.metrics("test") and shown.curves == same_shown.curves
    )
    assert [sample.title for sample in shown.samples] == ["patient101"]


@pytest.mark.parametrize("below", ["", "study.zip", "study.zip/acdc", f"study.zip/{NAME}"])
def test_a_command_takes_a_study_a_part_of_it_or_one_run(
    run: RunFolder, tmp_path: Path, below: str, capsys: Any
) -> None:
    shutil.rmtree(tmp_path / "runs")
    assert [found.path for found in find_runs(tmp_path / below)] == [run.path]
    assert invoke(["report", str(tmp_path / below), "--out", str(tmp_path / "site")]) == 0
    assert "79.5" in capsys.readouterr().out and "79.5" in (tmp_path / "site" / "index.html").read_text()
    assert invoke(["figure", "4", str(tmp_path / below), "--out", str(tmp_path / "figures")]) == 0
    assert (tmp_path / "figures" / "figure04-acdc.svg").is_file()


def test_folders_and_studies_stand_in_one_report(
    run: RunFolder, folder: RunFolder, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "damaged.zip").write_bytes((tmp_path / "study.zip").read_bytes()[:-10])
    assert invoke(["report", str(tmp_path), "--out", str(tmp_path / "site")]) == 0
    out = capsys.readouterr().out
    assert out.count("not shown: ") == 1 and "damaged.zip: cannot be read" in out
    assert len(list((tmp_path / "site" / "runs").glob("*.html"))) == 2


def test_a_damaged_study_ends_a_command_in_one_line(tmp_path: Path, run: RunFolder, capsys: Any) -> None:
    study = tmp_path / "study.zip"
    study.write_bytes(study.read_bytes()[:-10])
    for words in (
        ["report", str(study)],
        ["figure", "4", str(study)],
        ["evaluate", str(run.path)],
        ["report", str(run.path)],
    ):
        assert invoke(words) == 2
        out, error = capsys.readouterr()
        assert "cannot be read as a packed study" in error and error.count("\n") == 1 and "Traceback" not in out + error


def test_nothing_writes_into_a_packed_run(run: RunFolder, folder: RunFolder) -> None:
    before = (packed.study_of(run.path) or Path()).read_bytes()
    record, counts = folder.evaluations()[0]
    other = record.model_copy(update={"steps": 9})
    writes = (run.create, lambda: run.write(folder.record()), lambda: run.write_evaluation(other, counts))
    for write in writes:
        with pytest.raises(InputError, match="cannot write into a packed study") as told:
            write()
        assert "\n" not in str(told.value)
    assert (packed.study_of(run.path) or Path()).read_bytes() == before


@pytest.mark.parametrize("command", ["evaluate", "resume"])
def test_a_command_that_would_write_into_one_says_so_in_one_line(run: RunFolder, command: str, capsys: Any) -> None:
    assert invoke([command, str(run.path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
