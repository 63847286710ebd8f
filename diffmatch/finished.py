"""A finished run taken up again: its checkpoint scored otherwise, or set to work on files that no set holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from diffmatch import checkpoint, plugins
from diffmatch.domain import Card, Image, InputError, Item, Mask, Scene
from diffmatch.evaluation import Part
from diffmatch.inference import predict_item
from diffmatch.jobs import fabric_for, score
from diffmatch.methods.base import Method, evaluating
from diffmatch.planning import Plan, job_of, plan, settings_of
from diffmatch.progress import Bar
from diffmatch.runs import EvaluationRecord, RunFolder
from diffmatch.scenes import predict_scene
from diffmatch.writing import write_mask

Which = Literal["last", "val"]
SCENE = 4096**2
"""Pixels above which a picture that is predicted in one piece is predicted by windows instead, in memory that does not grow with it."""
WINDOW = 512
"""Side of these windows, or the crop that the run was trained on if it is larger; they overlap by half."""


@dataclass
class Finished:
    """A run's method with the weights of one of its checkpoints, on the device that is there."""

    planned: Plan
    method: Method
    fabric: Fabric
    step: int


def restored(folder: RunFolder, which: Which, changes: dict[str, Any], data: Path | None) -> Finished:
    """The run as it was planned, its settings changed where `changes` (dotted) has a value.

    Raises:
        InputError: no such checkpoint, or data that are not the run's.
    """
    record = folder.record()
    planned = plan(job_of(folder, data))
    if planned.fingerprint != record.data.fingerprint:
        raise InputError(f"{planned.domain.root}: not the files that {folder.path} was trained on (names or sizes differ)")
    changed = {**record.overrides, **{key: value for key, value in changes.items() if value is not None}}
    settings = settings_of(planned.domain, plugins.method(record.method), record.preset, changed)
    content = checkpoint.load(folder.path / {"last": "last.ckpt", "val": "val_best.ckpt"}[which], planned.split.sha256)
    method = planned.build(settings)
    method.load_state_dict(content["method"])
    fabric = fabric_for(planned.job, settings)
    fabric.launch()
    method.to(fabric.device)
    planned.folder = folder
    return Finished(planned, method, fabric, content["step"])


def evaluate_run(
    folder: RunFolder, which: Which, part: Part, *, steps: int | None, draws: int | None, protocol: str | None, data: Path | None
) -> EvaluationRecord:
    """Score a finished run's checkpoint again, differently: other sampler steps, draws, protocol or part.

    Raises:
        InputError: no such checkpoint, protocol or items, or data that are not the run's.
    """
    asked = {"diffusion.pseudo_steps" if part == "unlabeled" else "diffusion.steps": steps, "eval.draws": draws}
    run = restored(folder, which, asked, data)
    found = score(run.planned, run.method, run.fabric, which, run.step, part, run.planned.card.protocol(protocol))
    if found is None:
        raise InputError(f"{folder.path}: {run.planned.card.name} has no items with masks in '{part}'")
    return found


@dataclass
class Predicted:
    """What was written.

    Attributes:
        colors: of the numbers that the files hold, in the classes' order.
        files: the mask files.
        pixels: of each class in each of them, (files, C).
    """

    card: Card
    colors: dict[int, tuple[int, int, int]]
    files: list[Path]
    pixels: NDArray[np.int64]


def predict_files(
    folder: RunFolder, paths: Sequence[Path], out: Path, which: Which = "last", *, steps: int | None, draws: int | None, data: Path | None
) -> Predicted:
    """Write a mask file for each of a user's own files, with the set's own class numbers and on the file's own grid.

    Args:
        paths: files, or folders in which all files of the plugin's endings are taken.
        out: a folder that is empty or not there yet; of a folder's files it keeps the tree below.

    Raises:
        InputError: a path that is not there or cannot be read, no file at all, or a plugin that reads its own set only.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: is not an empty folder; name another one with --out, so that nothing is overwritten")
    domain = plugins.domain(folder.record().dataset)
    if not domain.endings:
        raise InputError(f"{folder.path}: the plugin '{domain.card.name}' reads its own set only; `diffmatch evaluate` scores that")
    sources = dict(named(paths, domain.endings))
    run = restored(folder, which, {"diffusion.steps": steps, "eval.draws": draws}, data)
    opened, classes = run.planned.domain, len(run.planned.card.classes)
    colors = {value: info.color for value, info in zip(opened.values, run.planned.card.classes, strict=True)}
    predicted = Predicted(run.planned.card, colors, [], np.zeros((len(sources), classes), np.int64))
    with torch.no_grad(), evaluating(run.method), Bar("predict", len(sources)) as bar:
        for row, (name, path) in enumerate(bar.track(sources.items())):
            labels = labels_of(run, name, opened.outside(path))
            predicted.files.append(write_mask(opened.aligned(labels, path), path, out / name, colors))
            predicted.pixels[row] = np.bincount(labels.ravel(), minlength=classes)
    return predicted


def named(paths: Sequence[Path], endings: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """The files by the names that their masks get: a file's own without ending, of a folder's files the path below the folder."""
    seen: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
        folder = path if path.is_dir() else path.parent
        inside = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith(".")) if path.is_dir() else [path]
        fitting = {p: stem for p in inside if (stem := without_ending(p.name, endings)) is not None}
        if not fitting:
            raise InputError(f"{path}: {'holds no' if path.is_dir() else 'is no'} file of this dataset's kind ({', '.join(endings)})")
        for file, stem in fitting.items():
            name = file.relative_to(folder).with_name(stem).as_posix()
            if (other := seen.setdefault(name, file)) != file:
                raise InputError(f"{file}: its mask would be called as that of {other}; predict them into two folders")
            yield name, file


def without_ending(name: str, endings: tuple[str, ...]) -> str | None:
    """The name without the longest of the endings that it has, in whichever case; None if it has none of them."""
    return next((name[: -len(e)] for e in sorted(endings, key=len, reverse=True) if name.lower().endswith(e)), None)


def labels_of(run: Finished, name: str, image: Image | Scene) -> Mask:
    """Classes of one image or volume on its own grid, as the first protocol scores them; what is larger than SCENE by windows."""
    settings, protocol = run.method.settings, run.planned.card.protocol()
    height, width = image.shape[-2:]
    read = image.read if isinstance(image, Scene) else lambda top, left, h, w: image[..., top : top + h, left : left + w]
    if protocol.mode != "image" or settings.data.resize or height * width <= SCENE:
        whole, item = read(0, 0, height, width), Item(name, name)
        return predict_item(run.method, item, whole, settings.data, protocol, settings.eval.batch, run.fabric.device).labels
    side = max(WINDOW, settings.data.crop)
    labels = np.zeros((height, width), np.uint8)
    for block in predict_scene(
        run.method.probabilities, read, (height, width), key=name, data=settings.data, window=side, stride=side // 2,
        device=run.fabric.device,
    ):  # fmt: skip
        h, w = block.probabilities.shape[1:]
        labels[block.top : block.top + h, block.left : block.left + w] = block.probabilities.argmax(0)
    return labels
