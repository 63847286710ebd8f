"""A finished run loaded anywhere: from its folder alone, for files, arrays, tensors and pairs."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import diffmatch
from diffmatch import plugins
from diffmatch.cli import invoke
from diffmatch.domain import InputError, Scene
from diffmatch.learning import registry
from diffmatch.model import model as models
from diffmatch.model import predict as predicting
from diffmatch.model.model import Opened
from diffmatch.records.counts import Counts
from diffmatch.records.folder import RunFolder
from diffmatch.running.plan import Job
from diffmatch.scoring.counting import count
from diffmatch.shared.files import write_json
from diffmatch_acdc import ACDC

PATIENT = Path("training") / "patient001"


def same(a: diffmatch.Prediction, b: diffmatch.Prediction) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("labels", "probabilities", "entropy"))


@pytest.fixture
def alone(finished: RunFolder, tmp_path: Path) -> Path:
    """The folder of the finished run, copied elsewhere under another name."""
    return Path(shutil.copytree(finished.path, tmp_path / "a model"))


def test_what_a_model_knows(alone: Path) -> None:
    model = diffmatch.load(alone)
    record = RunFolder(alone).record()
    assert model.classes == ["background", "right ventricle", "myocardium", "left ventricle"]
    assert model.card.model_dump() == ACDC.card.model_dump() and model.settings.diffusion.steps == 3
    assert model.settings.network.dim == record.settings["network"]["dim"]
    assert (model.manifest.run, model.manifest.step) == (f"0-{record.hash}", 6)
    assert model.to("cpu") is model and model.device == torch.device("cpu")
    assert diffmatch.load(alone, checkpoint="val").manifest.checkpoint == "val"


def test_predictions_are_those_that_were_scored(alone: Path, finished: RunFolder, few: Path) -> None:
    """The case's true and false positives, and on the file's own grid."""
    model, scored = diffmatch.load(alone), finished.evaluation("test")
    assert scored is not None and len(scored[1].cases) == 2
    for case in ("patient001_frame01",):  # whose file is called as it is
        path = few / PATIENT / f"{case}.nii.gz"
        truth = np.asarray(nib.load(path.with_name(f"{case}_gt.nii.gz")).dataobj).astype(np.uint8)
        found = model.predict(path)
        assert found.labels.shape == truth.shape and found.probabilities.shape == (4, *truth.shape)
        counts = Counts(4)
        probabilities = torch.from_numpy(np.ascontiguousarray(found.probabilities.transpose(0, 3, 2, 1)))
        count(counts, case, probabilities, torch.from_numpy(np.ascontiguousarray(truth.T)))
        assert np.array_equal(counts.cases[case], scored[1].cases[case])


def test_uncertainty(alone: Path, few: Path) -> None:
    """The mean of the draws, its entropy, and the share of draws that name another class."""
    path = few / PATIENT / "patient001_frame01.nii.gz"
    assert diffmatch.load(alone).predict(path).disagreement is None
    model = diffmatch.load(alone, draws=5, steps=2)
    method, seen = model.method, []
    draws = method.draws

    def apart(images: torch.Tensor, keys: Sequence[str], offset: tuple[int, int]) -> torch.Tensor:
        """Draws of a network that looks at its noise; this one has hardly been trained."""
        found = draws(images, keys, offset)
        noise = torch.rand(found.shape, generator=torch.Generator().manual_seed(len(seen))) ** 4
        seen.append((found + 2 * noise) / (found + 2 * noise).sum(2, keepdim=True))
        return seen[-1]

    method.draws = apart  # type: ignore[method-assign]
    found = model.predict(path)
    assert found.disagreement is not None and found.entropy.max() <= math.log(4) + 1e-6
    p = found.probabilities.astype(np.float64)
    assert np.allclose(p.sum(0), 1, atol=1e-5)
    assert np.allclose(found.entropy, -(p * np.log(np.maximum(p, 1e-30))).sum(0), atol=1e-5)
    each = torch.cat(seen, 1)  # at the network's own size
    other = (each.argmax(2) != each.mean(0).argmax(1)).float().mean(0)
    assert each.shape[0] == 5 and 0.1 < float(other.mean()) < 0.8
    assert abs(float(found.disagreement.mean()) - float(other.mean())) < 0.02
    assert found.disagreement.min() >= 0 and found.disagreement.max() < 1


@pytest.mark.parametrize("changed", ["recipe", "data", "plugin"])
def test_nothing_but_the_folder_is_needed(
    changed: str, alone: Path, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bits after the recipe was edited, the data were moved, or the plugin was uninstalled."""
    volume = shutil.copy(few / PATIENT / "patient001_frame01.nii.gz", tmp_path)
    array = np.asarray(nib.load(volume).dataobj).T
    before = [diffmatch.load(alone).predict(x) for x in (volume, array)]
    if changed == "recipe":
        monkeypatch.setattr(ACDC, "recipe", ACDC.recipe.updated(quick={"data.mean": (0.4,), "network.dim": 8}))
        monkeypatch.setattr(ACDC, "card", ACDC.card.model_copy(update={"title": "edited"}))
    elif changed == "data":
        raw = json.loads((alone / "run.json").read_text())
        raw["data"]["root"] = str(tmp_path / "nowhere")
        write_json(alone / "run.json", raw)
    else:
        monkeypatch.setattr(plugins.domains, "get", _missing)
    after = [diffmatch.load(alone).predict(x) for x in (volume, array)]
    assert all(map(same, before, after))


