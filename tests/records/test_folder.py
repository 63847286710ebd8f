"""The run folder as files: hashes, curves cut off by a kill, records that are not ours."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffmatch.domain import InputError
from diffmatch.records.counts import Counts
from diffmatch.records.curves import Curves
from diffmatch.records.folder import RunFolder, budget_folder, find_runs
from diffmatch.records.schema import EvaluationRecord
from diffmatch.shared.files import digest, write_json

trees = st.recursive(
    st.integers() | st.text() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def turned_round(tree):
    if isinstance(tree, dict):
        return {k: turned_round(v) for k, v in reversed(tree.items())}
    return [turned_round(v) for v in tree] if isinstance(tree, list) else tree


@given(trees, trees)
def test_a_digest_depends_on_content_and_not_on_the_order_of_keys(one, other):
    assert digest(turned_round(one)) == digest(one)
    assert (digest(one) == digest(other)) == (json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True))


def test_nan_is_refused_and_the_old_file_stays(tmp_path):
    write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}


@pytest.mark.parametrize(("budget", "folder"), [("1/16", "1-16"), ("5%", "5pct"), ("3", "3")])
def test_budgets_as_folder_names(budget, folder):
    assert budget_folder(budget) == folder


def test_curves_after_a_kill_keep_whole_rows_up_to_the_checkpoint(tmp_path):
    path = tmp_path / "curves.csv"
    curves = Curves(path)
    for step in (10, 20, 30):
        curves.append([(step, "loss/sup", "", 0.5), (step, "pseudo/count", "a, b", step)])
    whole = path.read_text()
    path.write_text(whole[: whole.rindex(",") + 1])  # the last value was not written any more
    assert len(list(Curves.read(path))) == 5
    Curves(path, 20).append([(30, "loss/sup", "", 0.25)])
    rows = list(Curves.read(path))
    assert [(r["step"], r["class"], r["value"]) for r in rows] == [
        ("10", "", "0.5"),
        ("10", "a, b", "10"),
        ("20", "", "0.5"),
        ("20", "a, b", "20"),
        ("30", "", "0.25"),
    ]
    assert not list(Curves.read(Curves(path).path)), "a fresh start keeps nothing"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 1}', '{"schema": 1, "unheard": 2}'])
def test_a_foreign_record_is_told_by_name_in_one_line(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(InputError, match=r"run\.json: not a run record") as told:
        RunFolder(tmp_path).record()
    assert "\n" not in str(told.value)


@pytest.fixture
def scored(tmp_path):
    run = RunFolder(tmp_path)
    counts = Counts(2)
    counts.confusion[0, 1] = 7
    record = EvaluationRecord(
        schema=1,
        checkpoint="last",
        step=9,
        selection="last checkpoint",
        split="test",
        protocol="whole",
        steps=3,
        draws=1,
        seconds=1.0,
        images_per_second=2.0,
        environment={},
        metrics={"ece": 0.5},
    )
    run.write_evaluation(record, counts)
    return run


def test_an_evaluation_is_read_as_it_was_written(scored):
    ((record, counts),) = scored.evaluations()
    assert record.name == "last-test-whole-3x1"
    assert record.metrics == {"ece": 0.5}
    assert counts.confusion.tolist() == [[0, 7], [0, 0]]


@pytest.mark.parametrize("suffix", ["json", "npz"])
@pytest.mark.parametrize("kept", [None, 0, 30])
def test_a_damaged_evaluation_is_told_by_name_in_one_line(scored, suffix, kept):
    path = scored.path / "evaluations" / f"last-test-whole-3x1.{suffix}"
    if kept is None and suffix == "json":
        path.write_text("{}")
    elif kept is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match="last-test-whole-3x1") as told:
        scored.evaluations()
    assert "\n" not in str(told.value)


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="--out"):
        RunFolder(tmp_path / "file" / "run").create()
    created = RunFolder(tmp_path / "a" / "b").create().path
    assert created.is_dir()
    assert not list(created.iterdir())


def test_the_ranks_of_a_run_make_its_folder_at_once(tmp_path):
    with ThreadPoolExecutor(8) as ranks:
        made = {folder.path for folder in ranks.map(lambda _: RunFolder(tmp_path / "run").create(), range(400))}
    assert made == {tmp_path / "run"}
    assert not list((tmp_path / "run").iterdir())


def test_runs_are_found_below_a_folder_and_in_it(tmp_path):
    for name in ("b/2", "a/1"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "run.json").touch()
    assert [run.path for run in find_runs(tmp_path)] == [tmp_path / "a/1", tmp_path / "b/2"]
    assert [run.path for run in find_runs(tmp_path / "a/1")] == [tmp_path / "a/1"]
    assert find_runs(Path("nowhere")) == []
