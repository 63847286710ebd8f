"""A finished run taken up again: its checkpoint scored otherwise, on the data that it was made with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from diffmatch.domain import InputError
from diffmatch.learning import registry
from diffmatch.learning.method import Method
from diffmatch.model.manifest import registered, settings_from
from diffmatch.model.source import CHECKPOINTS, Which
from diffmatch.records import checkpoint
from diffmatch.records.folder import RunFolder
from diffmatch.records.schema import EvaluationRecord
from diffmatch.running.again import job_of, planned_again
from diffmatch.running.job import fabric_for, score
from diffmatch.running.plan import Plan
from diffmatch.scoring.evaluation import Part
from diffmatch.settings import Section


@dataclass
class Finished:
    """A run's method with the weights of one of its checkpoints, on the device that is there."""

    planned: Plan
    method: Method[Section]
    fabric: Fabric
    step: int


def restored(folder: RunFolder, which: Which, changes: dict[str, Any], data: Path | None) -> Finished:
    """The run as its record has it, some of its settings (dotted) changed.

    Raises:
        InputError: no such checkpoint, or data that are not the run's.
    """
    planned = planned_again(job_of(folder, data))
    content = checkpoint.load(folder.path / CHECKPOINTS[which], planned.split.sha256, planned.name)
    stored, kind = planned.settings.model_dump(mode="json"), registry.method(planned.job.method)
    settings = settings_from(stored, kind, folder.record_path, changes)
    method = planned.build(settings, pretrained=False)
    method.load_state_dict(content["method"])
    fabric = fabric_for(planned.job, settings)
    fabric.launch()
    method.to(fabric.device)
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
        InputError: no such checkpoint, protocol or items, data that are not the run's, or steps and draws that the
            method or the part cannot use.
    """
    record = folder.record()
    if not registered(record.method, folder.path).sampled and (steps or draws):
        raise InputError(f"{folder.path}: the method {record.method} does not sample; leave out --steps and --draws")
    if part == "unlabeled" and (draws or protocol):
        raise InputError(
            "--split unlabeled: pseudo-labels are made of one draw, image by image; leave out --draws and --protocol"
        )
    asked = {"diffusion.pseudo_steps" if part == "unlabeled" else "diffusion.steps": steps, "eval.draws": draws}
    changes = {key: value for key, value in asked.items() if value is not None}
    run = restored(folder, which, changes, data)
    evaluation = score(run.planned, run.method, run.fabric, which, run.step, part, run.planned.card.protocol(protocol))
    if evaluation is None:
        raise InputError(f"{folder.path}: {run.planned.card.name} has no items with masks in '{part}'")
    return evaluation
