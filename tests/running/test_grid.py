"""Grids: what is done is found wherever its record lies, what failed is tried again, cells share runs, estimates are of
this machine."""

from __future__ import annotations

import io
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from diffmatch.cli import invoke
from diffmatch.data import opening
from diffmatch.domain import InputError
from diffmatch.records import packed
from diffmatch.running import grid
from diffmatch.running import plan as planning
from diffmatch.running.lock import held
from diffmatch.running.stopping import StoppedError


def test_cells_that_ask_for_one_run_share_it(small):
    found = grid.entries([small(), small(), small(seed=1)], others=())
    assert len(found) == 2
    assert not any(entry.done for entry in found.values())


def test_the_data_of_many_runs_are_opened_once(small, monkeypatch):
    times = []
    monkeypatch.setattr(
        planning, "open_domain", lambda kind, root: times.append(root) or opening.open_domain(kind, root)
    )
    apart = [entry.planned.hash for n in range(3) for entry in grid.entries([small(seed=n)], others=()).values()]
    assert len(times) == 3
    together = grid.entries([small(seed=n) for n in range(3)], others=())
    assert len(times) == 4 and [entry.planned.hash for entry in together.values()] == apart


def test_what_is_missing_is_run_once_and_found_again(small, console):
    jobs = [small(), small(seed=1)]
    found = grid.entries(jobs, others=())
    grid.run_missing(found.values(), console)
    assert all(entry.done for entry in found.values())
    assert "run 2 of 2" in console.file.getvalue()
    assert "left" in console.file.getvalue()
    again = grid.entries(jobs, others=())
    assert all(entry.done for entry in again.values())
    quiet = Console(file=io.StringIO())
    grid.run_missing(again.values(), quiet)
    assert quiet.file.getvalue() == ""


@pytest.fixture
def trained(small, console):
    """The run of `small()`."""
    (entry,) = grid.entries([small()], others=()).values()
    grid.run_missing([entry], console)
    return entry.folder


def stored(run, root):
    """The run's record without its checkpoints below `root`, which is a folder or a packed study."""
    name = Path(*run.path.parts[-4:])
    content = {name / p.relative_to(run.path): p.read_bytes() for p in packed.files(run.path) if p.suffix != ".ckpt"}
    if root.suffix == packed.SUFFIX:
        packed.write(root, {path.as_posix(): data for path, data in content.items()})
        return root / name
    for path, data in content.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root / name


@pytest.mark.parametrize("place", ["", "study.zip"])
def test_records_under_results_count_as_done(trained, small, tmp_path, place):
    kept = stored(trained, tmp_path / "results" / place)
    shutil.rmtree(tmp_path / "runs")
    (entry,) = grid.entries([small()], others=(tmp_path / "results",)).values()
    assert entry.done
    assert entry.folder.path == kept
    assert grid.evaluation(entry, "last", None, None).checkpoint == "last"
    assert grid.evaluation(entry, "val", None, None) is None and "no such checkpoint" in entry.problem


def test_the_project_s_records_are_found_from_any_directory(trained, small, tmp_path, monkeypatch):
    package = tmp_path / "package"
    kept = stored(trained, package / "results" / "study.zip")
    shutil.rmtree(tmp_path / "runs")
    monkeypatch.setattr(grid, "files", lambda name: package if name == "diffmatch_benchmarks" else None)
    for working, shown in ((package, kept.relative_to(package)), (tmp_path / "elsewhere", kept)):
        working.mkdir(exist_ok=True)
        monkeypatch.chdir(working)
        (entry,) = grid.entries([small()]).values()
        assert entry.done and entry.folder.path == shown
    monkeypatch.setattr(grid, "files", lambda name: tmp_path / "wheel")
    (entry,) = grid.entries([small()]).values()
    assert not entry.done, "a wheel has no records"


def test_a_damaged_study_is_told_before_anything_is_trained_again(small, tmp_path):
    (tmp_path / "study.zip").write_text("truncated")
    with pytest.raises(InputError, match=r"study\.zip: cannot be read as a packed study"):
        grid.entries([small()], others=(tmp_path,))


def test_the_records_of_this_checkout_are_the_project_s(tmp_path, monkeypatch):
    root = Path(__file__).parents[2]
    monkeypatch.chdir(tmp_path)
    assert grid.results().resolve() == (root / "benchmarks" / "results").resolve()
    monkeypatch.chdir(root)
    assert grid.results() == Path("benchmarks/results")


