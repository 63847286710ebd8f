"""Many runs: what is done is found, what is missing is run, what failed is tried again; one line says how far it is."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import chain, product
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.markup import escape

from diffmatch.card import ExpectedError, Preset
from diffmatch.data.loading import Draws, Stream, collate
from diffmatch.domain import InputError
from diffmatch.learning import registry
from diffmatch.learning.batch import Progress
from diffmatch.learning.labelling import in_mode
from diffmatch.records.folder import RunFolder, budget_folder, runs_named
from diffmatch.records.schema import EvaluationRecord
from diffmatch.records.select import select_evaluation
from diffmatch.records.tables import Column, Row, Table
from diffmatch.running.job import run
from diffmatch.running.lock import HeldError
from diffmatch.running.plan import Job, Opened, Plan, plan
from diffmatch.running.restored import evaluate_run
from diffmatch.running.stopping import StoppedError
from diffmatch.running.trainer import total_steps
from diffmatch.scoring.evaluation import POOL_LIMIT
from diffmatch.scoring.inference import predict_item
from diffmatch.shared.failures import refused
from diffmatch.shared.files import digest

WARM, TIMED = 1, 3
"""Steps that are run to estimate the time of one."""


@dataclass
class Entry:
    """One run of a grid: where it is or will be, and why it has no numbers."""

    planned: Plan
    folder: RunFolder
    done: bool
    problem: str = ""


def identity(job: Job) -> str:
    """The same for jobs that ask for the same run."""
    return digest(
        [
            job.dataset,
            job.method,
            job.labels,
            job.seed,
            job.preset,
            str(job.data),
            dict(job.overrides),
            job.split,
            job.fabricated,
            job.invented,
        ]
    )


def results() -> Path:
    """The folder of the project's own records, relative to the working directory where it lies below that.

    It belongs to a checkout and is no part of a wheel, so it may not be there.
    """
    folder = Path(str(files("diffmatch_benchmarks"))) / "results"
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def entries(jobs: Iterable[Job], others: Sequence[Path] | None = None) -> dict[str, Entry]:
    """`identity` -> entry, each run once though several cells read it, in the order asked for.

    A finished run of the same hash, or an older record of it, is looked for under `job.out` and under `others`, by
    default the project's own records. A record that cannot be read is the problem of its entry. A packed study that
    cannot be read ends the search, because it may hold many runs.
    """
    others = (results(),) if others is None else others
    by_identity: dict[str, Entry] = {}
    opened: Opened = {}
    for job in jobs:
        if (key := identity(job)) in by_identity:
            continue
        planned = plan(job, opened)
        entry = Entry(planned, planned.folder, False)
        paths = [planned.folder.path.relative_to(job.out).with_name(name) for name in planned.names]
        roots = (job.out, *others)
        for folder in chain.from_iterable(runs_named(path, root) for root in roots for path in paths):
            try:
                done = (record := folder.record()).status == "done" and planned.fits(record)
            except InputError as error:
                entry.problem = str(error)
                continue
            if done:
                entry.folder, entry.done, entry.problem = folder, True, ""
                break
        by_identity[key] = entry
    return by_identity


def run_missing(entries: Iterable[Entry], console: Console) -> None:
    """Run what is not done, one after the other.

    A run that fails is recorded and reported, and does not stop the others.
    What another process trains is left for the end and waited for: the same grid started twice shares its runs.
    """
    missing = [entry for entry in entries if not entry.done]
    elsewhere: list[Entry] = []
    began = time.monotonic()
    for n, entry in enumerate(chain(missing, elsewhere)):
        wait = n >= len(missing)
        left = (time.monotonic() - began) / n * (len(missing) - n) if n and not wait else None
        job = entry.planned.job
        console.print(
            f"[bold]{'waiting for another process' if wait else f'run {n + 1} of {len(missing)}'}[/]: "
            f"{job.dataset} {job.method} {entry.planned.split.budget} seed {job.seed}"
            + (f", about {clock(left)} left" if left is not None else ""),
            highlight=False,
        )
        try:
            entry.folder, entry.done, entry.problem = run(job, console, wait), True, ""
        except HeldError:
            elsewhere.append(entry)
            console.print("another process trains it: left for the end")
        except StoppedError:
            raise
        except Exception as error:
            expected = str(error) if isinstance(error, ExpectedError) else refused(error)
            entry.problem = " ".join((expected or f"{type(error).__name__}: {error}").split())
            console.print(f"[red]failed[/]: {escape(entry.problem)}", highlight=False, soft_wrap=True)
            if not expected:  # a failure of ours: where it happened is wanted
                console.print(escape(traceback.format_exc()), highlight=False, soft_wrap=True)


def evaluation(
    entry: Entry, checkpoint: Literal["last", "val", "oracle"], protocol: str | None, steps: int | None
) -> EvaluationRecord | None:
    """The test evaluation that a cell asks for; made if the checkpoint is still there and it does not exist yet.

    Args:
        checkpoint: `oracle` is that of the other two which scores better on test.
        protocol: by name; None for the default.
        steps: of the sampler; None for the run's own.
    """
    if not entry.done:
        return None
    if checkpoint == "oracle":
        both = [evaluation(entry, "last", protocol, steps), evaluation(entry, "val", protocol, steps)]
        return max((e for e in both if e), key=lambda e: e.metrics["primary"].get("value", -1.0)) if all(both) else None
    record = entry.folder.record()
    settings = record.settings
    sampling = (steps or settings["diffusion"]["steps"], settings["eval"]["draws"])
    if not registry.method(entry.planned.job.method).sampled:
        sampling, steps = (1, 1), None
    known, unreadable = entry.folder.readable_evaluations()
    scored = select_evaluation(
        record,
        known,
        checkpoint=checkpoint,
        protocol=protocol or entry.planned.card.protocol().name,
        steps=sampling[0],
        draws=sampling[1],
    )
    if scored is not None:
        return scored
    try:
        return evaluate_run(entry.folder, checkpoint, "test", steps=steps, draws=None, protocol=protocol, data=None)
    except InputError as error:
        entry.problem = "; ".join([*unreadable, str(error)])
        return None


def estimate(planned: Plan) -> float:
    """Seconds that a run will take here, from a few steps and one test item."""
    settings, split = planned.settings, planned.split
    method = planned.build()
    draws = Draws(
        planned.domain, Stream(split.labelled, 0, 0), Stream(split.unlabelled, 0, 1), settings.data, method.views
    )
    method.train()
    began = 0.0
    for step in range(WARM + TIMED):
        if step == WARM:
            began = time.perf_counter()
        batch = collate([draws[step * settings.train.batch + n] for n in range(settings.train.batch)])
        method.losses(batch, Progress(step, WARM + TIMED)).total.backward()  # type: ignore[no-untyped-call]
    per_step = (time.perf_counter() - began) / TIMED

    item = split.test[len(split.test) // 2]
    for _ in range(2):  # the first one also decodes and warms up
        began = time.perf_counter()
        sample = planned.domain.read(item)
        with torch.no_grad(), in_mode(method, "eval"):
            predict_item(
                method,
                item,
                sample.image,
                settings.data,
                planned.card.protocol(),
                settings.eval.batch,
                torch.device("cpu"),
            )
    per_item = time.perf_counter() - began
    slices = sample.image.shape[2] if sample.image.ndim == 5 else 1
    scored = len(split.test) + len(split.val) * (settings.train.validations + 1)
    pool = min(len(split.unlabelled), POOL_LIMIT) + settings.train.audits * settings.train.audit_items
    steps = total_steps(settings.train, len(split.unlabelled or split.labelled))
    return steps * per_step + (scored + pool / slices) * per_item


def clock(seconds: float) -> str:
    """`75` -> `1 min 15 s`, `4000` -> `1 h 7 min`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


