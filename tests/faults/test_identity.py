"""Data that are corrected in place are other data: another run, or a refusal that names the file that changed.

Every correction here keeps the names, the sizes and the times of all files, and the ids of the split.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from diffmatch.cli import invoke
from diffmatch.domain import InputError
from diffmatch.records.folder import RunFolder
from diffmatch.running import grid
from diffmatch.running.again import job_of, planned_again
from diffmatch.running.plan import Job, plan
from diffmatch.running.stopping import StoppedError
from diffmatch.running.trainer import Trainer

COCO = Path(__file__).parents[3] / "shared" / "data" / "coco_mini"
SETTINGS = {"train__steps": 1, "train__validations": 0, "network__decoder": "unet", "data__resize": None}


def squares(number: int) -> Any:
    """An index mask of three classes, (48, 48)."""
    mask = np.zeros((48, 48), np.uint8)
    top, left = np.random.default_rng(number).integers(0, 20, 2)
    mask[top : top + 12, left : left + 12] = 1
    mask[top + 14 : top + 24, left + 4 : left + 20] = 2
    return mask


def pictures(root: Path) -> None:
    """Uncompressed pictures with masks, a table of classes, and lists that say who is scored."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(8):
        Image.fromarray(squares(number) * 90 + 40).save(root / "images" / f"p{number}.bmp")
        Image.fromarray(squares(number)).save(root / "masks" / f"p{number}.tif")
    (root / "classes.csv").write_text("0,background\n1,class 1\n2,class 2\n")
    (root / "train.txt").write_text("p0\np1\np2\np3\np4\np5\n")
    (root / "test.txt").write_text("p6\np7\n")


def task(root: Path) -> None:
    """Six uncompressed volumes of a tumour."""
    entries = []
    for number in range(6):
        mask = np.repeat(squares(number)[..., None] > 1, 4, 2).astype(np.uint8)
        entry = {kind: f"./{kind}sTr/case_{number}.nii" for kind in ("image", "label")}
        for kind, values in (("image", mask * np.int16(200)), ("label", mask)):
            (root / f"{kind}sTr").mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(values, np.diag([1.0, 1.0, 3.0, 1.0])), root / entry[kind])
        entries.append(entry)
    about = {"name": "t", "labels": {"0": "background", "1": "tumour"}, "modality": {"0": "MRI"}, "training": entries}
    (root / "dataset.json").write_text(json.dumps(about))


