"""A planned job carried out: train, score, record."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.markup import escape

from diffmatch.data.loading import Stream, default_workers
from diffmatch.domain import InputError, Protocol
from diffmatch.learning.method import Method
from diffmatch.model.start import in_words, take
from diffmatch.progress import Bar
from diffmatch.records.folder import RunFolder
from diffmatch.records.schema import SCHEMA, EvaluationRecord, Init, Labels, RunRecord, SplitId
from diffmatch.running.again import prepared
from diffmatch.running.lock import held
from diffmatch.running.plan import Job, Plan, parameter_counts
from diffmatch.running.preflight import announce, look_at_items, look_at_network
from diffmatch.running.processes import launch
from diffmatch.running.stopping import StoppedError
from diffmatch.running.traces import draw_samples, logger, tensorboard_writer
from diffmatch.running.trainer import Trainer, total_steps
from diffmatch.scoring.evaluation import Part, evaluate, evaluate_pool, members, shares
from diffmatch.scoring.metrics import summary
from diffmatch.settings import Section, Settings
from diffmatch.shared.failures import refused
from diffmatch.shared.files import sweep
from diffmatch.shared.machine import environment

SELECTION = {"last": "last checkpoint", "val": "best on val"}


def run(job: Job, console: Console, wait: bool = False) -> RunFolder:
    """Train, score and record a job.

    A finished run is returned as it is; an unfinished one goes on from its last checkpoint.

    Args:
        wait: for another process that trains it, instead of raising.

    Raises:
        HeldError: another process trains it.
    """
    planned = prepared(job)
    announce(planned, console)
    look_at_network(planned)
    if planned.start:
        console.print(in_words(take(planned.build(pretrained=False), planned.start)), markup=False, soft_wrap=True)
    folder = planned.folder.create()
    with held(folder.path, wait):
        if folder.record_path.exists() and folder.record().status == "done":
            complete(planned)
            console.print(f"already done: {folder.path}", markup=False)
            return folder
        sweep(folder.path)
        devices = fabric_for(job, planned.settings)
        odd = [] if (folder.path / "last.ckpt").exists() else look_at_items(planned)
        for line in odd:
            console.print(f"[yellow]note:[/] {escape(line)}", highlight=False)
        if job.devices > 1 and "LOCAL_RANK" not in os.environ:
            launch(devices, partial(_work, job=job, warnings=odd))
        else:
            devices.launch()
            _work(devices, job, planned, odd)
    return folder


def fabric_for(job: Job, settings: Settings[Section]) -> Fabric:
    """CPU, one GPU or several processes: spawned here, or whatever torchrun started."""
    cuda = torch.cuda.is_available()
    precision = {"auto": "16-mixed" if cuda else "32-true", "32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed"}[
        settings.train.precision
    ]
    if settings.train.batch % job.devices:
        raise InputError(f"train.batch={settings.train.batch} cannot be divided among {job.devices} devices")
    if cuda and job.devices > torch.cuda.device_count():
        raise InputError(f"--devices {job.devices}: this machine has {torch.cuda.device_count()} GPUs")
    several = job.devices > 1
    strategy = "auto" if not several else "ddp" if "LOCAL_RANK" in os.environ else "ddp_spawn"
    accelerator = "cuda" if cuda else "cpu"
    return Fabric(accelerator=accelerator, devices=job.devices, strategy=strategy, precision=precision)  # type: ignore[arg-type]


def _work(fabric: Fabric, job: Job, planned: Plan | None = None, warnings: Sequence[str] = ()) -> None:
    """What every process does.

    Args:
        warnings: what was noticed before; a resumed run has them from its checkpoint.
    """
    if fabric.world_size > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // fabric.world_size))
    planned = planned or prepared(job)
    folder, settings, first = planned.folder, planned.settings, fabric.is_global_zero
    begun = (folder.path / "last.ckpt").exists()
    method = planned.build(pretrained=not begun)
    init = _init_of(folder) if begun else take(method, planned.start) if planned.start else None
    steps = total_steps(settings.train, len(planned.split.unlabelled or planned.split.labelled))
    if fabric.world_size > 1 and fabric.device.type == "cuda":
        method = torch.nn.SyncBatchNorm.convert_sync_batchnorm(method)  # type: ignore[no-untyped-call]
    record = start_record(planned, method, fabric, init)
    weights = method.sample_weights(planned.split.labelled, planned.pixels)
    trainer = Trainer(
        fabric=fabric,
        domain=planned.domain,
        split=planned.split,
        method=method,
        settings=settings,
        seed=job.seed,
        steps=steps,
        folder=folder,
        run_name=planned.name,
        labelled=Stream(planned.split.labelled, job.seed, 0, weights),
        pool=Stream(planned.split.unlabelled, job.seed, 1),
        workers=default_workers() if job.workers is None else job.workers,
        pixels=planned.statistics.pixels,
        writer=tensorboard_writer(folder.path) if job.tensorboard and first else None,
        warnings=list(warnings),
    )
    log = logger(folder.path) if first else logging.getLogger("diffmatch.silent")
    if first:
        folder.write_members(planned.members())
        folder.write(record)
        log.info("start: %s, %d steps, settings %s", fabric.device, steps, settings.model_dump_json())
    try:
        seconds = trainer.run()
        record.warnings = trainer.warnings
        record.timing["train_seconds"] = round(seconds, 2)
        record.timing["train_images_per_second"] = round(steps * settings.train.batch / max(seconds, 1e-9), 2)
        score_run(planned, method, fabric, record, steps)
        record.status = "done"
    except (StoppedError, KeyboardInterrupt) as stop:
        record.status, record.reason = "interrupted", str(stop) or "interrupted"
        raise
    except BaseException as error:
        record.status, record.reason = "failed", refused(error) or f"{type(error).__name__}: {error}"
        raise
    finally:
        if first:
            with suppress(OSError) if record.status == "failed" else nullcontext():  # the first error is told
                folder.write(record)
            log.info("%s %s", record.status, record.reason or "")


def _init_of(folder: RunFolder) -> Init | None:
    """What a run that has begun started from."""
    return folder.record().init if folder.exists() else None


def complete(planned: Plan) -> None:
    """Add to the record of a finished run of schema 1 what makes it a model: reading, versions and the split's members.

    Only a plan that was made from that record, on the run's own data, knows them.
    """
    record = planned.folder.record()
    if record.reading is None and planned.job.again:
        planned.folder.write_members(planned.members())
        record.reading, record.versions = planned.domain.reading.model_dump(mode="json"), planned.versions
        record.schema_version = SCHEMA
        planned.folder.write(record)


def start_record(planned: Plan, method: Method[Section], fabric: Fabric, init: Init | None = None) -> RunRecord:
    job, split, card = planned.job, planned.split, planned.card
    return RunRecord(
        status="running",
        dataset=card.name,
        method=job.method,
        seed=job.seed,
        preset=job.preset,
        overrides=dict(job.overrides),
        labels=Labels(
            budget=split.budget,
            unit=card.label_unit,
            items=sorted(i.id for i in split.labelled),
            pixels=planned.labelled_pixels,
        ),
        split=SplitId(
            family=split.family,
            sha256=split.sha256,
            asked=job.split,
            counts={
                "labelled": len(split.labelled),
                "unlabelled": len(split.unlabelled),
                "val": len(split.val),
                "test": len(split.test),
            },
        ),
        data=planned.data,
        card=card.model_dump(mode="json"),
        settings=planned.settings.model_dump(mode="json"),
        reading=planned.domain.reading.model_dump(mode="json"),
        versions=planned.versions,
        init=init,
        hash=planned.hash,
        parameters=parameter_counts(method),
        timing={},
        environment=machine(fabric),
    )


def machine(fabric: Fabric) -> dict[str, Any]:
    name = torch.cuda.get_device_name() if fabric.device.type == "cuda" else "cpu"
    return environment(name, str(fabric._precision.precision), fabric.world_size)


def score_run(planned: Plan, method: Method[Section], fabric: Fabric, record: RunRecord, step: int) -> None:
    """The evaluations that every run gets: the last checkpoint on test, val and the pool, and the pictures."""
    seconds = 0.0
    for part in ("test", "val", "unlabeled"):
        evaluation = score(planned, method, fabric, "last", step, part, planned.card.protocol())
        if evaluation is not None:
            seconds += evaluation.seconds
            record.metrics[part] = evaluation.metrics
            record.headlines[part] = evaluation.name
    record.timing["evaluate_seconds"] = round(seconds, 2)
    if fabric.is_global_zero:
        draw_samples(planned, method, fabric.device)


def score(
    planned: Plan,
    method: Method[Section],
    fabric: Fabric,
    which: Literal["last", "val"],
    step: int,
    part: Part,
    protocol: Protocol,
) -> EvaluationRecord | None:
    """One evaluation, written to the run folder by rank 0; None where the part has no items (or no masks)."""
    items = members(planned.split, part, protocol)
    if not items:
        return None
    began = time.monotonic()
    place: dict[str, Any] = {"device": fabric.device, "rank": fabric.global_rank, "world": fabric.world_size}
    own = shares(items, method.settings.eval.batch if part == "unlabeled" else 1)[
        fabric.global_rank :: fabric.world_size
    ]
    with Bar(f"score {part}", sum(map(len, own)), shown=fabric.is_global_zero) as bar:
        if part == "unlabeled":
            counts = evaluate_pool(method, planned.domain, items, bar=bar, **place)
        else:
            counts = evaluate(method, planned.domain, items, protocol, bar=bar, distances=part == "test", **place)
    seconds = time.monotonic() - began
    settings = method.settings
    steps, draws = (1, 1) if not method.sampled else (settings.diffusion.steps, settings.eval.draws)
    if method.sampled and part == "unlabeled":
        steps, draws = settings.diffusion.pseudo_steps, 1
    evaluation = EvaluationRecord(
        checkpoint=which,
        step=step,
        selection=SELECTION[which],
        split=part,
        protocol=protocol.name,
        steps=steps,
        draws=draws,
        seconds=round(seconds, 3),
        images_per_second=round(len(items) / max(seconds, 1e-9), 2),
        environment=machine(fabric),
        metrics=summary(
            counts, planned.card, planned.statistics.pixels, pool=part == "unlabeled", empty=protocol.empty
        ),
    )
    if fabric.is_global_zero:
        planned.folder.write_evaluation(evaluation, counts)
    return evaluation
