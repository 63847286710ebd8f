"""A run is taken up from its own record: today's recipe, added files and lost lists change nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from diffmatch.cli import invoke
from diffmatch.domain import InputError
from diffmatch.records.folder import RunFolder
from diffmatch.records.schema import EvaluationRecord
from diffmatch.running.again import job_of, prepared
from diffmatch.running.plan import Job, plan
from diffmatch.running.restored import evaluate_run
from diffmatch.running.stopping import StoppedError
from diffmatch.running.trainer import Trainer
from diffmatch.shared.files import write_json
from diffmatch_acdc import ACDC
from diffmatch_msd import MSD


def again(folder: RunFolder, part: Any = "test", **asked: Any) -> EvaluationRecord:
    return evaluate_run(folder, "last", part, **{"steps": None, "draws": None, "protocol": None, "data": None} | asked)


@pytest.fixture
def copy(finished: RunFolder, tmp_path: Path) -> RunFolder:
    """The finished run, to write into."""
    path = tmp_path / finished.path.relative_to(finished.path.parents[3])
    shutil.copytree(finished.path, path)
    return RunFolder(path)


def edit_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = {
        "data.mean": (0.3,),
        "data.std": (0.5,),
        "method.threshold": 0.5,
        "network.points": 2,
        "data.rotate": 5.0,
    }
    monkeypatch.setattr(ACDC, "recipe", ACDC.recipe.updated(quick=changed))


def test_an_edited_recipe_changes_no_number_of_an_old_run(
    copy: RunFolder, job: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    edit_the_recipe(monkeypatch)
    assert plan(job(copy.path.parents[3], method__ema=0.9)).hash != copy.record().hash
    found = prepared(job_of(copy))
    assert found.hash == copy.record().hash and found.settings.model_dump(mode="json") == copy.record().settings
    for part in ("test", "val", "unlabeled"):
        assert again(copy, part).metrics == copy.record().metrics[part]


def test_an_interrupted_run_goes_on_as_it_began(
    job: Any, quietly: Any, weights: Any, same: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unscored: None
) -> None:
    """The recipe was edited and the folder moved since; the weights are those of one go."""
    whole = quietly(job(tmp_path / "whole"))
    take = Trainer.take

    def stop_at_four(self: Trainer, step: int, batch: Any) -> Any:
        if step == 4:
            raise StoppedError("stopped")
        if step == 3:
            self.save(3, 1.0)
        return take(self, step, batch)

    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        patch.setattr(Trainer, "take", stop_at_four)
        quietly(job(tmp_path / "stopped"))
    moved = (tmp_path / "stopped").rename(tmp_path / "moved") / whole.path.relative_to(tmp_path / "whole")
    edit_the_recipe(monkeypatch)
    assert quietly(job_of(RunFolder(moved))).path == moved
    assert RunFolder(moved).record().status == "done"
    assert same(weights(whole), weights(RunFolder(moved)))


def write_pictures(root: Path, numbers: range) -> None:
    for number in numbers:
        classes = np.random.default_rng(number).integers(0, 2, (6, 6)).repeat(8, 0).repeat(8, 1)
        for folder, pixels in (("images", classes * 150 + 50), ("masks", classes)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(root / folder / f"{number:02d}.png")


def test_a_picture_that_joined_the_folder_since(
    job: Any, quietly: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The draw of the parts would be another today. The run keeps its own, and a picture that is lost is named."""
    root = tmp_path / "set"
    write_pictures(root, range(12))
    (root / "classes.csv").write_text("0,ground\n1,tree\n")
    settings = {"network__decoder": "unet", "data__resize": None, "train__loss": "ce", "train__steps": 2}
    run = quietly(job(tmp_path / "runs", "supervised", dataset="folder", labels="1/2", data=root, **settings))
    headline, scored = run.record().metrics["test"], run.members()
    assert scored is not None and len(scored.test) == 2
    write_pictures(root, range(12, 30))
    assert set(plan(job(tmp_path, "supervised", dataset="folder", labels="1/2", data=root)).members().test) != set(
        scored.test
    )
    assert again(run).metrics == headline
    assert again(run, data=root.rename(tmp_path / "moved")).metrics == headline
    assert invoke(["evaluate", str(run.path)]) == 2
    assert "are not there any more; say where they are with --data" in capsys.readouterr().err
    (tmp_path / "moved" / "masks" / f"{scored.test[0]}.png").unlink()
    (tmp_path / "moved" / "images" / f"{scored.test[0]}.png").unlink()
    assert invoke(["evaluate", str(run.path), "--data", str(tmp_path / "moved")]) == 2
    assert f"1 items of the run's split are not there ({scored.test[0]})" in capsys.readouterr().err


