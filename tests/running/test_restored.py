"""A finished run taken up again: scored otherwise, and masks for files that no set holds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from diffmatch.cli import invoke
from diffmatch.domain import InputError, Published, Scene
from diffmatch.model import predict as predicting
from diffmatch.model.predict import Predicted, Trained, named, pixels_of, without_ending
from diffmatch.records.counts import Counts
from diffmatch.records.folder import RunFolder
from diffmatch.records.schema import EvaluationRecord
from diffmatch.running.plan import Job
from diffmatch.running.restored import evaluate_run, predict_with, restored
from diffmatch.scoring.counting import count
from diffmatch_acdc import ACDC

ONE_PATIENT = "training/patient001"


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


def test_scoring_with_what_is_not_the_run_s(
    copy: RunFolder, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number of other data, or of another split, never stands in this run's folder."""
    (copy.path / "val_best.ckpt").unlink()
    with pytest.raises(InputError, match=r"val_best\.ckpt: no such checkpoint"):
        again(copy, "val")
    shutil.copytree(few, tmp_path / "other")
    with (tmp_path / "other" / "training" / "patient001" / "Info.cfg").open("a") as handle:
        handle.write("\n")
    with pytest.raises(InputError, match="not the files"):
        again(copy, data=tmp_path / "other")
    monkeypatch.setattr(ACDC, "published", lambda *_: Published("another", ("patient021",)))
    with pytest.raises(InputError, match="belongs to split"):
        again(copy)
    assert not (copy.path / "evaluations" / "val-test-test40-3x1.json").exists()


def test_evaluate_on_the_command_line(copy: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["evaluate", str(copy.path), "--steps", "2"]) == 0
    out = capsys.readouterr().out
    value = next(e for e, _ in copy.evaluations() if e.steps == 2).metrics["primary"]["value"]
    assert f"mean_dice {value:.4f}" in out and "2 steps x 1 draws" in out and "left ventricle: " in out


# -- files from elsewhere ----------------------------------------------------------------------------------------------


def predicted(run: RunFolder, paths: list[Path], out: Path, **asked: Any) -> Predicted:
    return predict_with(run, paths, out, **{"steps": None, "draws": None, "data": None} | asked)


@pytest.fixture(scope="module")
def volumes(
    job: Callable[..., Job], quietly: Callable[[Job], RunFolder], tmp_path_factory: pytest.TempPathFactory
) -> RunFolder:
    """A run whose predictions hang on no noise. Read only."""
    return quietly(job(tmp_path_factory.mktemp("volumes"), "supervised", train__steps=3))