def _missing(name: str) -> Any:
    raise InputError(f"unknown dataset '{name}'")


def test_an_array_is_what_its_file_holds(volumes: RunFolder, pictures: RunFolder, few: Path) -> None:
    """Of every type, as array and as tensor, whole and by slices; a list is its members one by one."""
    model = diffmatch.load(volumes.path)
    path = few / PATIENT / "patient001_frame01.nii.gz"
    stored = np.asarray(nib.load(path).dataobj)
    of_file = model.predict(path)
    assert of_file.labels.shape == stored.shape
    of_array = model.predict(stored.T)
    assert np.array_equal(of_array.labels, of_file.labels.T)
    assert np.array_equal(of_array.probabilities, of_file.probabilities.transpose(0, 3, 2, 1))
    assert same(model.predict(torch.from_numpy(stored.T.copy())), of_array)
    one = model.predict(stored.T[2])
    assert one.labels.shape == stored.T.shape[1:] and one.probabilities.shape == (4, *stored.T.shape[1:])
    listed = model.predict([path, stored.T, stored.T[2]])
    assert all(map(same, listed, (of_file, of_array, one)))

    model = diffmatch.load(pictures.path)
    image = Path(pictures.record().data.root) / "images" / "3.png"
    pixels = np.asarray(Image.open(image))
    of_file = model.predict(str(image))
    forms: list[Any] = [
        pixels,
        pixels[..., None],
        (pixels.astype(np.uint16) * 257),
        (pixels / np.float32(255)).astype(np.float32),
        torch.from_numpy(pixels.copy()),
        torch.from_numpy(pixels[None].copy()),
    ]
    for form in forms:
        found = model.predict(form)
        assert np.array_equal(found.labels, of_file.labels) and found.labels.shape == pixels.shape
        assert np.allclose(found.probabilities, of_file.probabilities, atol=1e-5)


def test_two_dates(changes: RunFolder) -> None:
    """A pair of files, of arrays, of tensors, or the earlier file beside the later one."""
    model = diffmatch.load(changes.path)
    root = Path(changes.record().data.root) / "test"
    files = root / "A" / "test_2.png", root / "B" / "test_2.png"
    found = model.predict(files)
    arrays = tuple(np.asarray(Image.open(path)) for path in files)
    tensors = tuple(torch.from_numpy(array.transpose(2, 0, 1).copy()) for array in arrays)
    assert found.labels.shape == (40, 48) and found.probabilities.shape == (2, 40, 48)
    for pair in (arrays, tensors, files[0]):
        assert same(model.predict(pair), found)  # type: ignore[arg-type]
    assert not same(model.predict((files[1], files[0])), model.predict((files[0], files[0])))


