"""A finished run taken up again, its checkpoint scored otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lightning_fabric import Fabric

from diffmatch.domain import InputError
from diffmatch.learning import registry
from diffmatch.learning.method import Method
from diffmatch.model.predict import Predicted, Trained, predict_files, sources
from diffmatch.readers.outside import endings_of
from diffmatch.records import checkpoint
from diffmatch.records.folder import RunFolder
from diffmatch.records.schema import EvaluationRecord
from diffmatch.running.job import fabric_for, score
from diffmatch.running.plan import Plan, job_of, plan, settings_of
from diffmatch.scoring.evaluation import Part
from diffmatch.settings import Section

Which = Literal["last", "val"]


@dataclass
class Finished:
    """A run's method with the weights of one of its checkpoints, on the device that is there."""

    planned: Plan
    method: Method[Section]
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
        raise InputError(
            f"{planned.domain.root}: not the files that {folder.path} was trained on (names or sizes differ)"
        )
    changed = {**record.overrides, **{key: value for key, value in changes.items() if value is not None}}
    settings = settings_of(planned.domain, registry.method(record.method), record.preset, changed)
    content = checkpoint.load(folder.path / {"last": "last.ckpt", "val": "val_best.ckpt"}[which], planned.split.sha256)
    method = planned.build(settings)
    method.load_state_dict(content["method"])
    fabric = fabric_for(planned.job, settings)
    fabric.launch()
    method.to(fabric.device)
    planned.folder = folder
    return Finished(planned, method, fabric, content["step"])


def evaluate_run(
    folder: RunFolder,
    which: Which,
    part: Part,
    *,
    steps: int | None,
    draws: int | None,
    protocol: str | None,
    data: Path | None,
) -> EvaluationRecord:
    """Score a finished run's checkpoint again, differently: other sampler steps, draws, protocol or part.

    Raises:
        InputError: no such checkpoint, protocol or items, or data that are not the run's.
    """
    asked = {"diffusion.pseudo_steps" if part == "unlabeled" else "diffusion.steps": steps, "eval.draws": draws}
    run = restored(folder, which, asked, data)
    evaluation = score(run.planned, run.method, run.fabric, which, run.step, part, run.planned.card.protocol(protocol))
    if evaluation is None:
        raise InputError(f"{folder.path}: {run.planned.card.name} has no items with masks in '{part}'")
    return evaluation


def predict_with(
    folder: RunFolder,
    paths: Sequence[Path],
    out: Path,
    which: Which = "last",
    *,
    steps: int | None,
    draws: int | None,
    data: Path | None,
) -> Predicted:
    """Write a mask for each of a user's own files with one of the run's checkpoints; see `model.predict.predict_files`.

    Raises:
        InputError: a path that cannot be read, or no file at all.
    """
    run = restored(folder, which, {"diffusion.steps": steps, "eval.draws": draws}, data)
    domain = run.planned.domain
    files = sources(paths, out, (*domain.endings, *endings_of(domain.reading)))
    return predict_files(Trained(domain, run.method, run.fabric.device), files, out)