@dataclass(frozen=True)
class Cell:
    """A cell that an installed method can fill: its runs, one per seed."""

    row: Row
    column: Column
    jobs: tuple[Job, ...]


def cells(
    table: Table,
    methods: Sequence[str],
    *,
    preset: Preset,
    seeds: int,
    data: Path | None,
    out: Path,
    overrides: Mapping[str, Any],
    invented: int,
) -> Iterator[Cell]:
    """The cells of the rows whose method is installed, row by row; rows of `records` are `recorded`'s.

    Args:
        overrides: of the command line; they win over the table's own settings.
        invented: size of fabricated data, one for all columns so that they share their test items.
    """
    root = Path(table.data) if table.data else data
    for row in table.rows:
        if row.method is None or row.method not in methods or row.records:
            continue
        for column in table.columns:
            settings = [{**table.asked(row, column, preset, seed), **overrides} for seed in range(seeds)]
            jobs = tuple(
                Job(
                    table.dataset,
                    row.method,
                    column.labels,
                    seed,
                    preset,
                    root,
                    out,
                    own,
                    split=table.split,
                    invented=invented,
                )
                for seed, own in enumerate(settings)
            )
            yield Cell(row, column, jobs)


def recorded(table: Table, seeds: int, roots: Sequence[Path]) -> Iterator[tuple[Row, Column, RunFolder]]:
    """The runs of the rows that name their records, of the first `seeds` seeds.

    Args:
        roots: where they are looked for, in this order.

    Raises:
        InputError: a record is not there.
    """
    for row, column in product(table.rows, table.columns):
        for name in row.records.get(column.labels or "", ()):
            if int(name.partition("-")[0]) >= seeds:
                continue
            path = Path(table.dataset, row.method or "", budget_folder(column.labels or ""), name)
            found = chain.from_iterable(runs_named(path, root) for root in roots)
            if (folder := next(found, None)) is None:
                raise InputError(
                    f"{table.name}, row '{row.name}': no record {path} below {' or '.join(map(str, roots))}; "
                    "a row of records cannot be run"
                )
            yield row, column, folder
