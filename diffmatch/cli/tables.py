"""Commands that make many runs into one thing: table, figure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from diffmatch.card import Preset
from diffmatch.cli.options import DataOption, OutOption, SetOption, app, console, show
from diffmatch.domain import InputError

if TYPE_CHECKING:
    from diffmatch.records.tables import Table
    from diffmatch.running.grid import Entry
    from diffmatch_reports.paper_cells import PaperTable

Checkpoint = Literal["last", "val", "oracle"]
Form = Literal["terminal", "markdown", "latex", "csv"]


@app.command()
def table(
    which: Annotated[str, typer.Argument(help="number of one of the paper's tables, or a YAML file")],
    preset: Annotated[Preset, typer.Option("--preset")] = "quick",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="runs per cell, seeds 0, 1, ...")] = 1,
    data: DataOption = None,
    out: OutOption = Path("runs"),
    sets: SetOption = [],  # noqa: B006 - typer copies it
    dry: Annotated[bool, typer.Option("--dry", help="only tell what would be run, and how long it would take")] = False,
    checkpoint: Annotated[
        Checkpoint,
        typer.Option("--checkpoint", help="val: chosen on val; oracle: chosen on test, which is not a result"),
    ] = "last",
    form: Annotated[Form, typer.Option("--form", help="as what it is printed")] = "terminal",
) -> None:
    """One of the paper's tables: runs what is missing, then prints measured beside published."""
    from diffmatch.records import tables
    from diffmatch.settings import parse_assignments

    spec = tables.load(which)
    filled = (
        _shares(spec, data)
        if spec.kind == "shares"
        else _scores(spec, preset, seeds, data, out, parse_assignments(sets), dry, checkpoint)
    )
    if filled is None:
        return
    from diffmatch_reports.paper_text import FORMS, as_terminal

    if form == "terminal":
        console.print(as_terminal(filled))
    else:
        typer.echo(FORMS[form](filled), nl=False)
    if filled.blank:
        raise InputError(f"{spec.name}: {len(filled.blank)} cells of installed methods are blank")


def _shares(spec: Table, data: Path | None) -> PaperTable:
    from diffmatch import plugins
    from diffmatch.data.doctor import examine
    from diffmatch.data.opening import find_data
    from diffmatch.records import tables
    from diffmatch_reports.paper import fill_shares

    domain = plugins.domain(spec.dataset)
    root, fabricated = find_data(domain, data)
    findings = examine(domain, root, fabricated)
    origin = "INVENTED data" if fabricated else f"{root}, fingerprint {findings.fingerprint[:8]}"
    note = f"Counted by the doctor over all masks of {origin}; shares of the classes shown."
    return fill_shares(spec, {c.name: c.share for c in findings.classes}, tables.published(spec), note)


