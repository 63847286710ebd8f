"""From a job to its run folder: identity, records, skipping, and what is told of data that were invented."""

from __future__ import annotations

import io
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from rich.console import Console

import diffmatch
from diffmatch.cli import invoke
from diffmatch.data.opening import cache_root
from diffmatch.domain import InputError, Published
from diffmatch.records.folder import RunFolder, find_runs
from diffmatch.records.schema import EvaluationRecord, RunRecord
from diffmatch.running import job as jobs
from diffmatch.running.again import job_of, prepared
from diffmatch.running.plan import Job, plan
from diffmatch.running.preflight import announce
from diffmatch.running.restored import evaluate_run
from diffmatch.running.trainer import Trainer
from diffmatch.scoring.metrics import summary
from diffmatch_acdc import ACDC


def numbers(tree: Any) -> list[float]:
    if isinstance(tree, dict):
        return [n for value in tree.values() for n in numbers(value)]
    if isinstance(tree, list):
        return [n for value in tree for n in numbers(value)]
    return [tree] if isinstance(tree, int | float) and not isinstance(tree, bool) else []


def refuse(text: str) -> float:
    raise AssertionError(f"{text} in a record")


# -- the record --------------------------------------------------------------------------------------------------------


def test_the_record_is_complete_and_true(finished: RunFolder, job: Any, few: Path) -> None:
    text = finished.record_path.read_text()
    raw = json.loads(text, parse_constant=refuse)
    assert raw["schema"] == 2 and raw["status"] == "done" and "reason" not in raw
    record = RunRecord.model_validate(raw)
    planned = plan(job(finished.path.parents[3], method__ema=0.9))
    assert planned.folder.path == finished.path and record.hash == planned.hash == finished.path.name.split("-")[1]
    assert record.split.sha256 == planned.split.sha256 and record.split.family == "ssl4mis"
    assert record.labels.items == sorted(i.id for i in planned.split.labelled) and record.labels.unit == "cases"
    assert {i.case for i in planned.split.labelled} == {"patient099"}
    assert record.settings == planned.settings.model_dump(mode="json")
    assert record.settings["train"]["steps"] == 6 and record.overrides["method.ema"] == 0.9
    assert record.data == planned.data and not record.data.fabricated and record.data.root == str(few)
    assert (record.data.fingerprint, record.data.fingerprint_of) == (planned.fingerprint.sha256, "contents")
    assert record.parameters["total"] == sum(p.numel() for p in planned.build().parameters() if p.requires_grad)
    assert 0 < record.parameters["extractor"] < record.parameters["total"]
    assert (
        record.environment["device"] == "cpu"
        and record.environment["world_size"] == 1
        and record.environment["packages"]["torch"]
    )
    assert all(math.isfinite(value) and value > 0 for value in record.timing.values())
    assert set(record.timing) == {"train_seconds", "train_images_per_second", "evaluate_seconds"}
    pixels = planned.pixels.sum(0)
    assert list(record.labels.pixels.values()) == pixels.tolist() and pixels.sum() == sum(
        planned.domain.read(item).mask.size for item in planned.split.labelled
    )


def test_settings_that_are_none_are_recorded(finished: RunFolder) -> None:
    """`data.resize=null` is a choice; a record that drops it is that of another run."""
    record = finished.record()
    changed = record.model_copy(update={"settings": {"data": {"resize": None}}, "overrides": {"data.resize": None}})
    folder = RunFolder(finished.path.parent / "copy").create()
    try:
        folder.write(changed)
        assert folder.record() == changed
    finally:
        shutil.rmtree(folder.path)


def test_test_val_and_pool_are_scored(finished: RunFolder) -> None:
    record = finished.record()
    found = {e.split: (e, counts) for e, counts in finished.evaluations()}
    assert set(found) == set(record.metrics) == {"test", "val", "unlabeled"}
    card = prepared(job_of(finished)).card
    pixels = list(record.labels.pixels.values())
    for split, (evaluation, counts) in found.items():
        raw = json.loads((finished.path / "evaluations" / f"{evaluation.name}.json").read_text(), parse_constant=refuse)
        assert EvaluationRecord.model_validate(raw) == evaluation
        assert (
            evaluation.metrics == record.metrics[split] == summary(counts, card, pixels, pool=split == "unlabeled")
        )  # the numbers follow from the counts
        assert (evaluation.checkpoint, evaluation.step, evaluation.selection) == ("last", 6, "last checkpoint")
        assert evaluation.seconds > 0 and evaluation.images_per_second > 0
        assert finished.evaluation(split) is not None
    assert sorted(found["test"][1].cases) == ["patient001_frame01", "patient001_frame02"]
    assert list(found["unlabeled"][1].cases) == ["patient021"]
    assert found["unlabeled"][1].accepted.sum() <= found["unlabeled"][1].confusion.sum()
    assert not found["test"][1].accepted.any()