@pytest.mark.parametrize("error", [InputError("the disk is full"), RuntimeError("the disk\n is full")])
def test_a_failed_run_is_told_does_not_stop_the_others_and_is_tried_again(small, console, monkeypatch, error):
    jobs = [small(), small(seed=1)]
    real, tried = grid.run, []

    def run(job, console, wait):
        tried.append(job.seed)
        if job.seed == 0 and tried.count(0) == 1:
            raise error
        return real(job, console, wait)

    monkeypatch.setattr(grid, "run", run)
    found = list(grid.entries(jobs, others=()).values())
    grid.run_missing(found, console)
    assert [entry.done for entry in found] == [False, True]
    ours = isinstance(error, RuntimeError)
    assert found[0].problem == ("RuntimeError: the disk is full" if ours else "the disk is full")
    assert ("Traceback" in console.file.getvalue()) == ours
    assert grid.evaluation(found[0], "last", None, None) is None
    again = list(grid.entries(jobs, others=()).values())
    grid.run_missing(again, console)
    assert [entry.done for entry in again] == [True, True]
    assert tried == [0, 1, 0]


@pytest.mark.parametrize("error", [StoppedError("after step 1"), KeyboardInterrupt()])
def test_a_polite_stop_stops_the_grid(small, console, monkeypatch, error):
    tried = []

    def run(job, console, wait):
        tried.append(job.seed)
        raise error

    monkeypatch.setattr(grid, "run", run)
    with pytest.raises(type(error)):
        grid.run_missing(grid.entries([small(), small(seed=1)], others=()).values(), console)
    assert tried == [0]


def test_what_another_process_trains_is_left_for_the_end_and_waited_for(small, console, monkeypatch):
    jobs = [small(), small(seed=1)]
    found = list(grid.entries(jobs, others=()).values())
    real, tried, trained, holds = grid.run, [], threading.Event(), threading.Event()

    def other():  # trains seed 0, and is done after seed 1 is
        with held(found[0].planned.folder.create().path):
            holds.set()
            assert trained.wait(60)

    def run(job, console, wait):
        tried.append((job.seed, wait))
        folder = real(job, console, wait)
        trained.set()
        return folder

    monkeypatch.setattr(grid, "run", run)
    beside = threading.Thread(target=other)
    beside.start()
    assert holds.wait(60)
    grid.run_missing(found, console)
    beside.join()
    assert tried == [(0, False), (1, False), (0, True)]
    assert [(entry.done, entry.problem) for entry in found] == [(True, ""), (True, "")]
    assert "left for the end" in console.file.getvalue()
    assert "waiting for another process" in console.file.getvalue()


def test_a_record_that_cannot_be_read_is_the_problem_of_its_run_alone(small, console, tmp_path):
    jobs = [small(), small(seed=1)]
    grid.run_missing(grid.entries(jobs, others=()).values(), console)
    broken, good = (entry.folder for entry in grid.entries(jobs, others=()).values())
    broken.record_path.write_bytes(broken.record_path.read_bytes()[:100])
    found = list(grid.entries(jobs, others=()).values())
    assert [entry.done for entry in found] == [False, True]
    assert str(broken.record_path) in found[0].problem
    grid.run_missing(found, console)
    assert [entry.done for entry in found] == [False, True] and str(broken.record_path) in found[0].problem

    broken.record_path.unlink()
    kept = tmp_path / "results" / broken.path.relative_to(tmp_path / "runs")
    shutil.copytree(good.path, kept)
    (kept / "run.json").write_text("{")
    (again, _) = grid.entries(jobs, others=(tmp_path / "results",)).values()
    assert not again.done and str(kept) in again.problem
    grid.run_missing([again], console)
    assert again.done and not again.problem, "the run was made again beside the broken record"


def test_an_estimate_grows_with_the_steps(small):
    few, many = (next(iter(grid.entries([small(train__steps=n)], others=()).values())) for n in (2, 2000))
    assert 0 < grid.estimate(few.planned) < grid.estimate(many.planned)


def test_jobs_that_differ_are_not_one(small):
    one = small()
    others = [
        replace(one, seed=1),
        replace(one, labels="3"),
        replace(one, preset="paper"),
        replace(one, overrides={}),
        small(train__steps=3),
    ]
    assert len({grid.identity(j) for j in (one, *others)}) == 6


@pytest.mark.parametrize(("seconds", "text"), [(5, "5 s"), (75, "1 min 15 s"), (4000, "1 h 6 min")])
def test_time_is_told_as_people_say_it(seconds, text):
    assert grid.clock(seconds) == text


