"""The commands about data: check, splits, doctor's refusals, --split."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from diffmatch import plugins
from diffmatch.cli import invoke
from diffmatch.domain import InputError, Sample
from diffmatch.readers import inside
from diffmatch.running.again import job_of, prepared
from diffmatch.running.plan import plan

SPLITS = Path(__file__).parents[2].parent / "shared" / "splits"


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFMATCH_SPLITS", str(tmp_path / "store"))


def test_check_passes_a_shipped_plugin(few, capsys):
    assert invoke(["check", "acdc", "--data", str(few)]) == 0
    out = capsys.readouterr().out
    assert out.count("passes") == 13
    assert "fails" not in out


def test_a_folder_whose_name_looks_like_markup(few, tmp_path, capsys):
    named = tmp_path / "br[/b]c"
    shutil.copytree(few, named)
    assert invoke(["check", "acdc", "--data", str(named)]) == 0
    assert "br[/b]c" in capsys.readouterr().out


def test_check_names_what_fails_and_goes_on(few, capsys, monkeypatch):
    domain = plugins.domain("acdc")
    monkeypatch.setattr(domain, "read", lambda self, item, mask=True: Sample(None))
    assert invoke(["check", "acdc", "--data", str(few)]) == 2
    told = capsys.readouterr()
    assert "fails" in told.out
    assert "AttributeError" in told.out
    assert "passes card" in told.out
    assert "of 13 checks fail" in told.err


@pytest.mark.skipif(not SPLITS.is_dir(), reason=f"the community's split lists are not at {SPLITS}")
def test_splits_installs_names_and_lists(capsys):
    assert invoke(["splits", "pascal"]) == 2
    assert "--from DIR" in capsys.readouterr().err
    assert invoke(["splits", "pascal", "--from", str(SPLITS / "unimatch" / "pascal")]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("classic", "u2pl", "1,323", "9,259", "installed in"))
    assert "lists-" not in shown, "every one of them is a known family"
    assert invoke(["splits", "pascal"]) == 0
    assert "classic" in capsys.readouterr().out


def test_a_split_of_ones_own_is_recorded_and_resumed(few, job, quietly, unscored, tmp_path):
    domain = plugins.domain("acdc")(few)
    cases = sorted({item.case for item in domain.index("train")})
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "labeled.txt").write_text(cases[0] + "\n")
    (folder / "unlabeled.txt").write_text("\n".join(cases[1:]) + "\n")
    asked = job(tmp_path, "supervised", labels=None, split=str(folder), train__steps=2)
    planned = plan(asked)
    assert {i.case for i in planned.split.labelled} == {cases[0]}
    assert planned.split.family.startswith("lists-")
    assert planned.hash != plan(job(tmp_path, "supervised", labels="1", train__steps=2)).hash
    run = quietly(asked)
    assert run.record().split.asked == str(folder)
    assert prepared(job_of(run)).hash == planned.hash


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../b", "~/x", "C:\\x", "\\\\host\\x", "a\\..\\b"])
def test_a_path_that_leaves_the_root_is_refused(name, tmp_path):
    with pytest.raises(InputError, match=r"list\.txt: .* leaves the data root"):
        inside(tmp_path, name, "list.txt")


@pytest.mark.parametrize("name", ["a/b.png", "a..b/c", "./x", "..x"])
def test_a_path_below_the_root_is_taken(name, tmp_path):
    assert inside(tmp_path, name, "list.txt") == tmp_path / name