def _scores(
    spec: Table,
    preset: Preset,
    seeds: int,
    data: Path | None,
    out: Path,
    overrides: dict[str, Any],
    dry: bool,
    checkpoint: Checkpoint,
) -> PaperTable | None:
    from diffmatch import plugins
    from diffmatch.data.opening import size_for
    from diffmatch.learning import registry
    from diffmatch.records import tables
    from diffmatch.records.select import select_evaluation
    from diffmatch.running import grid
    from diffmatch_reports.paper import fill
    from diffmatch_reports.paper_cells import Source, key

    domain = plugins.domain(spec.dataset)
    methods = list(registry.methods.usable())
    size = size_for(domain, [column.labels for column in spec.columns if column.labels])
    cells = list(
        grid.cells(spec, methods, preset=preset, seeds=seeds, data=data, out=out, overrides=overrides, invented=size)
    )
    read = list(grid.recorded(spec, seeds, (out, grid.results())))
    if not cells:
        raise InputError(f"{spec.name}: none of its methods is installed")
    entries = grid.entries(job for cell in cells for job in cell.jobs)
    card = next(iter(entries.values())).planned.card
    card.protocol(spec.protocol)  # what cannot be scored is refused before anything is trained
    for column in spec.columns:
        if column.metric.startswith("class:") and (name := column.metric.removeprefix("class:")) not in card.names:
            raise InputError(f"{spec.name}: no class '{name}' in {card.name}: {', '.join(card.names)}")
    if dry:
        _print_times(list(entries.values()))
        if published := [row.name for row in spec.rows if row.method not in methods]:
            console.print(f"not run here, published numbers alone: {', '.join(published)}", highlight=False)
        return None
    grid.run_missing(entries.values(), console)
    sources: dict[tuple[str, str], list[Source]] = {}
    problems: dict[tuple[str, str], str] = {}
    for cell in cells:
        place = cell.row.name, key(cell.column)
        for job in cell.jobs:
            entry = entries[grid.identity(job)]
            if entry.done:
                score = grid.evaluation(entry, checkpoint, spec.protocol, cell.row.steps)
                sources.setdefault(place, []).append(Source(entry.folder.path, entry.folder.record(), score))
            if entry.problem:
                problems[place] = entry.problem
    for row, column, folder in read:
        record, (known, _) = folder.record(), folder.readable_evaluations()
        protocol = card.protocol(spec.protocol).name
        score = select_evaluation(record, known, checkpoint=checkpoint, protocol=protocol, steps=row.steps)
        sources.setdefault((row.name, key(column)), []).append(Source(folder.path, record, score))
    return fill(
        spec,
        sources,
        problems,
        tables.published(spec),
        preset=preset,
        seeds=seeds,
        extra=overrides,
        checkpoint=checkpoint,
    )


def _print_times(entries: list[Entry]) -> None:
    """Print the runs of a grid and their estimated time.

    Runs that differ by seed, labels or label draw alone are timed once.
    """
    from diffmatch.running import grid

    times: dict[str, float] = {}
    rows, total = [], 0.0
    for entry in entries:
        job = entry.planned.job
        settings = {key: value for key, value in job.overrides.items() if key != "data.split_seed"}
        kind = grid.identity(replace(job, seed=0, labels=None, overrides=settings))
        if not entry.done and kind not in times:
            times[kind] = grid.estimate(entry.planned)
        seconds = 0.0 if entry.done else times[kind]
        total += seconds
        status = "done" if entry.done else "not readable" if entry.problem else grid.clock(seconds)
        rows.append((job.method, entry.planned.split.budget, str(job.seed), status, str(entry.folder.path)))
    show(["method", "labels", "seed", "time", "folder"], rows)
    missing = sum(not entry.done for entry in entries)
    console.print(f"{missing} of {len(entries)} runs are missing, about {grid.clock(total)} in all on this machine")


@app.command()
def figure(
    number: Annotated[int, typer.Argument(help="of the paper's: 1, 4, 5, 6, 8 to 13")],
    runs: Annotated[list[Path], typer.Argument(help="run folders, folders of them, or packed studies")],
    out: Annotated[Path, typer.Option("--out", help="where it is written as PDF, SVG and PNG")] = Path("figures"),
) -> None:
    """One of the paper's figures from the records of comparable runs; those that are not are named."""
    from diffmatch.records.folder import find_runs
    from diffmatch_reports.figures import draw, kind, save, together
    from diffmatch_reports.load import load_run

    kind(number)
    folders = [folder for root in runs for folder in find_runs(root)]
    if not folders:
        raise InputError(f"{', '.join(map(str, runs))}: no run.json below; make one with `diffmatch bench`")
    views = []
    for folder in folders:
        try:
            views.append(load_run(folder))
        except InputError as error:
            typer.echo(f"left out: {error}", err=True)
    if not views:
        raise InputError(f"{', '.join(map(str, runs))}: none of the records can be read")
    board, apart = together(views)
    for what in apart:
        typer.echo(f"left out, not comparable: {what}", err=True)
    for path in save(draw(number, views), out / f"figure{number:02d}-{board.first.record.dataset}"):
        typer.echo(path)
