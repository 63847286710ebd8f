"""The command line. It alone knows engine and reports, and imports both late: `diffmatch --help` loads no torch."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from diffmatch.domain import InputError

if TYPE_CHECKING:
    from diffmatch.methods.base import Method
    from diffmatch.planning import Job

app = typer.Typer(
    help="Semi-supervised semantic segmentation under class imbalance: DiffMatch and its rivals, one loop, one protocol.",
    no_args_is_help=True, add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False,
)  # fmt: skip
console = Console(highlight=False)

Preset = Literal["quick", "paper"]
SetOption = Annotated[list[str], typer.Option("--set", help="a setting, key=value; may be repeated", metavar="KEY=VALUE")]
SettingsFile = Annotated[Path | None, typer.Option("--settings", help="a YAML file of settings")]
DataOption = Annotated[Path | None, typer.Option("--data", help="data root; absent: $DIFFMATCH_DATA/<name>, else fabricated")]
OutOption = Annotated[Path, typer.Option("--out", help="where run folders go")]
Devices = Annotated[int, typer.Option("--devices", min=1, help="processes: GPUs, or CPU processes over gloo")]
Workers = Annotated[int | None, typer.Option("--workers", min=0, help="loading processes per device")]
MethodOption = Annotated[str, typer.Option("--method", help="one of `diffmatch methods`")]
JsonOption = Annotated[bool, typer.Option("--json", help="as JSON on stdout")]


@app.command()
def bench(
    dataset: Annotated[str, typer.Argument(help="one of `diffmatch domains`")],
    labels: Annotated[str | None, typer.Option("--labels", help="budget: 3, 1/16 or 5%")] = None,
    method: MethodOption = "diffmatch",
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    preset: Annotated[Preset, typer.Option("--preset")] = "quick",
    data: DataOption = None,
    out: OutOption = Path("runs"),
    sets: SetOption = [],  # noqa: B006 - typer copies it
    settings: SettingsFile = None,
    devices: Devices = 1,
    workers: Workers = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="also write TensorBoard events")] = False,
) -> None:
    """Train, score and report one run."""
    from diffmatch.jobs import run
    from diffmatch.planning import Job
    from diffmatch.settings import parse_assignments, read_layer

    overrides = {**(read_layer(settings) if settings else {}), **parse_assignments(sets)}
    job = Job(dataset, method, labels, seed, preset, data, out, overrides, devices, workers, tensorboard)
    finish(run(job, console).path)


@app.command()
def resume(run: Annotated[Path, typer.Argument(help="a run folder")], data: DataOption = None, devices: Devices = 1) -> None:
    """Take up an interrupted run where its last checkpoint stands."""
    from dataclasses import replace

    from diffmatch.jobs import run as start
    from diffmatch.planning import job_of, plan
    from diffmatch.runs import RunFolder

    job: Job = replace(job_of(RunFolder(run), data), devices=devices)
    folder = plan(job).folder
    if folder.path.resolve() != run.resolve():
        raise InputError(f"{run}: settings, data or versions have changed since; the run that they make is {folder.path}")
    finish(start(job, console).path)


def finish(run: Path) -> None:
    """The table, and the page."""
    from diffmatch.runs import RunFolder
    from diffmatch_reports import run_table, write_report

    console.print(run_table(RunFolder(run)))
    console.print(f"page: {write_report([RunFolder(run)], run / 'report')}", soft_wrap=True)


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
    from diffmatch.jobs import evaluate_run
    from diffmatch.runs import RunFolder

    found = evaluate_run(RunFolder(run), checkpoint, split, steps=steps, draws=draws, protocol=protocol, data=data)
    primary, value = found.metrics["primary"], found.metrics["primary"].get("value")
    shown = "not computed" if value is None else f"{value:.4f}"
    console.print(
        f"{primary['name']} {shown}  ({found.selection}, {found.split}, {found.protocol}, {found.steps} steps x {found.draws} draws)"
    )
    for name, row in found.metrics["per_class"].items():
        console.print(f"  {name}: " + ", ".join(f"{k} {row[k]:.4f}" for k in ("dice", "iou", "ece") if k in row))
    console.print(f"written: {run / 'evaluations' / found.name}.json", soft_wrap=True)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="run folders, or folders of them")],
    out: Annotated[Path, typer.Option("--out")] = Path("report"),
) -> None:
    """One offline page of one run or many."""
    from diffmatch.runs import find_runs
    from diffmatch_reports import leaderboard, write_report

    found = [folder for root in runs for folder in find_runs(root)]
    if not found:
        raise InputError(f"{', '.join(map(str, runs))}: no run.json below; make one with `diffmatch bench`")
    console.print(leaderboard(found))
    console.print(f"page: {write_report(found, out)}", soft_wrap=True)


@app.command()
def domains() -> None:
    """Installed datasets; broken plugins are named."""
    from diffmatch.plugins import DOMAINS

    rows = (
        (name, about.card.title, f"{', '.join(about.card.budgets)} {about.card.label_unit}", where)
        for name, about, where in _sound(DOMAINS)
    )
    _show(["name", "title", "labels", "distribution"], rows)


@app.command()
def methods() -> None:
    """Installed methods with source and cost; broken plugins are named."""
    from diffmatch.cost import method_costs
    from diffmatch.plugins import METHODS

    def row(name: str, about: type[Method], where: str) -> tuple[str, ...]:
        parameters, seen = method_costs(about)
        return name, about.title, about.citation, f"{parameters / 1e6:.2f}", f"{seen['trained']:g}", f"{seen['taught']:g}", where

    _show(
        ["name", "title", "source", "M parameters*", "passes trained*", "taught*", "distribution"],
        (row(*found) for found in _sound(METHODS)),
    )
    console.print(
        "* 21 classes, DeepLabv3+ on ResNet-50; images through a whole network per step and labelled image, with and without gradient"
    )


def _sound(group: str) -> Iterator[tuple[str, Any, str]]:
    """Name, class and distribution of the plugins that work; the others are told on the way."""
    from diffmatch.plugins import plugins

    for name, plugin in plugins(group).items():
        if plugin.error:
            console.print(f"[red]{name}[/] ({plugin.distribution}) is broken: {plugin.error}")
        else:
            yield name, plugin.loaded, plugin.distribution


def _show(columns: list[str], rows: Iterable[tuple[str, ...]]) -> None:
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*row)
    console.print(table)


@app.command()
def describe(name: Annotated[str, typer.Argument(help="a dataset or a method")]) -> None:
    """A dataset's card and recipe, or a method's settings."""
    from diffmatch import plugins

    if name in plugins.names(plugins.METHODS):
        method = plugins.method(name)
        console.print(f"[bold]{method.title}[/] ({method.citation})\n{method.__doc__}", markup=True)
        for field, info in method.Options.model_fields.items():
            console.print(f"  method.{field} = {info.default}  {info.description or ''}")
        return
    domain = plugins.domain(name)
    for key, value in domain.card.model_dump().items():
        console.print(f"[bold]{key}[/]: {value}")
    for preset in ("paper", "quick"):
        console.print(f"[bold]recipe, {preset}[/]: {getattr(domain.recipe, preset)}")


@app.command()
def cost(
    dataset: Annotated[str | None, typer.Argument(help="a dataset; without one, --classes")] = None,
    classes: Annotated[int | None, typer.Option("--classes", min=2, help="21: DeepLabv3+, ResNet-50, 513 x 513")] = None,
    method: MethodOption = "diffmatch",
    preset: Annotated[Preset, typer.Option("--preset")] = "paper",
    sets: SetOption = [],  # noqa: B006
    as_json: JsonOption = False,
) -> None:
    """Parameters, multiply-accumulates and the memory of a training step; needs no data."""
    from diffmatch.cost import cost_of
    from diffmatch.settings import parse_assignments

    found = cost_of(dataset, classes, method, preset, parse_assignments(sets))
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    table = Table("what", "value", box=None)
    for key, value in _flat(found):
        table.add_row(key, f"{value:,}" if isinstance(value, int | float) else str(value))
    console.print(table)


def _flat(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in tree.items():
        rows += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
    return rows


def main() -> None:
    """Entry point. 0 done, 1 a failure of ours, 2 what was asked for cannot be done (one line, no traceback)."""
    sys.exit(invoke(sys.argv[1:]))


EXPECTED = {
    "StoppedError": (130, "; the same command, or `diffmatch resume`, goes on from there"),
    "DivergenceError": (1, ""),
    "InputError": (2, ""),
}
"""Exit codes of the errors that are told in one line, and what is added to it."""


def invoke(arguments: list[str]) -> int:
    """Run the command line in this process and return the exit code."""
    try:
        result = app(arguments, standalone_mode=False)
        return int(result) if isinstance(result, int) else 0
    except InputError as error:
        return _tell(str(error))
    except KeyboardInterrupt:
        return _tell("interrupted", 130)
    except Exception as error:
        if hasattr(error, "format_message"):  # click's usage errors
            return _tell(error.format_message() or "name a command")
        # By name: their modules load torch. An error of a spawned process arrives as the text of its traceback.
        for name, (code, advice) in EXPECTED.items():
            if type(error).__name__ == name or f"{name}: " in str(error):
                return _tell(str(error).rsplit(f"{name}: ", 1)[-1].strip() + advice, code)
        traceback.print_exc()
        return 1


def _tell(message: str, code: int = 2) -> int:
    print(" ".join(f"diffmatch: {message}".split()), file=sys.stderr)
    return code