SPEC = """
title: two methods on one patient
dataset: acdc
data: {data}
baseline: plain
ours: ours
columns:
  - {{name: one, labels: '1'}}
  - {{name: tail, labels: '1', metric: tail}}
  - {{name: size, labels: '1', metric: parameters}}
rows:
  - {{name: plain, method: supervised}}
  - {{name: ours, method: diffmatch}}
  - {{name: steps, method: diffmatch, steps: 1}}
  - {{name: theirs}}
"""


def test_the_command_runs_what_is_missing_and_prints_the_table(few, stub, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(SPEC.format(data=few))
    sets = [
        word for key, value in stub(train__steps=2, train__audits=0).items() for word in ("--set", f"{key}={value}")
    ]
    assert invoke(["table", "mine.yaml", "--dry", *sets]) == 0
    shown = capsys.readouterr().out
    assert "2 of 2 runs are missing" in shown and "published numbers alone: theirs" in shown
    assert not (tmp_path / "runs").exists()
    assert invoke(["table", "mine.yaml", *sets]) == 0
    shown = capsys.readouterr().out
    assert "two methods on one patient" in shown
    assert "improvement" in shown
    assert "theirs*" in shown
    assert invoke(["table", "mine.yaml", "--form", "csv", *sets]) == 0
    assert capsys.readouterr().out.count("runs/acdc") == 9
    assert invoke(["table", "mine.yaml", "--dry", *sets]) == 0
    assert "0 of 2 runs are missing" in capsys.readouterr().out


def test_one_broken_record_leaves_the_others_in_the_table(few, stub, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(SPEC.format(data=few))
    sets = [
        word for key, value in stub(train__steps=2, train__audits=0).items() for word in ("--set", f"{key}={value}")
    ]
    assert invoke(["table", "mine.yaml", *sets]) == 0
    capsys.readouterr()
    (broken,) = (tmp_path / "runs" / "acdc" / "supervised").rglob("run.json")
    broken.write_text(broken.read_text()[:200])
    assert invoke(["table", "mine.yaml", "--dry", *sets]) == 0
    assert "not readable" in capsys.readouterr().out
    assert invoke(["table", "mine.yaml", "--form", "csv", *sets]) == 2
    out = capsys.readouterr().out
    assert out.count("runs/acdc/diffmatch") == 6 and "runs/acdc/supervised" in out and "not a run record" in out


@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        ("title:", "protocol: whoole\ntitle:", "acdc has no protocol 'whoole'"),
        ("metric: tail", "metric: 'class:rodd'", "no class 'rodd' in acdc"),
    ],
)
def test_what_cannot_be_scored_is_told_before_training(few, tmp_path, capsys, monkeypatch, was, now, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(SPEC.format(data=few).replace(was, now))
    assert invoke(["table", "mine.yaml", "--dry"]) == 2
    assert told in capsys.readouterr().err


def test_a_blank_cell_makes_the_command_fail(few, stub, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(grid, "run", lambda job, console, wait: (_ for _ in ()).throw(InputError("no luck")))
    (tmp_path / "mine.yaml").write_text(SPEC.format(data=few))
    assert invoke(["table", "mine.yaml"]) == 2
    told = capsys.readouterr()
    assert "Blank: plain, one: no luck" in told.out
    assert "9 cells of installed methods are blank" in told.err


def test_a_row_of_records_reads_them_and_runs_nothing(few, stub, tmp_path, capsys, monkeypatch):
    """An earlier version of a method cannot be run: its row names its records, and one that is not there is said."""
    monkeypatch.chdir(tmp_path)
    spec = SPEC.format(data=few).replace("  - {name: theirs}\n", "")
    (tmp_path / "mine.yaml").write_text(spec)
    sets = [
        word for key, value in stub(train__steps=2, train__audits=0).items() for word in ("--set", f"{key}={value}")
    ]
    assert invoke(["table", "mine.yaml", *sets]) == 0
    (old,) = (tmp_path / "runs/acdc/diffmatch/1").iterdir()
    (tmp_path / "old.yaml").write_text(
        f"{spec}  - {{name: before, method: diffmatch, records: {{'1': [{old.name}, 1-{old.name[2:]}]}}}}\n"
    )
    capsys.readouterr()
    monkeypatch.setattr(grid, "run_missing", lambda *_: None)
    assert invoke(["table", "old.yaml", "--form", "csv", *sets]) == 0
    shown = pd.read_csv(io.StringIO(capsys.readouterr().out)).set_index(["row", "column"])
    for column in ("one", "tail", "size"):
        pd.testing.assert_series_equal(shown.loc["before", column], shown.loc["ours", column], check_names=False)
    assert invoke(["table", "old.yaml", "--seeds", "2", *sets]) == 2
    assert f"row 'before': no record acdc/diffmatch/1/1-{old.name[2:]}" in capsys.readouterr().err
