"""All numbers of many runs in one table, with what each rests on; nothing unreadable ends it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import diffmatch.records.frame as module_or_function
from diffmatch.domain import InputError
from diffmatch.records import frame
from diffmatch.records.folder import RunFolder
from diffmatch.records.select import select_evaluation

Make = Callable[..., RunFolder]
KEY = ["run", "evaluation", "evaluated_split", "class", "metric"]


def one(table: pd.DataFrame, **columns: object) -> float:
    """The value of the only row that has these columns."""
    for name, wanted in columns.items():
        table = table[table[name.rstrip("_")] == wanted]
    (value,) = table.value
    return float(value)


def test_every_number_of_a_run_has_one_row_with_what_it_rests_on(make_run: Make) -> None:
    folder = make_run(overrides={"train": {"steps": 600}}, environment={"time": "2026-02-02"})
    record = folder.record()
    table = frame(folder.path)
    assert not table.attrs["problems"] and not table.duplicated(KEY).any() and table.value.notna().all()
    row = table.iloc[0]
    assert (row.run, row.dataset, row.method, row.seed, row.preset) == (
        str(folder.path),
        "acdc",
        "diffmatch",
        0,
        "quick",
    )
    assert (row.labels, row.split_family, row.split_hash) == ("3", "unimatch", record.split.sha256)
    assert (row.data_fingerprint, row.fabricated, row.status) == (record.data.fingerprint, True, "done")
    assert (row.hash, row.settings, row.time) == (record.hash, '{"train.steps": 600}', "2026-02-02")
    assert row.card_metric == "mean_dice"
    for each, _ in folder.evaluations():
        own = table[table.evaluation == each.name]
        assert {*zip(own.checkpoint, own.evaluated_split, own.protocol, own.steps, own.draws, strict=True)} == {
            (each.checkpoint, each.split, each.protocol, each.steps, each.draws)
        }
        numbers = own.set_index(["class", "metric"]).value
        assert numbers["", "primary"] == each.metrics["primary"]["value"]
        assert numbers["", "primary_n_valid"] == each.metrics["primary"]["n_valid"]
        assert numbers["", "ece"] == each.metrics["ece"]
        for klass, values in each.metrics["per_class"].items():
            assert numbers[klass].to_dict().items() >= values.items()
        headline = select_evaluation(record, [e for e, _ in folder.evaluations()], split=each.split)
        assert set(own.headline) == {each == headline}
    assert one(table, evaluation="", metric="parameters") == record.parameters["total"]
    assert one(table, evaluation="", metric="train_seconds") == record.timing["train_seconds"]


def test_speed_is_in_volumes_where_whole_volumes_were_scored(make_run: Make) -> None:
    """The pool is scored slice by slice whatever the protocol."""
    table = frame(make_run().path)
    speed = table[table.metric.str.endswith("s_per_second") & (table.evaluation != "")]
    assert {*zip(speed.evaluated_split, speed.metric, strict=True)} == {
        ("test", "volumes_per_second"),
        ("unlabeled", "images_per_second"),
    }


def test_what_was_not_computed_has_no_row(make_run: Make) -> None:
    folder = make_run(light=True)
    (path,) = (folder.path / "evaluations").glob("*.json")
    for file, where in ((folder.record_path, ("metrics", "test")), (path, ("metrics",))):
        content = json.loads(file.read_text())
        metrics = content
        for name in where:
            metrics = metrics[name]
        del metrics["ece"], metrics["tail"]["value"], metrics["per_class"]["Myo"]["dice"]
        file.write_text(json.dumps(content))
    table = frame(folder.path)
    scored = table[table.headline]
    assert not {"ece", "tail"} & set(scored[scored["class"] == ""].metric)
    assert "dice" not in set(scored[scored["class"] == "Myo"].metric)
    unfinished = frame(make_run(status="failed", full=False).path)
    assert set(unfinished.status) == {"failed"} and not unfinished.headline.any()


def test_many_folders_are_one_table_that_pandas_groups(make_run: Make) -> None:
    folders = [make_run(seed=seed, skill=3 + seed, light=True) for seed in range(3)]
    roots = [folders[0].path.parent, folders[1].path]
    table = frame(roots)
    assert table.run.nunique() == 3, "a run below two of the paths is read once"
    scores = table[table.headline & (table.evaluated_split == "test") & (table.metric == "primary")]
    (group,) = scores.groupby(["method", "hash"]).value.agg(["mean", "std", "count"]).itertuples()
    values = [folder.record().metrics["test"]["primary"]["value"] for folder in folders]
    assert group.mean == pytest.approx(sum(values) / 3) and group.count == 3
    assert group.std == pytest.approx(math.sqrt(sum((v - sum(values) / 3) ** 2 for v in values) / 2))


def test_a_headline_without_its_file_is_read_from_run_json(make_run: Make) -> None:
    folder = make_run(light=True)
    for path in (folder.path / "evaluations").iterdir():
        path.unlink()
    table = frame(folder.path)
    value = folder.record().metrics["test"]["primary"]["value"]
    assert one(table, metric="primary", evaluated_split="test", headline=True, evaluation="") == value


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("run.json", '{"schema": 9}'),
        ("run.json", None),
        ("run.json", {"metrics": {"test": {"primary": {"value": "high"}}}}),
        ("run.json", {"card": {"name": "of another world"}}),
        ("evaluations/val-test-volume-3x1.json", "{"),
        ("evaluations/val-test-volume-3x1.json", {"checkpoint": "last"}),
    ],
)
def test_what_cannot_be_read_is_a_problem_beside_the_rest(make_run: Make, file: str, content: object) -> None:
    good, bad = make_run(), make_run(seed=1)
    path = bad.path / file
    if isinstance(content, dict):
        path.write_text(json.dumps(json.loads(path.read_text()) | content))
    else:
        path.write_text(content if isinstance(content, str) else path.read_text()[:80])
    table = frame(good.path.parent)
    (problem,) = table.attrs["problems"]
    assert str(path) in problem and "\n" not in problem
    assert set(table.run) == {str(good.path)} | ({str(bad.path)} if file != "run.json" else set())
    assert "val-test-volume-3x1" not in set(table[table.run == str(bad.path)].evaluation)


def test_no_run_is_an_empty_table_and_no_folder_an_error(tmp_path: Path) -> None:
    table = frame(tmp_path)
    assert table.empty and {"run", "class", "metric", "value"} <= set(table.columns)
    with pytest.raises(InputError, match="nowhere"):
        frame(tmp_path / "nowhere")


def test_the_package_gives_the_function() -> None:
    assert callable(frame) and module_or_function is frame
