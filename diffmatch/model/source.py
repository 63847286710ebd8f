"""Where trained weights come from and go to: a run folder, or one exported file with its manifest inside."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from diffmatch.domain import InputError
from diffmatch.model.manifest import FORMAT, Manifest, manifest_of
from diffmatch.records import checkpoint
from diffmatch.records.folder import RunFolder
from diffmatch.records.schema import RunRecord
from diffmatch.shared.files import write_atomically

Which = Literal["last", "val"]
CHECKPOINTS: Mapping[Which, str] = {"last": "last.ckpt", "val": "val_best.ckpt"}
KEY = "diffmatch"
"""Of the manifest in a file's metadata."""


class Weights(NamedTuple):
    """The tensors of a method's state, and the data set and the method that they are from."""

    dataset: str
    method: str
    tensors: dict[str, Tensor]


def read(path: Path, which: Which = "last") -> tuple[Manifest, dict[str, Tensor]]:
    """The manifest and the weights of a finished run's folder or of an exported file.

    Args:
        which: checkpoint of the run folder. An exported file holds one.

    Raises:
        InputError: neither of the two, a run that is not done, a checkpoint of another run, a file of a newer version.
    """
    if path.is_file():
        manifest = _manifest_in(path)
        if which != manifest.checkpoint:
            raise InputError(f"{path}: holds the checkpoint '{manifest.checkpoint}'; name the run's folder for others")
        return manifest, _tensors_in(path)
    record = finished(RunFolder(path))
    step, tensors = _checkpoint(path, record, which)
    return manifest_of(record, which, step, path), tensors


def read_weights(path: Path) -> Weights:
    """The weights alone, of a run of any schema.

    Raises:
        InputError: as `read`.
    """
    if path.is_file():
        manifest = _manifest_in(path)
        return Weights(manifest.dataset, manifest.method, _tensors_in(path))
    record = finished(RunFolder(path))
    return Weights(record.dataset, record.method, _checkpoint(path, record, "last")[1])


def write(path: Path, manifest: Manifest, tensors: Mapping[str, Tensor]) -> None:
    """Write one file that `read` reads: the tensors as safetensors, the manifest as its metadata."""
    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    content = save(own, {KEY: manifest.model_dump_json()})
    write_atomically(path, lambda handle: handle.write(content))


def finished(folder: RunFolder) -> RunRecord:
    """The record of a run that is done.

    Raises:
        InputError: it is no run folder, or the run is not done.
    """
    if not (folder.path.exists() or folder.exists()):
        raise InputError(f"{folder.path}: no such run folder or file")
    record = folder.record()
    if record.status == "done":
        return record
    state = "still training, or was killed" if record.status == "running" else record.status
    raise InputError(f"{folder.path}: the run is {state}; `diffmatch resume {folder.path}` finishes it")


def digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256 of names, types, shapes and values, in the names' order."""
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def _checkpoint(path: Path, record: RunRecord, which: Which) -> tuple[int, dict[str, Tensor]]:
    content = checkpoint.load(path / CHECKPOINTS[which], record.split.sha256, f"{record.seed}-{record.hash}")
    if content["settings"] != record.settings:
        raise InputError(
            f"{path / CHECKPOINTS[which]}: has other settings than run.json; copy this run's own checkpoint"
        )
    return content["step"], content["method"]


def _manifest_in(path: Path) -> Manifest:
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(KEY)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"{path}: not a run folder, and not readable as a .safetensors file; export it again"
        ) from error
    if text is None:
        raise InputError(f"{path}: holds no model of `diffmatch export` (its metadata have no '{KEY}')")
    try:
        content = json.loads(text)
        if isinstance(content, dict) and isinstance(content.get("format"), int) and content["format"] > FORMAT:
            raise InputError(
                f"{path}: is of format {content['format']}, this version reads {FORMAT}; update diffmatch-bench"
            )
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{path}: its metadata are not a model's ({where}: {first['msg']}); export it again"
        ) from error
    except ValueError as error:
        raise InputError(f"{path}: its metadata are not readable; export it again") from error


def _tensors_in(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: its weights are not readable ({type(error).__name__}); export it again") from error
