"""A finished run is scored again, otherwise."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffmatch.cli import invoke
from diffmatch.domain import InputError
from diffmatch.records.counts import Counts
from diffmatch.records.folder import RunFolder
from diffmatch.records.schema import EvaluationRecord
from diffmatch.running.restored import evaluate_run


@pytest.fixture
def copy(finished: RunFolder, tmp_path: Path) -> RunFolder:
    """The finished run, to write into."""
    path = tmp_path / finished.path.relative_to(finished.path.parents[3])
    shutil.copytree(finished.path, path)
    return RunFolder(path)


def again(folder: RunFolder, which: Any = "last", part: Any = "test", **asked: Any) -> EvaluationRecord:
    return evaluate_run(folder, which, part, **{"steps": None, "draws": None, "protocol": None, "data": None} | asked)


@pytest.mark.parametrize("part", ["test", "val", "unlabeled"])
def test_scoring_again_gives_the_headline_exactly(part: str, copy: RunFolder) -> None:
    """From the checkpoint alone, in a method built anew."""
    before = copy.record_path.read_bytes()
    found = again(copy, "last", part)
    assert found.metrics == copy.record().metrics[part]
    assert copy.record_path.read_bytes() == before and len(copy.evaluations()) == 3


def test_the_headline_keeps_its_file_where_scoring_again_rounds_otherwise(
    copy: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on another device: run.json, its evaluation and the counts stay together; a damaged file is made again."""
    record, (found, counts) = copy.record(), copy.evaluation("test") or pytest.fail("no headline")
    found.metrics["primary"]["value"] += 1e-7
    record.metrics["test"] = found.metrics
    copy.write(record)
    copy.write_evaluation(found, counts)
    path = copy.path / "evaluations" / "last-test-test40-3x1.json"
    before = path.read_bytes()
    assert invoke(["evaluate", str(copy.path)]) == 0
    assert "was kept" in capsys.readouterr().out
    assert path.read_bytes() == before and copy.evaluation("test") is not None
    path.write_text("{")
    assert invoke(["evaluate", str(copy.path)]) == 0
    assert "written: " in capsys.readouterr().out and len(copy.evaluations()) == 3


def test_other_steps_and_draws_are_another_evaluation(copy: RunFolder) -> None:
    before, headline = (
        copy.record_path.read_bytes(),
        (copy.path / "evaluations" / "last-test-test40-3x1.json").read_bytes(),
    )
    found = again(copy, steps=1, draws=2)
    assert (found.steps, found.draws, found.name) == (1, 2, "last-test-test40-1x2")
    assert copy.record_path.read_bytes() == before
    assert (copy.path / "evaluations" / "last-test-test40-3x1.json").read_bytes() == headline
    counts = Counts.load(copy.path / "evaluations" / "last-test-test40-1x2.npz")
    reference = copy.evaluation("test")
    assert reference is not None and reference[0].steps == 3  # the headline is still found
    assert counts.confusion.sum() == reference[1].confusion.sum() and not np.array_equal(counts.top, reference[1].top)
    assert again(copy, "last", "unlabeled", steps=1).steps == 1


def test_best_on_val_can_be_scored(copy: RunFolder, weights: Any, same: Any) -> None:
    found = again(copy, "val")
    assert found.name == "val-test-test40-3x1" and found.selection == "best on val" and found.step in (2, 4, 6)
    assert same(weights(copy), weights(copy, "val_best.ckpt")) == (found.step == 6)
    assert copy.record().metrics["test"] == copy.evaluation("test")[0].metrics  # type: ignore[index]


def test_another_protocol_pools_other_items(copy: RunFolder) -> None:
    found = again(copy, protocol="unimatch60")
    counts = Counts.load(copy.path / "evaluations" / f"{found.name}.npz")
    assert sorted(counts.cases) == [f"patient00{p}_frame0{f}" for p in (1, 2) for f in (1, 2)]
    with pytest.raises(InputError, match="test40, unimatch60"):
        again(copy, protocol="unimatch61")


def test_scoring_with_what_is_not_the_run_s(copy: RunFolder, few: Path, tmp_path: Path) -> None:
    """A number of other data, or of another run's checkpoint, never stands in this run's folder."""
    (copy.path / "val_best.ckpt").unlink()
    with pytest.raises(InputError, match=r"val_best\.ckpt: no such checkpoint"):
        again(copy, "val")
    shutil.copytree(few, tmp_path / "other")
    with (tmp_path / "other" / "training" / "patient001" / "patient001_frame01.nii.gz").open("ab") as handle:
        handle.write(b"\n")
    with pytest.raises(InputError, match="not the files"):
        again(copy, data=tmp_path / "other")
    content = torch.load(copy.path / "last.ckpt", weights_only=True)
    for key, value, message in (
        ("run", "1-00000000", r"is the checkpoint of the run 1-00000000, not of 0-"),
        ("split", "0" * 64, "belongs to split 00000000"),
    ):
        torch.save(content | {key: value}, copy.path / "last.ckpt")
        with pytest.raises(InputError, match=message):
            again(copy)
    assert not (copy.path / "evaluations" / "val-test-test40-3x1.json").exists()


def test_evaluate_on_the_command_line(copy: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["evaluate", str(copy.path), "--steps", "2"]) == 0
    out = capsys.readouterr().out
    value = next(e for e, _ in copy.evaluations() if e.steps == 2).metrics["primary"]["value"]
    assert f"mean_dice {value:.4f}" in out and "2 steps x 1 draws" in out and "left ventricle: " in out