@pytest.mark.parametrize(
    ("model", "x", "message"),
    [
        ("pictures", np.zeros((8, 8, 3), np.uint8), "the array: 3 channels, the model was trained on 1"),
        ("pictures", np.full((8, 8), 2.0), r"the array: float values from 2 to 2; divide them"),
        ("pictures", np.zeros((8, 8), complex), "the array: complex128 values"),
        ("pictures", np.zeros(8, np.uint8), r"the array: shape \(8,\); give"),
        ("pictures", np.zeros((0, 8), np.uint8), r"the array: shape \(0, 8\) holds no pixels"),
        ("pictures", (np.zeros((8, 8), np.uint8),) * 2, "two dates, but the model was trained on one"),
        ("pictures", "nowhere.png", r"nowhere\.png: no such file"),
        ("volumes", np.full((3, 8, 8), np.nan), "the array: holds values that are not finite"),
        ("changes", np.zeros((8, 8, 3), np.uint8), r"one array, but the model was trained on two dates"),
        ("changes", (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)), "both must be of one size"),
        ("changes", ("a.png", np.zeros((8, 8, 3), np.uint8)), "a file and an array"),
    ],
)
def test_what_is_no_input_is_told_in_one_line(model: str, x: Any, message: str, request: Any) -> None:
    with pytest.raises(InputError, match=message):
        diffmatch.load(request.getfixturevalue(model).path).predict(x)


