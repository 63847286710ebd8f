"""A finished run as one file, which is loaded as its folder is."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

import diffmatch
from diffmatch.cli import invoke
from diffmatch.domain import InputError
from diffmatch.model.export import export_model, size_of
from diffmatch.model.model import Model
from diffmatch.model.source import KEY, read_weights
from diffmatch.records.folder import RunFolder


@pytest.fixture
def model(finished: RunFolder) -> Model:
    return diffmatch.load(finished.path)


def test_the_file_is_the_model(finished: RunFolder, model: Model, few: Path, tmp_path: Path) -> None:
    """The same bits from it, in Python and on the command line, with the sampling that it was exported with."""
    out, image = tmp_path / "a.safetensors", few / "training" / "patient001" / "patient001_frame01.nii.gz"
    assert invoke(["export", str(finished.path), "--out", str(out)]) == 0
    found, again = model.predict(image), diffmatch.load(out).predict(image)
    assert np.array_equal(found.probabilities, again.probabilities)
    assert diffmatch.load(out).manifest == model.manifest
    assert invoke(["export", str(out), "--out", str(tmp_path / "b.safetensors"), "--steps", "2", "--draws", "3"]) == 0
    other = diffmatch.load(tmp_path / "b.safetensors")
    assert (other.settings.diffusion.steps, other.settings.eval.draws) == (2, 3)
    assert invoke(["predict", str(out), str(image), "--out", str(tmp_path / "masks")]) == 0
    assert (tmp_path / "masks" / "patient001_frame01.nii.gz").is_file()


def test_no_name_of_a_training_file_is_in_it(finished: RunFolder, model: Model, tmp_path: Path) -> None:
    export_model(model, tmp_path / "a.safetensors")
    content = (tmp_path / "a.safetensors").read_bytes()
    record = finished.record()
    assert record.labels.items and not any(name.encode() in content for name in record.labels.items)
    assert str(record.data.root).encode() not in content


def test_it_starts_another_run(model: Model, finished: RunFolder, tmp_path: Path) -> None:
    export_model(model, tmp_path / "a.safetensors")
    of_file, of_folder = read_weights(tmp_path / "a.safetensors"), read_weights(finished.path)
    assert (of_file.dataset, of_file.method) == (of_folder.dataset, of_folder.method)
    assert of_file.tensors.keys() == of_folder.tensors.keys()
    assert all(torch.equal(of_file.tensors[name], tensor) for name, tensor in of_folder.tensors.items())


def _with(model: Model, **changes: Any) -> bytes:
    manifest = json.loads(model.manifest.model_dump_json()) | changes
    return save({"a": torch.zeros(1)}, {KEY: json.dumps(manifest)})


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("newer", "is of format 2, this version reads 1; update diffmatch-bench"),
        ("foreign", "holds no model of `diffmatch export`"),
        ("edited", r"its metadata are not a model's \(step: "),
        ("no json", "its metadata are not readable"),
        ("truncated", "not readable as a .safetensors file; export it again"),
        ("huge header", "not readable as a .safetensors file"),
        ("pickle", "not readable as a .safetensors file"),
        ("other weights", "its weights do not fit the method"),
        ("no method", "was trained by the method 'stranger', which is not installed"),
    ],
)
def test_a_hostile_or_foreign_file_is_told_in_one_line(what: str, message: str, model: Model, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    trap = tmp_path / "executed"
    content = {
        "newer": lambda: _with(model, format=2, what_is_new=1),
        "foreign": lambda: save({"a": torch.zeros(1)}),
        "edited": lambda: _with(model, step="many"),
        "no json": lambda: save({"a": torch.zeros(1)}, {KEY: "{"}),
        "truncated": lambda: _with(model)[:-2],
        "huge header": lambda: struct.pack("<Q", 1 << 62) + b"{}",
        "pickle": lambda: f"cos\nmkdir\n(V{trap}\ntR.".encode(),
        "other weights": lambda: _with(model),
        "no method": lambda: _with(model, method="stranger"),
    }[what]()
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        diffmatch.load(path)
    assert not trap.exists()


def test_what_cannot_be_exported(model: Model, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--out .*a\.pt: its ending says what is written"):
        export_model(model, tmp_path / "a.pt")
    with pytest.raises(InputError, match=r"--size: a\.safetensors takes images of any size"):
        export_model(model, tmp_path / "a.safetensors", (8, 8))
    assert size_of("256x320") == (256, 320)
    for text in ("256", "0x8", "axb"):
        with pytest.raises(InputError, match=f"--size {text}: write height x width"):
            size_of(text)
    with pytest.raises(InputError, match="holds the checkpoint 'last'"):
        export_model(model, tmp_path / "a.safetensors")
        diffmatch.load(tmp_path / "a.safetensors", checkpoint="val")