def test_a_case_that_joined_a_task_since(job: Any, quietly: Any, tmp_path: Path) -> None:
    """Its test volumes are drawn from the cases, and dataset.json has changed too."""
    root = tmp_path / "task"
    MSD.fabricate(root)
    about = json.loads((root / "dataset.json").read_text())
    write_json(root / "dataset.json", about | {"training": about["training"][:8]})
    held_back = [root / entry[kind] for entry in about["training"][8:] for kind in ("image", "label")]
    for path in held_back:
        path.rename(tmp_path / f"{path.parent.name}-{path.name}")
    run = quietly(job(tmp_path / "runs", "supervised", dataset="msd", data=root, train__steps=2, data__resize=None))
    for path in held_back:
        (tmp_path / f"{path.parent.name}-{path.name}").rename(path)
    write_json(root / "dataset.json", about)
    assert again(run).metrics == run.record().metrics["test"]


def test_lists_that_are_gone(job: Any, quietly: Any, few: Path, tmp_path: Path) -> None:
    lists = tmp_path / "lists" / "1"
    lists.mkdir(parents=True)
    slices = [item.id for item in ACDC(few).index("train")]
    (lists / "labeled.txt").write_text("\n".join(name for name in slices if "patient099" in name))
    (lists / "unlabeled.txt").write_text("\n".join(name for name in slices if "patient021" in name))
    run = quietly(job(tmp_path / "runs", "supervised", split=str(tmp_path / "lists"), train__steps=2))
    shutil.rmtree(tmp_path / "lists")
    assert again(run).metrics == run.record().metrics["test"]


def test_another_version_of_the_method_or_of_the_reading_is_refused(
    copy: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a run by one version and half by another is neither."""
    monkeypatch.setattr(ACDC, "card", ACDC.card.model_copy(update={"version": 9}))
    with pytest.raises(
        InputError, match=r"made with version 3 of the method diffmatch and 1 of the reading.* 3 and 9;"
    ):
        again(copy)


def test_a_record_of_schema_1_is_completed_beside_its_data(copy: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """It is scored as before; `resume` adds what makes it a model."""
    new = copy.record()
    raw = json.loads(copy.record_path.read_text())
    for name in ("reading", "versions", "headlines"):
        del raw[name]
    write_json(copy.record_path, raw | {"schema": 1})
    (copy.path / "split.json").unlink()
    assert again(copy).metrics == new.metrics["test"]
    assert invoke(["resume", str(copy.path)]) == 0
    assert "already done" in capsys.readouterr().out
    assert copy.record().model_copy(update={"headlines": new.headlines}) == new
    assert copy.members() == prepared(job_of(copy)).members()


def test_the_headline_is_named(copy: RunFolder) -> None:
    """Another evaluation with the same numbers is not taken for it."""
    record = copy.record()
    assert record.headlines == {
        "test": "last-test-test40-3x1",
        "val": "last-val-test40-3x1",
        "unlabeled": "last-unlabeled-test40-3x1",
    }
    found, counts = copy.evaluation("test") or pytest.fail("no headline")
    copy.write_evaluation(found.model_copy(update={"protocol": "unimatch60"}), counts)
    record.headlines["test"] = "last-test-unimatch60-3x1"
    copy.write(record)
    assert copy.evaluation("test")[0].protocol == "unimatch60"  # type: ignore[index]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--split", "unlabeled", "--draws", "2"], "pseudo-labels are made of one draw"),
        (["--split", "unlabeled", "--protocol", "test40"], "leave out --draws and --protocol"),
    ],
)
def test_an_option_that_would_change_nothing_is_refused(
    words: list[str], message: str, copy: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["evaluate", str(copy.path), *words]) == 2
    assert message in capsys.readouterr().err


def test_steps_of_a_method_that_does_not_sample_are_refused(
    job: Any, quietly: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = quietly(job(tmp_path, "supervised", train__steps=1))
    for option in ("--steps", "--draws"):
        assert invoke(["evaluate", str(run.path), option, "2"]) == 2
        assert "supervised does not sample; leave out --steps and --draws" in capsys.readouterr().err
    assert len(run.evaluations()) == 3


def test_a_run_of_a_job_with_two_processes_is_planned_again_in_each(copy: RunFolder) -> None:
    """What is sent to another process is the job alone."""
    job = replace(job_of(copy), devices=2)
    assert prepared(job).settings == prepared(job_of(copy)).settings and job.again == copy.path