def test_what_was_not_computed_is_absent(finished: RunFolder) -> None:
    """After six steps some class is predicted nowhere: it has no precision and no distances, rather than zeros."""
    missing = 0
    for metrics in finished.record().metrics.values():
        assert all(math.isfinite(n) for n in numbers(metrics))
        for row in metrics["per_class"].values():
            assert ("precision" in row) == (row["predicted_pixels"] > 0)
            if not row["predicted_pixels"]:
                missing += 1
                assert row["dice"] == 0.0 if row["truth_pixels"] else "dice" not in row
                assert not any(key.startswith(("hd95", "asd")) for key in row) and not row.get("n_distances")
    assert missing, "every class is predicted: this test sees nothing"
    assert (
        "hd95_voxel" not in finished.record().metrics["val"]["per_class"]["left ventricle"]
    )  # val is scored without distances


def test_samples_for_the_report(finished: RunFolder) -> None:
    (path,) = finished.samples()
    with np.load(path, allow_pickle=False) as sample:
        assert sample["steps"].shape == (3, *sample["truth"].shape) and sample["steps"].max() < 4
        assert sample["image"].shape[:2] == sample["truth"].shape and sample["image"].dtype == np.uint8
        assert set(np.unique(sample["truth"])) == {0, 1, 2, 3} and str(sample["title"]).startswith("patient001_frame01")


@pytest.mark.parametrize("model, name", [(RunRecord, "run"), (EvaluationRecord, "evaluation")])
def test_schema_files_are_in_step_with_the_models(model: Any, name: str) -> None:
    """Written by `json.dumps(model.model_json_schema(by_alias=True), indent=1)`."""
    path = Path(diffmatch.__path__[0]) / "records" / f"{name}.schema.json"
    assert json.loads(path.read_text()) == model.model_json_schema(by_alias=True), (
        f"{path.name} is not that of {model.__name__}: write it again"
    )


# -- identity ----------------------------------------------------------------------------------------------------------


