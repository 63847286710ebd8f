"""Names in two forms of Unicode, folders of other programs, everything labelled, mistyped folders, poor terminals."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffmatch import plugins
from diffmatch.cli import main
from diffmatch.data.doctor import examine
from diffmatch.data.opening import find_data, open_domain
from diffmatch.data.splits import Budget, make_split
from diffmatch.domain import InputError
from diffmatch.model.paths import named, pairs
from diffmatch.readers import below
from diffmatch.readers import pairs as two_dates
from diffmatch.readers.image import by_stem
from diffmatch.records.folder import find_runs
from tests.faults.conftest import TINY

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Köln-Ås") for form in ("NFC", "NFD"))
FOLDER = plugins.domain("folder")
CHECKOUT = Path(__file__).parents[2]


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)


# -- names -------------------------------------------------------------------------------------------------------------


def test_images_and_masks_meet_though_one_folder_was_unpacked_elsewhere(pictures):
    data = pictures()
    (data / "images" / "p0.png").rename(data / "images" / f"{DECOMPOSED}.png")
    (data / "masks" / "p0.png").rename(data / "masks" / f"{COMPOSED}.png")
    opened, _ = open_domain(FOLDER, data)
    item = next(item for split in ("train", "val", "test") for item in opened.index(split) if "K" in item.id)
    assert item.id == COMPOSED and item.masked
    assert opened.read(item).mask.any()


def test_a_list_names_a_picture_in_either_form(pictures):
    data = pictures()
    for folder in ("images", "masks"):
        (data / folder / "p0.png").rename(data / folder / f"{COMPOSED}.png")
    names = [DECOMPOSED, *(f"p{n}" for n in range(1, 6))]
    (data / "train.txt").write_text("\n".join(names), encoding="utf-8")
    (data / "test.txt").write_text("p6\np7\n")
    opened, _ = open_domain(FOLDER, data)
    assert COMPOSED in [item.id for item in opened.index("train")]


def test_two_files_whose_names_look_alike_are_refused(tmp_path):
    for name in (COMPOSED, DECOMPOSED):
        picture(tmp_path / f"{name}.png")
    with pytest.raises(InputError, match="keep one of the two"):
        by_stem(tmp_path)


def test_two_dates_meet_in_either_form(tmp_path):
    picture(tmp_path / "A" / f"{COMPOSED}.png")
    picture(tmp_path / "B" / f"{DECOMPOSED}.png")
    picture(tmp_path / "label" / f"{COMPOSED}.png")
    assert [*two_dates.listing(tmp_path)] == [COMPOSED]
    assert [*pairs(tmp_path / "A", tmp_path / "B", (".png",))] == [COMPOSED]


# -- one walk of folders -----------------------------------------------------------------------------------------------

LEFT = (".ipynb_checkpoints", "._AppleDouble", "__MACOSX", "@eaDir", ".Trash-0", "$RECYCLE.BIN")


@pytest.mark.parametrize("left", LEFT)
def test_what_systems_leave_is_nobodys_data(left, tmp_path, pictures):
    data = pictures()
    before = open_domain(FOLDER, data)[1]
    picture(tmp_path / "new" / "a.png")
    for folder in (tmp_path / "new", tmp_path / "runs", data / "images", data / "masks"):
        picture(folder / left / "a-checkpoint.png")
    (tmp_path / "runs" / left / "run.json").write_text("{}")
    assert [name for name, _ in named([tmp_path / "new"], (".png",))] == ["a"]
    assert find_runs(tmp_path / "runs") == []
    assert open_domain(FOLDER, data)[1] == before


def test_a_loop_of_links_is_not_walked(tmp_path):
    picture(tmp_path / "a" / "a.png")
    (tmp_path / "a" / "again").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a" / "self")
    assert [*below(tmp_path)] == [tmp_path / "a" / "a.png"]


# -- everything labelled -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", ["all", "100%", "1/1", "6"])
def test_everything_can_be_labelled_for_a_method_without_a_pool(budget, pictures, bench, tmp_path):
    data = pictures(count=8)
    opened, _ = open_domain(FOLDER, data)
    trained = [item.id for item in opened.index("train")]
    budget = str(len(trained)) if budget == "6" else budget
    split = make_split(opened, budget, 0, pool=False)
    assert ([item.id for item in split.labelled], split.unlabelled) == (trained, ())
    with pytest.raises(InputError, match=r"learns from unlabelled .* --method supervised, which is the upper bound"):
        make_split(opened, budget, 0)


def test_a_run_with_everything_labelled_is_trained_and_scored(pictures, bench, tmp_path, capsys):
    data = pictures()
    assert bench(data, "--labels", "all") == 0
    assert [*(tmp_path / "runs").glob("folder/supervised/all/*/report/index.html")]
    assert bench(data, "--labels", "all", "--method", "fixmatch") == 2
    assert "upper bound" in capsys.readouterr().err.splitlines()[-1]


def test_all_are_those_that_have_masks(pictures):
    """What has none is left as the pool, so that every method can be trained."""
    data = pictures(count=10)
    opened, _ = open_domain(FOLDER, data)
    bare = opened.index("train")[0].id
    (data / "masks" / f"{bare}.png").unlink()
    opened, _ = open_domain(FOLDER, data)
    split = make_split(opened, "all", 0)
    assert [item.id for item in split.unlabelled] == [bare]


def test_the_doctor_tells_the_upper_bound(pictures):
    found = examine(FOLDER, pictures(), False)
    last = found.budgets[-1]
    assert (last.budget, last.unlabelled, last.problem) == ("all", 0, None)
    assert last.labelled == found.splits["train"].items


def test_more_than_everything_is_refused():
    with pytest.raises(InputError, match="asks for 10 of 9"):
        Budget("10").count(9)


# -- a mistyped folder -------------------------------------------------------------------------------------------------


def test_a_data_folder_that_is_set_but_not_there_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFMATCH_DATA", str(tmp_path / "no-such-disk"))
    with pytest.raises(InputError, match=r"\$DIFFMATCH_DATA=.*no-such-disk: no such folder"):
        find_data(plugins.domain("msd"), None)


def test_a_disk_that_is_not_mounted_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFMATCH_DATA", str(tmp_path))
    with pytest.raises(InputError, match="the folder is empty"):
        find_data(plugins.domain("msd"), None)


def test_a_folder_of_no_data_set_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "MSD").mkdir()
    monkeypatch.setenv("DIFFMATCH_DATA", str(tmp_path))
    with pytest.raises(InputError, match="holds no folder msd, nor one of another data set"):
        find_data(plugins.domain("msd"), None)


def test_a_folder_of_other_sets_leaves_the_invented_ones(tmp_path, monkeypatch):
    (tmp_path / "acdc").mkdir()
    monkeypatch.setenv("DIFFMATCH_DATA", str(tmp_path))
    assert find_data(plugins.domain("folder"), None)[1]


# -- a poor terminal, and a path with a space --------------------------------------------------------------------------


def test_a_terminal_that_lacks_characters_gets_others(pictures, monkeypatch, tmp_path):
    data = pictures(stem="Größe{}")
    asked = ["bench", "folder", "--data", data, "--out", tmp_path / "Läufe", "--labels", "2", "--method", "supervised"]
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    shown = {name: io.TextIOWrapper(io.BytesIO(), "ascii") for name in ("stdout", "stderr")}
    for name, stream in shown.items():
        monkeypatch.setattr(sys, name, stream)
    monkeypatch.setattr(sys, "argv", ["diffmatch", *map(str, asked), *TINY])
    with pytest.raises(SystemExit) as end:
        main()
    for number, handler in handlers.items():
        signal.signal(number, handler)
    shown["stdout"].flush()
    assert end.value.code == 0
    assert b"L?ufe" in shown["stdout"].buffer.getvalue()
    assert [*tmp_path.glob("Läufe/*/*/*/*/report/index.html")]


def test_make_hands_a_path_with_a_space_on_as_one_word(tmp_path):
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / "Makefile").write_bytes((CHECKOUT / "Makefile").read_bytes())
    for name in ("pyproject.toml", "constraints.txt", ".venv/.ready"):
        (tmp_path / name).touch()
    program = tmp_path / ".venv" / "bin" / "diffmatch"
    program.write_text('#!/bin/sh\nfor word in "$@"; do echo "<$word>"; done\n')
    program.chmod(0o755)

    def words(*asked):
        made = subprocess.run(["make", "-s", *asked], cwd=tmp_path, capture_output=True, text=True, check=True)
        return made.stdout.split("\n")

    said = words("bench", "DATASET=folder", "LABELS=1/4", "DATA=/a/my pictures", "OUT=it's mine")
    assert "</a/my pictures>" in said and "<it's mine>" in said
    said = words("table", "N=my table.yaml", "DATA=/a/my pictures", "OUT=my runs", "ARGS=--set train.steps=3")
    assert {"<my table.yaml>", "</a/my pictures>", "<my runs>", "<--set>", "<train.steps=3>"} <= {*said}
    assert {"<a b>", "<4>"} <= {*words("figure", "N=4", "OUT=a b")}
    assert {"<a>", "<b>"} <= {*words("figure", "N=4", "RUNS=a b")}
    assert "<my runs>" in words("report", "OUT=my runs")