def test_a_file_of_another_kind(volumes: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the set's plugin reads besides is read where it is installed."""
    (tmp_path / "a.tga").write_text("")
    model = diffmatch.load(volumes.path)
    with pytest.raises(InputError, match=r"a\.tga: is no file of this model's kind \(\.nii\.gz, \.nii, \.h5\)$"):
        model.predict(tmp_path / "a.tga")
    monkeypatch.setattr(plugins.domains, "get", _missing)
    (tmp_path / "a.h5").write_text("")
    with pytest.raises(InputError, match=r"the plugin 'acdc', which may read more, is not installed"):
        model.predict(tmp_path / "a.h5")


def test_a_scene_is_predicted_by_windows(pictures: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One window that holds it all gives what the whole gives; small ones cover it; large arrays lie in a file."""
    model = diffmatch.load(pictures.path)
    opened = model.open(Path(pictures.record().data.root) / "images" / "5.png")
    image = opened.image
    assert isinstance(image, np.ndarray)
    whole = model.predict_opened(opened)
    monkeypatch.setattr(predicting, "SCENE", 1)
    assert same(model.predict_opened(opened), whole)
    monkeypatch.setattr(predicting, "WINDOW", 32)
    tiled = model.predict_opened(opened)
    scene = Scene(image.shape, lambda top, left, h, w: image[..., top : top + h, left : left + w])  # type: ignore[arg-type]
    by_windows = Opened("5", scene)
    assert same(model.predict_opened(by_windows), tiled)
    monkeypatch.setattr(predicting, "IN_MEMORY", 100)
    mapped = model.predict_opened(by_windows, scratch=tmp_path)
    assert same(mapped, tiled) and isinstance(mapped.probabilities, np.memmap) and list(tmp_path.iterdir()) == []
    monkeypatch.setattr(predicting, "SCENE", image.size)
    assert same(model.predict_opened(by_windows), whole)
    assert (tiled.labels == whole.labels).mean() > 0.8
    assert model.predict_opened(by_windows, keep=()).probabilities.size == 0


# -- what is no model --------------------------------------------------------------------------------------------------


def _record(folder: Path, **changes: Any) -> None:
    write_json(folder / "run.json", json.loads((folder / "run.json").read_text()) | changes)


def _checkpoint(folder: Path, **changes: Any) -> None:
    torch.save(torch.load(folder / "last.ckpt", weights_only=True) | changes, folder / "last.ckpt")


def _older(folder: Path) -> None:
    raw = json.loads((folder / "run.json").read_text())
    del raw["reading"], raw["versions"], raw["headlines"]
    write_json(folder / "run.json", raw | {"schema": 1})


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no run": (lambda folder: (folder / "run.json").unlink(), "a model: no run.json here"),
    "no folder": (shutil.rmtree, "a model: no such run folder or file"),
    "still training": (lambda folder: _record(folder, status="running"), "the run is still training, or was killed;"),
    "interrupted": (lambda folder: _record(folder, status="interrupted"), "the run is interrupted; `diffmatch resume"),
    "another run's checkpoint": (
        lambda folder: _checkpoint(folder, run="1-12345678"),
        r"last\.ckpt: is the checkpoint of the run 1-12345678",
    ),
    "an older checkpoint of another run": (
        lambda folder: _checkpoint(folder, settings={}),
        r"last\.ckpt: has other settings than run\.json",
    ),
    "no checkpoint": (lambda folder: (folder / "last.ckpt").unlink(), r"last\.ckpt: no such checkpoint"),
    "other weights": (
        lambda folder: _checkpoint(folder, method={"a": torch.zeros(1)}),
        "its weights do not fit the method 'diffmatch'",
    ),
    "no method": (
        lambda folder: _record(folder, method="stranger"),
        "was trained by the method 'stranger', which is not installed",
    ),
    "an unknown setting": (
        lambda folder: (
            _record(folder, settings={"train": {"warp": 9}}),
            _checkpoint(folder, settings={"train": {"warp": 9}}),
        ),
        r"unknown setting 'train\.warp'.*another version of diffmatch-bench",
    ),
    "a newer schema": (lambda folder: _record(folder, schema=3), "not a run record of schema 2 or older"),
    "an older schema": (_older, "complete it once, beside its data, with: diffmatch resume"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_no_model_is_told_in_one_line(
    what: str, alone: Path, few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    breaking, message = BROKEN[what]
    breaking(alone)
    with pytest.raises(InputError, match=message):
        diffmatch.load(alone)
    image = str(few / PATIENT / "patient001_frame01.nii.gz")
    assert invoke(["predict", str(alone), image, "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1 and told[0].startswith("diffmatch: ") and not (tmp_path / "out").exists()


def test_a_model_of_another_version_of_its_method_is_loaded_with_a_warning(
    alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry.method("diffmatch"), "version", 99)
    with pytest.warns(UserWarning, match="trained by version 3 of the method diffmatch, 99 is installed"):
        diffmatch.load(alone)


def test_a_run_in_a_packed_study_has_no_weights(volumes: RunFolder, tmp_path: Path) -> None:
    from diffmatch.records import packed

    content = {f"runs/{name}": (volumes.path / name).read_bytes() for name in ("run.json", "split.json")}
    packed.write(tmp_path / "study.zip", content)
    with pytest.raises(InputError, match=r"last\.ckpt: no such checkpoint"):
        diffmatch.load(tmp_path / "study.zip" / "runs")


def test_steps_of_a_method_that_does_not_sample(volumes: RunFolder) -> None:
    with pytest.raises(InputError, match="supervised does not sample; leave out --steps and --draws"):
        diffmatch.load(volumes.path, draws=2)


def test_weights_that_the_encoder_started_from_may_be_gone(
    job: Callable[..., Job], quietly: Any, few: Path, tmp_path: Path
) -> None:
    import timm

    torch.save(timm.create_model("resnet10t", pretrained=False).state_dict(), tmp_path / "encoder.pth")
    settings = {"network__encoder": "resnet10t", "network__weights": str(tmp_path / "encoder.pth")}
    run = quietly(job(tmp_path, "supervised", train__steps=1, network__decoder="unet", **settings))
    (tmp_path / "encoder.pth").unlink()
    assert diffmatch.load(run.path).settings.network.weights == "none"
    assert diffmatch.load(run.path).manifest.settings["network"]["weights"] == str(tmp_path / "encoder.pth")


def test_the_example_of_load_runs(alone: Path, few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is printed, on this run and this volume."""
    text = (models.load.__doc__ or "").split("::\n\n")[1].split("\n\n")[0]
    code = "\n".join(line.strip() for line in text.splitlines())
    code = code.replace("runs/acdc/diffmatch/3/0-c3573078", str(alone)).replace(
        "patient001_frame01.nii.gz", str(few / PATIENT / "patient001_frame01.nii.gz")
    )
    names: dict[str, Any] = {"diffmatch": diffmatch}
    exec(code, names)
    found: NDArray[Any] = names["found"].labels
    assert found.dtype == np.uint8 and "diffmatch.load(" in code
