"""`diffmatch predict`: many files, several kinds of output, bad ones among them, a second call that goes on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

import diffmatch
from diffmatch.cli import invoke
from diffmatch.domain import InputError
from diffmatch.model.batch import KINDS, predict_files, saved
from diffmatch.model.paths import named
from diffmatch.records.folder import RunFolder

VOLUME = Path("training") / "patient001" / "patient001_frame01.nii.gz"


@pytest.fixture
def new(pictures: RunFolder, tmp_path: Path) -> Path:
    """Five pictures of a user's, one of them in a folder of its own."""
    folder = tmp_path / "new"
    (folder / "deep").mkdir(parents=True)
    for number in range(5):
        source = Path(pictures.record().data.root) / "images" / f"{number}.png"
        shutil.copy(source, folder / "deep" / "three.PNG" if number == 3 else folder / f"{number}.png")
    (folder / "Thumbs.db").write_text("no picture")
    return folder


def written(folder: Path) -> list[str]:
    """What a person sees below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return sorted(path.relative_to(folder).as_posix() for path in files)


def test_masks_hold_the_set_s_own_numbers(
    pictures: RunFolder, new: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In 16 bits where they need them, with the tree of a folder kept."""
    assert invoke(["predict", str(pictures.path), str(new), "--out", str(tmp_path / "masks")]) == 0
    out = capsys.readouterr().out
    assert "roof" in out and "300" in out and "of 5" in out and "labels of 5 inputs below" in out
    assert written(tmp_path / "masks") == ["0.png", "1.png", "2.png", "4.png", "deep/three.png"]
    for name, number in (("deep/three", 3), ("4", 4)):
        mask = np.asarray(Image.open(tmp_path / "masks" / f"{name}.png"))
        truth = np.asarray(Image.open(Path(pictures.record().data.root) / "masks" / f"{number}.png"))
        assert mask.shape == truth.shape and set(np.unique(mask)) <= {7, 41, 300}
        assert (mask == truth).mean() > 0.7


def test_everything_of_a_volume_is_the_model_s_own(finished: RunFolder, few: Path, tmp_path: Path) -> None:
    """The same bits as in Python, on the file's grid."""
    out = tmp_path / "out"
    words = [str(finished.path), str(few / VOLUME), "--out", str(out), "--draws", "2", "--save", ",".join(KINDS)]
    assert invoke(["predict", *words]) == 0
    found = diffmatch.load(finished.path, draws=2).predict(few / VOLUME)
    stem = "patient001_frame01"
    files = {kind: nib.load(out / f"{stem}{kind}.nii.gz") for kind in ("", "_probabilities", "_uncertainty")}
    assert np.array_equal(np.asarray(files[""].dataobj), found.labels)
    assert np.array_equal(np.moveaxis(np.asarray(files["_probabilities"].dataobj), -1, 0), found.probabilities)
    uncertainty = np.moveaxis(np.asarray(files["_uncertainty"].dataobj), -1, 0)
    assert np.array_equal(uncertainty[0], found.entropy) and np.array_equal(uncertainty[1], found.disagreement)
    assert all(np.array_equal(file.affine, nib.load(few / VOLUME).affine) for file in files.values())
    assert Image.open(out / f"{stem}_overlay.png").size[0] >= 512


def test_a_bad_file_among_others_is_named_and_the_second_call_goes_on(
    pictures: RunFolder, new: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (new / "2.png").read_bytes()
    (new / "2.png").write_bytes(whole[:100])
    command = ["predict", str(pictures.path), str(new), "--out", str(tmp_path / "masks")]
    assert invoke(command) == 1
    told = capsys.readouterr()
    lines = [line for line in told.err.splitlines() if not line.startswith("predict ")]
    assert len(lines) == 2 and lines[0].startswith(f"left out: {new / '2.png'}: cannot be read as an image")
    assert lines[1] == "diffmatch: 1 of 5 inputs were left out; mend them and give the same command again"
    assert written(tmp_path / "masks") == ["0.png", "1.png", "4.png", "deep/three.png"]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "masks").rglob("*.png")}
    (new / "2.png").write_bytes(whole)
    assert invoke(command) == 0
    assert "labels of 1 inputs below" in (out := capsys.readouterr().out) and "4 more were there already" in out
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert (tmp_path / "masks" / "2.png").is_file()
    (new / "0.png").touch()  # a newer input is predicted again
    assert invoke(command) == 0
    assert "labels of 1 inputs below" in capsys.readouterr().out
    assert invoke([*command, "--save", "labels,overlay"]) == 0
    assert len(written(tmp_path / "masks")) == 10