def rewrite(path: Path, change: Callable[[Path], object]) -> None:
    """Change a file in place; its size and its time stay."""
    before = path.stat()
    change(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def swapped(path: Path, one: str, other: str) -> None:
    """Two words of a text exchanged."""
    text = path.read_text()
    assert one in text and other in text
    path.write_text(text.replace(one, "\0").replace(other, one).replace("\0", other))


def inverted(path: Path) -> None:
    volume = nibabel.load(path)
    values = np.asarray(volume.dataobj)
    nibabel.save(nibabel.Nifti1Image((values.max() - values).astype(values.dtype), volume.affine), path)


def flipped(path: Path) -> None:
    with Image.open(path) as image:
        pixels = np.asarray(image)
    Image.fromarray(np.ascontiguousarray(pixels[::-1])).save(path)


FAULTS = {
    "a class table with two rows exchanged": (pictures, "classes.csv", lambda p: swapped(p, "class 1", "class 2")),
    "values of a class table exchanged": (pictures, "classes.csv", lambda p: swapped(p, "\n1,", "\n2,")),
    "a corrected mask that is labelled or not": (pictures, "masks/p3.tif", flipped),
    "a corrected mask of the test": (pictures, "masks/p7.tif", flipped),
    "another picture": (pictures, "images/p7.bmp", flipped),
    "a mask of a task": (task, "labelsTr/case_1.nii", inverted),
    "a volume of a task": (task, "imagesTr/case_1.nii", inverted),
    "labels of a task renamed": (task, "dataset.json", lambda p: p.write_text(p.read_text().replace("tumo", "humo"))),
    "two masks of a task exchanged in its list": (
        task,
        "dataset.json",
        lambda p: swapped(p, "labelsTr/case_1", "labelsTr/case_2"),
    ),
    "another modality": (task, "dataset.json", lambda p: p.write_text(p.read_text().replace("MRI", "MRT"))),
}
HARMLESS = {"another modality"}
"""Another run, since the list is another; but the plugin makes the same of it, so that a run is taken up."""


@pytest.fixture
def asked(job: Any, tmp_path: Path) -> Callable[..., Job]:
    """A job of one step on what `make` writes."""

    def make_job(make: Callable[[Path], None], **changes: Any) -> Job:
        if not (root := tmp_path / make.__name__).exists():
            make(root)
        dataset = "msd" if make is task else "folder"
        return job(
            tmp_path / "runs", "supervised", **SETTINGS | {"dataset": dataset, "labels": "2", "data": root} | changes
        )  # type: ignore[no-any-return]

    return make_job


@pytest.mark.parametrize("fault", FAULTS)
def test_a_correction_is_another_run_and_the_old_one_is_not_taken_up(
    fault: str, asked: Callable[..., Job], quietly: Any, unscored: None, capsys: pytest.CaptureFixture[str]
) -> None:
    make, name, change = FAULTS[fault]
    job = asked(make)
    before, run = plan(job), quietly(job)
    assert run.record().status == "done" and grid.entries([job], others=())[grid.identity(job)].done
    whole = (job.data / name).read_bytes()
    rewrite(job.data / name, change)
    after = plan(job)
    assert after.hash != before.hash and after.split.sha256 == before.split.sha256
    assert after.fingerprint.names_and_sizes == before.fingerprint.names_and_sizes
    assert not grid.entries([job], others=())[grid.identity(job)].done, "a table takes the run of the old data"
    if fault in HARMLESS:
        assert planned_again(job_of(run)).hash == before.hash
        return
    for words in (["resume"], ["evaluate"]):
        assert invoke([*words, str(run.path)]) == 2
        told = capsys.readouterr().err
        assert f"not the files that {run.path} was trained on" in told.replace("\n", " ") and name in told
    rewrite(job.data / name, lambda path: path.write_bytes(whole))
    assert planned_again(job_of(run)).hash == before.hash, "the same content is the same file"


def test_the_numbers_are_those_of_the_corrected_masks(asked: Callable[..., Job], quietly: Any, tmp_path: Path) -> None:
    """Inverted annotations: 6 % tumour, and after the correction 94 %."""
    job = asked(task)
    old = quietly(job)
    for path in (job.data / "labelsTr").iterdir():
        rewrite(path, inverted)
    told = io.StringIO()
    new = grid.run(job, Console(file=told))
    assert new.path != old.path and "already done" not in told.getvalue()
    truth = quietly(replace(job, out=tmp_path / "elsewhere")).record()
    assert new.record().metrics == truth.metrics != old.record().metrics
    pixels = [run.record().labels.pixels for run in (old, new)]
    assert pixels[0] == {"background": pixels[1]["tumour"], "tumour": pixels[1]["background"]}


def test_an_interrupted_run_does_not_go_on_with_other_labels(
    asked: Callable[..., Job], quietly: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job, take = asked(task, train__steps=4), Trainer.take

    def stop(self: Trainer, step: int, batch: Any) -> Any:
        if step == 2:
            self.save(step, 1.0)
            raise StoppedError("stopped")
        return take(self, step, batch)

    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        patch.setattr(Trainer, "take", stop)
        quietly(job)
    (path,) = job.out.rglob("last.ckpt")
    for mask in (job.data / "labelsTr").iterdir():
        rewrite(mask, inverted)
    assert invoke(["resume", str(path.parent)]) == 2
    assert "labelsTr/case_0.nii, labelsTr/case_1.nii, labelsTr/case_2.nii and 3 more changed since" in " ".join(
        capsys.readouterr().err.split()
    )
    assert plan(job).folder.path != path.parent
    for mask in (job.data / "labelsTr").iterdir():
        rewrite(mask, inverted)
    assert quietly(job_of(RunFolder(path.parent))).record().status == "done"


def test_other_frames_of_a_patient(job: Any, quietly: Any, few: Path, tmp_path: Path, unscored: None) -> None:
    """End diastole and end systole exchanged: ids, files and sizes are what they were."""
    shutil.copytree(few, tmp_path / "set")
    asked = job(tmp_path / "runs", "supervised", data=tmp_path / "set", train__steps=1)
    before, run = plan(asked), quietly(asked)
    rewrite(tmp_path / "set" / "training" / "patient002" / "Info.cfg", lambda p: swapped(p, "ED:", "ES:"))
    after = plan(asked)
    assert after.hash != before.hash and after.split.sha256 == before.split.sha256
    with pytest.raises(InputError, match=r"\(training/patient002/Info\.cfg changed since\)"):
        planned_again(job_of(run))


@pytest.mark.skipif(not COCO.is_dir(), reason="the photographs of COCO are not at ../shared/data")
def test_masks_that_are_painted_from_a_table(job: Any, quietly: Any, tmp_path: Path, unscored: None) -> None:
    """No item of this set refers to a file; two categories of the table are exchanged."""
    shutil.copytree(COCO, tmp_path / "set")
    asked = job(tmp_path / "runs", "supervised", **SETTINGS, dataset="coco", labels="4", data=tmp_path / "set")
    before, run = plan(asked), quietly(asked)
    name = "annotations/instances_val2017.json"
    found = re.findall(r'"category_id": \d\d,', (tmp_path / "set" / name).read_text())
    rewrite(tmp_path / "set" / name, lambda p: swapped(p, *sorted(set(found))[:2]))
    assert plan(asked).hash != before.hash
    with pytest.raises(InputError, match=rf"\({name} changed since\)"):
        planned_again(job_of(run))


def test_an_added_picture_is_no_fault_and_a_changed_one_beside_it_is(
    asked: Callable[..., Job], quietly: Any, unscored: None
) -> None:
    job = asked(pictures)
    run = quietly(job)
    for folder, ending in (("images", "bmp"), ("masks", "tif")):
        shutil.copy(job.data / folder / f"p0.{ending}", job.data / folder / f"p8.{ending}")
    (job.data / "train.txt").write_text((job.data / "train.txt").read_text() + "p8\n")
    assert planned_again(job_of(run)).hash == run.record().hash
    rewrite(job.data / "masks" / "p7.tif", flipped)
    with pytest.raises(InputError, match=r"\(masks/p7\.tif changed since\)"):
        planned_again(job_of(run))


def test_a_file_that_is_gone_is_named(asked: Callable[..., Job], quietly: Any, unscored: None) -> None:
    job = asked(pictures)
    run = quietly(job)
    (job.data / "train.txt").write_text("p0\np1\np2\np3\np4\n")
    with pytest.raises(InputError, match=r"1 items of the run's split are not there \(p5\).*changed since: train\.txt"):
        planned_again(job_of(run))


# -- records of before -------------------------------------------------------------------------------------------------


@pytest.fixture
def older(asked: Callable[..., Job], quietly: Any, unscored: None) -> tuple[Job, RunFolder]:
    """A finished run whose record knows its data by names and sizes."""
    job = asked(task)
    planned, run = plan(job), quietly(job)
    raw = json.loads(run.record_path.read_text())
    del raw["data"]["fingerprint_of"]
    raw["data"]["fingerprint"] = planned.fingerprint.names_and_sizes
    raw["hash"] = planned.earlier_hash
    run.record_path.write_text(json.dumps(raw))
    members = json.loads((run.path / "split.json").read_text())
    (run.path / "split.json").write_text(
        json.dumps({key: value for key, value in members.items() if key not in ("contents", "made")})
    )
    checkpoint = torch.load(run.path / "last.ckpt", weights_only=True)
    torch.save(checkpoint | {"run": f"0-{planned.earlier_hash}"}, run.path / "last.ckpt")
    return job, RunFolder(run.path.rename(run.path.with_name(f"0-{planned.earlier_hash}")))


def test_a_record_of_names_and_sizes_still_counts(older: tuple[Job, RunFolder], unscored: None) -> None:
    job, run = older
    assert run.record().data.fingerprint_of == "names and sizes"
    entry = grid.entries([job], others=())[grid.identity(job)]
    assert entry.done and entry.folder.path == run.path
    assert planned_again(job_of(run)).hash == run.record().hash
    assert plan(job).folder.path != run.path, "a run that is asked for is made on these contents"


def test_but_not_where_the_labelled_masks_hold_something_else(older: tuple[Job, RunFolder]) -> None:
    job, run = older
    for path in (job.data / "labelsTr").iterdir():
        rewrite(path, inverted)
    assert not grid.entries([job], others=())[grid.identity(job)].done
    with pytest.raises(InputError, match=r"not the masks that .* labelled pixels are .*, were"):
        planned_again(job_of(run))


def test_what_is_resumed_is_known_by_its_contents_from_then_on(
    older: tuple[Job, RunFolder], quietly: Any, unscored: None
) -> None:
    job, run = older
    raw = json.loads(run.record_path.read_text())
    run.record_path.write_text(json.dumps(raw | {"status": "interrupted"}))
    assert quietly(job_of(run)).record().hash == raw["hash"] == planned_again(job_of(run)).hash
    assert run.record().data.fingerprint_of == "names and sizes"
    rewrite(job.data / "imagesTr" / "case_1.nii", inverted)
    with pytest.raises(InputError, match=r"\(imagesTr/case_1\.nii changed since\)"):
        planned_again(job_of(run))
