"""Commands that make runs, score and look at them: bench, resume, evaluate, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from diffmatch.card import Preset
from diffmatch.cli.options import (
    DataOption,
    Devices,
    MethodOption,
    OutOption,
    SetOption,
    SettingsFile,
    Workers,
    app,
    console,
)
from diffmatch.domain import InputError


@app.command()
def bench(
    dataset: Annotated[str, typer.Argument(help="one of `diffmatch domains`")],
    labels: Annotated[str | None, typer.Option("--labels", help="budget: 3, 1/16, 5%, or all, the upper bound")] = None,
    method: MethodOption = "diffmatch",
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    preset: Annotated[Preset, typer.Option("--preset")] = "quick",
    data: DataOption = None,
    out: OutOption = Path("runs"),
    sets: SetOption = [],  # noqa: B006 - typer copies it
    settings: SettingsFile = None,
    devices: Devices = 1,
    workers: Workers = None,
    split: Annotated[
        str | None, typer.Option("--split", help="folder of split lists, an installed family, or fold-1-of-5")
    ] = None,
    folds: Annotated[
        int | None, typer.Option("--folds", min=2, help="as many runs, so that every case with a mask is scored once")
    ] = None,
    init: Annotated[
        Path | None, typer.Option("--init", help="start from the weights of a finished run or an exported model")
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="also write TensorBoard events")] = False,
) -> None:
    """Train, score and report one run, or one for each fold of a cross-validation."""
    from dataclasses import replace

    from diffmatch.running.job import run
    from diffmatch.running.plan import Job
    from diffmatch.settings import parse_assignments, read_layer

    overrides = {**(read_layer(settings) if settings else {}), **parse_assignments(sets)}
    job = Job(
        dataset, method, labels, seed, preset, data, out, overrides, devices, workers, tensorboard, split, init=init
    )
    if folds is None:
        finish(run(job, console).path)
        return
    if split:
        raise InputError("--folds divides the set itself: leave out --split")
    from diffmatch_reports import folds_table

    done = [run(replace(job, split=f"fold-{n}-of-{folds}"), console) for n in range(1, folds + 1)]
    console.print(folds_table(done))


@app.command()
def resume(
    run: Annotated[Path, typer.Argument(help="a run folder")], data: DataOption = None, devices: Devices = 1
) -> None:
    """Take up an interrupted run where its last checkpoint stands."""
    from dataclasses import replace

    from diffmatch.records.folder import RunFolder
    from diffmatch.running.again import job_of
    from diffmatch.running.job import run as start

    finish(start(replace(job_of(RunFolder(run), data), devices=devices), console).path)


def finish(run: Path) -> None:
    """The table, and the page."""
    from diffmatch.records.folder import RunFolder
    from diffmatch_reports import run_table, write_report

    console.print(run_table(RunFolder(run)))
    console.print(f"page: {write_report([RunFolder(run)], run / 'report').page}", soft_wrap=True, markup=False)


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="a run folder")],
    checkpoint: Annotated[Literal["last", "val"], typer.Option("--checkpoint")] = "last",
    split: Annotated[Literal["test", "val", "unlabeled"], typer.Option("--split")] = "test",
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="sampler steps")] = None,
    draws: Annotated[int | None, typer.Option("--draws", min=1, help="noise draws averaged")] = None,
    protocol: Annotated[str | None, typer.Option("--protocol")] = None,
    data: DataOption = None,
) -> None:
    """Score a run's checkpoint again: other steps, draws, protocol or part."""
    from diffmatch.records.folder import RunFolder
    from diffmatch.records.schema import EvaluationRecord
    from diffmatch.running.restored import evaluate_run

    evaluation = evaluate_run(RunFolder(run), checkpoint, split, steps=steps, draws=draws, protocol=protocol, data=data)
    primary, value = evaluation.metrics["primary"], evaluation.metrics["primary"].get("value")
    shown = "not computed" if value is None else f"{value:.4f}"
    console.print(
        f"{primary['name']} {shown}  ({evaluation.selection}, {evaluation.split}, {evaluation.protocol}, "
        f"{evaluation.steps} steps x {evaluation.draws} draws)",
        markup=False,
    )
    for name, row in evaluation.metrics["per_class"].items():
        console.print(
            f"  {name}: " + ", ".join(f"{k} {row[k]:.4f}" for k in ("dice", "iou", "ece") if k in row), markup=False
        )
    path = run / "evaluations" / f"{evaluation.name}.json"
    own = EvaluationRecord.model_validate_json(path.read_bytes()).metrics == evaluation.metrics
    kept = "holds the run's own numbers and was kept; another device, precision or version has other digits"
    console.print(f"written: {path}" if own else f"{path} {kept}", soft_wrap=True, markup=False)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="run folders, folders of them, or packed studies")],
    out: Annotated[Path, typer.Option("--out")] = Path("report"),
) -> None:
    """Offline pages: the page of one run, or a site of many with leaderboards, tables and comparisons."""
    from diffmatch.records.folder import find_runs
    from diffmatch_reports import leaderboard, write_report

    folders = list({folder.path.resolve(): folder for root in runs for folder in find_runs(root)}.values())
    if not folders:
        raise InputError(f"{', '.join(map(str, runs))}: no run.json below; make one with `diffmatch bench`")
    written = write_report(folders, out)
    console.print(leaderboard(written.runs))
    for problem in written.unreadable:
        console.print(f"not shown: {problem}", soft_wrap=True, markup=False, highlight=False)
    console.print(f"page: {written.page}", soft_wrap=True, markup=False)