def test_another_model_does_not_write_among_these(
    pictures: RunFolder, finished: RunFolder, few: Path, new: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "masks")
    assert invoke(["predict", str(finished.path), str(few / VOLUME), "--out", out]) == 0
    assert invoke(["predict", str(finished.path), str(few / VOLUME), "--out", out, "--steps", "1"]) == 2
    assert "holds the predictions of another model or sampler" in capsys.readouterr().err
    assert invoke(["predict", str(pictures.path), str(new), "--out", out]) == 2
    assert "holds the predictions of another model or sampler" in capsys.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("do not overwrite")
    assert invoke(["predict", str(pictures.path), str(new), "--out", str(tmp_path / "full")]) == 2
    assert "full: is not an empty folder" in capsys.readouterr().err
    assert written(tmp_path / "full") == ["thesis.txt"]


def test_where_no_input_can_be_read_nothing_is_written(pictures: RunFolder, new: Path, tmp_path: Path) -> None:
    model = diffmatch.load(pictures.path)
    for path in new.rglob("*.[pP][nN][gG]"):
        path.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"cannot be read as an image .*\(and 4 more\)$"):
        predict_files(model, dict(named([new], model.endings)), tmp_path / "masks", ("labels",))
    assert not (tmp_path / "masks").exists()


@pytest.mark.parametrize("how", ["options", "folders", "a folder of both"])
def test_two_dates_on_the_command_line(
    how: str, changes: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(changes.record().data.root) / "test"
    words = {
        "options": ["--before", str(root / "A" / "test_1.png"), "--after", str(root / "B" / "test_1.png")],
        "folders": ["--before", str(root / "A"), "--after", str(root / "B")],
        "a folder of both": [str(root)],
    }[how]
    assert invoke(["predict", str(changes.path), *words, "--out", str(tmp_path), "--save", "labels,overlay"]) == 0
    mask = np.asarray(Image.open(tmp_path / "test_1.png"))
    found = diffmatch.load(changes.path).predict((root / "A" / "test_1.png", root / "B" / "test_1.png"))
    assert np.array_equal(mask, np.array([0, 255])[found.labels])
    assert len(written(tmp_path)) == (2 if how == "options" else 12)


@pytest.mark.parametrize(
    ("run", "words", "message"),
    [
        ("pictures", [], "name the files, or both --before and --after"),
        ("pictures", ["--before", "a.png"], "name the files, or both --before and --after"),
        ("pictures", ["a.png", "--before", "a.png", "--after", "b.png"], "name the files, or both"),
        ("pictures", ["--before", "a.png", "--after", "b.png"], "was trained on one date"),
        ("pictures", ["a.png", "--save", "labels,masks"], "--save masks: choose from labels, overlay"),
        ("changes", ["a.png"], "a.png: two dates are needed"),
        ("pictures", ["a.png", "--steps", "2"], "supervised does not sample; leave out --steps and --draws"),
    ],
)
def test_words_that_do_not_fit(
    run: str, words: list[str], message: str, request: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(request.getfixturevalue(run).path)
    assert invoke(["predict", path, *words, "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert message in told[-1] and not (tmp_path / "out").exists()


def test_a_model_of_invented_data_says_so(
    pictures: RunFolder, new: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(Path(shutil.copytree(pictures.path, tmp_path / "run")))
    record = run.record()
    words = ["predict", str(run.path), str(new), "--out"]
    assert invoke([*words, str(tmp_path / "a")]) == 0
    assert "trained on invented" not in capsys.readouterr().out
    record.data.fabricated = True
    run.write(record)
    assert invoke([*words, str(tmp_path / "b")]) == 0
    assert "this model was trained on invented data" in capsys.readouterr().out


def test_kinds_are_written_in_one_order() -> None:
    assert saved("overlay, labels") == ("labels", "overlay") and saved("uncertainty") == ("uncertainty",)