@pytest.fixture(scope="module")
def pictures(
    job: Callable[..., Job], quietly: Callable[[Job], RunFolder], tmp_path_factory: pytest.TempPathFactory
) -> RunFolder:
    """The same on a folder of pictures whose masks hold 7, 300 and 41. Read only."""
    root = tmp_path_factory.mktemp("pictures")
    (root / "classes.csv").write_text("7,ground\n41,tree\n300,roof\n")
    rng = np.random.default_rng(0)
    for number in range(12):
        classes = rng.integers(0, 3, (5, 6)).repeat(8, 0).repeat(8, 1)
        shade = (classes * 100 + rng.integers(0, 50, classes.shape)).astype(np.uint8)
        for folder, pixels in (("images", shade), ("masks", np.array([7, 41, 300], np.uint16)[classes])):
            (root / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(root / folder / f"{number}.png")
    settings = {
        "network__decoder": "unet",
        "data__resize": None,
        "train__loss": "ce",
        "train__steps": 60,
        "train__optimizer": "adamw",
    }
    return quietly(
        job(tmp_path_factory.mktemp("runs"), "supervised", dataset="folder", labels="1/2", data=root, **settings)
    )


def test_predicted_volumes_are_those_that_were_scored(volumes: RunFolder, few: Path, tmp_path: Path) -> None:
    """Each case's true and false positives, from the files alone, and the files lie where the images lie."""
    found = predicted(volumes, sorted((few / ONE_PATIENT).glob("*frame??.nii.gz")), tmp_path / "masks")
    scored = volumes.evaluation("test")
    assert scored is not None and len(found.files) == 2
    for mask_path, case in zip(found.files, sorted(scored[1].cases), strict=True):
        image_path = few / ONE_PATIENT / mask_path.name
        mask, image = nib.load(mask_path), nib.load(image_path)
        truth = np.asarray(nib.load(image_path.with_name(mask_path.name.replace(".nii", "_gt.nii"))).dataobj)
        assert mask.get_data_dtype() == np.uint8 and mask.shape == image.shape
        assert np.array_equal(mask.affine, image.affine) and mask.header.get_zooms() == image.header.get_zooms()
        labels = torch.from_numpy(np.array(mask.dataobj))
        counts = Counts(4)
        count(counts, case, torch.eye(4)[labels.long()].movedim(-1, 0), torch.from_numpy(truth.astype(np.uint8)))
        assert np.array_equal(counts.cases[case], scored[1].cases[case])
        assert np.array_equal(found.pixels[found.files.index(mask_path)], np.bincount(labels.ravel(), minlength=4))


def test_predicted_pictures_hold_the_set_s_own_numbers(pictures: RunFolder, tmp_path: Path) -> None:
    """In 16 bits where they need them, with the tree of a folder kept; a picture of the pool is predicted as well as
    one of the test."""
    root = Path(pictures.record().data.root)
    (tmp_path / "new" / "deep").mkdir(parents=True)
    shutil.copy(root / "images" / "3.png", tmp_path / "new" / "deep" / "three.PNG")
    shutil.copy(root / "images" / "4.png", tmp_path / "new" / "four.png")
    (tmp_path / "new" / "Thumbs.db").write_text("no picture")
    found = predicted(pictures, [tmp_path / "new", root / "images" / "5.png"], tmp_path / "masks")
    assert [str(path.relative_to(tmp_path / "masks")) for path in found.files] == [
        "deep/three.png",
        "four.png",
        "5.png",
    ]
    for path, number in zip(found.files, (3, 4, 5), strict=True):
        mask, truth = (np.asarray(Image.open(p)) for p in (path, root / "masks" / f"{number}.png"))
        assert mask.shape == truth.shape and set(np.unique(mask)) <= {7, 41, 300}
        assert (mask == truth).mean() > 0.7
    assert found.pixels.sum() == 3 * 40 * 48 and list(found.colors) == [7, 41, 300]


def test_noise_goes_by_the_name(finished: RunFolder, few: Path, tmp_path: Path) -> None:
    """The same file twice is the same mask; more steps or draws are another prediction of the same checkpoint."""
    image = few / ONE_PATIENT / "patient001_frame01.nii.gz"
    masks = [np.asarray(nib.load(predicted(finished, [image], tmp_path / str(n)).files[0]).dataobj) for n in range(2)]
    assert np.array_equal(*masks)
    probabilities = []
    for steps in (1, 3):
        run = restored(finished, "last", {"diffusion.steps": steps}, None)
        pixels = torch.from_numpy(pixels_of(run.planned.domain, image))[:, :, 0][None]
        with torch.no_grad():
            probabilities.append(run.method.eval().probabilities(pixels, ["a"]))
    assert not torch.equal(*probabilities)


def test_a_scene_is_predicted_by_windows(pictures: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """One window that holds it all gives what the whole gives; small ones cover it."""
    run = restored(pictures, "last", {}, None)
    trained = Trained(run.planned.domain, run.method, run.fabric.device)
    image = pixels_of(run.planned.domain, Path(pictures.record().data.root) / "images" / "5.png")
    with torch.no_grad():
        run.method.eval()
        whole = predicting.labels_of(trained, "5", image)
        monkeypatch.setattr(predicting, "SCENE", 1)
        assert np.array_equal(predicting.labels_of(trained, "5", image), whole)
        monkeypatch.setattr(predicting, "WINDOW", 32)
        tiled = predicting.labels_of(trained, "5", image)
        by_windows = Scene(image.shape, lambda top, left, h, w: image[..., top : top + h, left : left + w])
        assert np.array_equal(predicting.labels_of(trained, "5", by_windows), tiled)
        monkeypatch.setattr(predicting, "SCENE", image.size)
        assert np.array_equal(predicting.labels_of(trained, "5", by_windows), whole)
    assert tiled.shape == whole.shape and (tiled == whole).mean() > 0.8


def test_names_of_masks(tmp_path: Path) -> None:
    for name in ("a/x.jpg", "a/y.tar.png", "a/b/x.jpg", "a/.hidden.png", "c/x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert [name for name, _ in named([tmp_path / "a"], (".jpg", ".png"))] == ["b/x", "x", "y.tar"]
    with pytest.raises(InputError, match=r"c/x\.png: its mask would be called as that of .*a/x\.jpg"):
        list(named([tmp_path / "a", tmp_path / "c"], (".jpg", ".png")))
    assert list(dict(named([tmp_path / "a", tmp_path / "a" / "x.jpg"], (".jpg",)))) == [
        "b/x",
        "x",
    ]  # named twice, it is one file
    assert (
        without_ending("v.NII.gz", (".nii", ".nii.gz", ".gz")) == "v" and without_ending("v.gz", (".nii.gz",)) is None
    )


def test_what_cannot_be_predicted_is_told_in_one_line(volumes: RunFolder, few: Path, tmp_path: Path) -> None:
    """And nothing is written."""
    image = few / ONE_PATIENT / "patient001_frame01.nii.gz"
    cine = next(few.glob("training/*/*_4d.nii.gz"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("do not overwrite")
    (tmp_path / "broken.nii.gz").write_bytes(image.read_bytes()[:100])
    cases = {
        "full: is not an empty folder": ([image], "full"),
        "nowhere: no such file": ([tmp_path / "nowhere"], "out"),
        r"thesis\.txt: is no file of this dataset's kind": ([tmp_path / "full" / "thesis.txt"], "out"),
        "full: holds no file of this dataset's kind": ([tmp_path / "full"], "out"),
        r"broken\.nii\.gz": ([tmp_path / "broken.nii.gz"], "out"),
        r"4d\.nii\.gz: \d+ channels, the model was trained on 1": ([cine], "out"),
    }
    for message, (paths, out) in cases.items():
        with pytest.raises(InputError, match=message):
            predicted(volumes, paths, tmp_path / out)
    assert not (tmp_path / "out").exists() and [p.name for p in (tmp_path / "full").iterdir()] == ["thesis.txt"]


def test_predict_on_the_command_line(pictures: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = Path(pictures.record().data.root) / "images"
    assert invoke(["predict", str(pictures.path), str(images), "--out", str(tmp_path / "masks")]) == 0
    out = capsys.readouterr().out
    assert "roof" in out and "300" in out and "of 12" in out and f"12 masks below {tmp_path / 'masks'}" in out
    assert len(list((tmp_path / "masks").iterdir())) == 12