def test_what_a_run_is_decides_its_folder(job: Any, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = plan(job(tmp_path))
    assert base.folder.path == tmp_path / "acdc" / "diffmatch" / "1" / f"0-{base.hash}"
    assert plan(job(tmp_path)).hash == base.hash
    reordered = job(tmp_path)
    assert plan(replace(reordered, overrides=dict(reversed(reordered.overrides.items())))).hash == base.hash
    assert plan(job(tmp_path, workers=2, tensorboard=True)).hash == base.hash  # how it is run does not matter
    assert plan(job(tmp_path, seed=1)).folder.path.name == f"1-{base.hash}"
    other = {
        "a setting": plan(job(tmp_path, train__lr=0.02)).hash,
        "a method's setting": plan(job(tmp_path, method__ema=0.5)).hash,
        "the method": plan(job(tmp_path, "fixmatch")).hash,
        "the preset": plan(job(tmp_path, preset="paper", train__epochs=301)).hash,
    }
    with monkeypatch.context() as patch:
        patch.setattr(ACDC, "published", lambda *_: Published("another", ("patient021",)))
        other["the split"] = plan(job(tmp_path)).hash
    changed = tmp_path / "changed"
    shutil.copytree(few, changed)
    with (changed / "training" / "patient001" / "Info.cfg").open("a") as handle:
        handle.write("\n")
    same_ids = plan(job(tmp_path, data=changed))
    assert same_ids.split.sha256 == base.split.sha256
    other["the files"] = same_ids.hash
    assert len({base.hash, *other.values()}) == 1 + len(other)


def test_fabricated_data_are_told_and_recorded(
    few: Path, sandbox: Path, job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --data and $DIFFMATCH_DATA the plugin invents some; the first line and the record say so."""
    monkeypatch.setattr(
        ACDC, "fabricate", classmethod(lambda cls, root, seed=0, size=1: shutil.copytree(few, root, dirs_exist_ok=True))
    )
    told = io.StringIO()
    folder = jobs.run(job(tmp_path, "supervised", data=None, train__steps=1), Console(file=told, width=300))
    assert told.getvalue().startswith("fabricated data")
    assert folder.record().data.fabricated and (cache_root() / folder.record().data.root).is_relative_to(sandbox)
    given = io.StringIO()
    announce(plan(job(tmp_path, "supervised")), Console(file=given, width=300))
    assert "fabricated" not in given.getvalue() and "1 cases" in given.getvalue()
    monkeypatch.setenv("DIFFMATCH_DATA", str(tmp_path / "data"))
    shutil.copytree(few, tmp_path / "data" / "acdc")
    assert not plan(job(tmp_path, "supervised", data=None)).data.fabricated
    # The run keeps its own data though real ones have appeared since.
    with (tmp_path / "data" / "acdc" / "training" / "patient001" / "patient001_frame01.nii.gz").open("ab") as handle:
        handle.write(b"\n")
    assert prepared(job_of(folder)).folder.path == folder.path
    again = evaluate_run(folder, "last", "test", steps=None, draws=None, protocol=None, data=None)
    assert again.metrics == folder.record().metrics["test"]
    with pytest.raises(InputError, match="not the files"):
        evaluate_run(folder, "last", "test", steps=None, draws=None, protocol=None, data=tmp_path / "data" / "acdc")


# -- again -------------------------------------------------------------------------------------------------------------


def test_a_finished_run_is_skipped(finished: RunFolder, job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.path.rglob("*")}

    def not_again(*_: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(Trainer, "__post_init__", not_again)
    told = io.StringIO()
    folder = jobs.run(job(finished.path.parents[3], method__ema=0.9), Console(file=told, width=300))
    assert folder.path == finished.path and "already done" in told.getvalue()
    assert before == {path: path.stat().st_mtime_ns for path in finished.path.rglob("*")}


def test_a_damaged_checkpoint_is_told_in_one_line(
    job: Any, cli: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bad input: exit code 2, and not taken for a fresh start."""
    asked = job(tmp_path, "supervised")
    folder = plan(asked).folder.create()
    (folder.path / "last.ckpt").write_bytes(b"PK\x03\x04 not much")
    assert cli(asked) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert told[-1].startswith("diffmatch: ") and "last.ckpt" in told[-1] and "Traceback" not in "".join(told)
    assert folder.record().status == "failed" and "last.ckpt" in (folder.record().reason or "")


def test_batch_that_devices_cannot_share(
    job: Any, cli: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(job(tmp_path, devices=2, train__batch=3)) == 2
    assert "train.batch=3 cannot be divided among 2 devices" in capsys.readouterr().err
    assert not find_runs(tmp_path)


def test_job_of_a_folder(finished: RunFolder, job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run folder is enough to know the job, from wherever it is named."""
    out = finished.path.parents[3]
    assert prepared(job_of(finished)).folder.path == finished.path
    for here in (out, out / "acdc", finished.path):
        monkeypatch.chdir(here)
        named = RunFolder(finished.path.relative_to(here))
        assert prepared(job_of(named)).folder.path.resolve() == finished.path
    monkeypatch.chdir(tmp_path)
    gone = finished.record()
    gone.data.root = str(tmp_path / "gone")
    moved = RunFolder(tmp_path / "run").create()
    moved.write(gone)
    with pytest.raises(InputError, match="gone: the run's data are not there any more"):
        prepared(job_of(moved))


@pytest.mark.parametrize("schema", [1, 2])
def test_resume_of_a_run_whose_settings_are_not_those_of_its_hash(
    schema: int,
    finished: RunFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is refused before anything is trained or written."""
    path = tmp_path / "acdc" / "diffmatch" / "1" / "0-12345678"
    old = RunFolder(path).create()
    record = finished.record()
    record.status, record.hash = "interrupted", "12345678"
    if schema == 1:
        record.reading = record.versions = None
    old.write(record)

    def not_this(*_: Any) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr(jobs, "_work", not_this)
    assert invoke(["resume", str(path)]) == 2
    message = {1: "settings, data or versions have changed since", 2: "its settings are not those of the run 12345678"}
    assert message[schema] in capsys.readouterr().err
    assert [folder.path for folder in find_runs(tmp_path)] == [path]


def test_a_run_without_val(few: Path, job: Any, quietly: Any, tmp_path: Path) -> None:
    """Val may be empty: no val_best.ckpt, no val numbers, everything else."""
    shutil.copytree(few, tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "training" / "patient002")
    folder = quietly(job(tmp_path, "supervised", data=tmp_path / "data", train__steps=2))
    assert set(folder.record().metrics) == {"test", "unlabeled"} and not (folder.path / "val_best.ckpt").exists()
    with pytest.raises(InputError, match="no items with masks in 'val'"):
        evaluate_run(folder, "last", "val", steps=None, draws=None, protocol=None, data=None)


@pytest.mark.parametrize("patient", [21, 1])
def test_a_damaged_mask_is_told_before_training(
    patient: int,
    few: Path,
    job: Any,
    cli: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the pool as of the test: its pseudo-labels are scored too."""
    shutil.copytree(few, tmp_path / "data")
    mask = sorted((tmp_path / "data" / "training" / f"patient{patient:03d}").glob("*_gt.nii.gz"))[-1]
    image = nib.load(mask)
    values = np.asanyarray(image.dataobj).copy()
    values[0, 0, 0] = 77
    nib.save(nib.Nifti1Image(values, image.affine, image.header), mask)
    monkeypatch.setattr(jobs, "_work", lambda *_: pytest.fail("trained"))
    assert cli(job(tmp_path, data=tmp_path / "data")) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert mask.name.split("_gt")[0] in told and "77" in told


def test_a_pool_without_masks_is_trained_on_and_not_scored(few: Path, job: Any, quietly: Any, tmp_path: Path) -> None:
    shutil.copytree(few, tmp_path / "data")
    for mask in (tmp_path / "data" / "training" / "patient021").glob("*_gt.nii.gz"):
        mask.unlink()
    asked: Job = job(tmp_path, data=tmp_path / "data", train__steps=2)
    assert len(plan(asked).split.unlabelled) > 0
    folder = quietly(asked)
    assert set(folder.record().metrics) == {"test", "val"} and folder.record().status == "done"
