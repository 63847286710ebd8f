"""The report: one run as one page, several as a folder of pages that opens without a server and without a network."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from jinja2 import TemplateError

from diffmatch.domain import InputError
from diffmatch.progress import Bar
from diffmatch.records import tables
from diffmatch.records.comparable import FEWEST_CASES
from diffmatch.records.folder import RunFolder
from diffmatch.records.frame import verify
from diffmatch.shared.files import write_text
from diffmatch.shared.machine import usable_cores
from diffmatch_reports import wording
from diffmatch_reports.board import ORACLE, boards
from diffmatch_reports.compare import RESAMPLES, by_case, script, title
from diffmatch_reports.figure_pages import write_figures
from diffmatch_reports.load import RunView, load_run
from diffmatch_reports.matching import fillings
from diffmatch_reports.names import run_name, safe
from diffmatch_reports.overview import datasets, period
from diffmatch_reports.page import write_page

FOREIGN = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, TemplateError)
"""What a record that parses may still raise where it does not hold what a run writes."""

RUNS_PER_PROCESS = 100
"""Fewer do not repay the second or two in which a process starts."""


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        page: the first page.
        runs: those that could be read, without their arrays.
        unreadable: the others, in a line each.
    """

    page: Path
    runs: list[RunView]
    unreadable: list[str]


def write_report(runs: Sequence[RunFolder], out: Path) -> Report:
    """Write `out`/index.html: the page of one run, or the overview of many with the site around it.

    ::

        index.html              what was run, on what, when; all leaderboards
        datasets/<name>.html    a dataset's leaderboards
        runs/<name>.html        a run; data/<name>.js its counts by case
        tables/<number>.html    a table of the paper, as far as the runs fill it
        figures/<name>.html     a figure of the paper, of the largest board
        compare.html            any two runs

    Args:
        runs: in the order in which they appear. One whose run.json cannot be read is named on the first page.
        out: folder, created if absent.

    Raises:
        InputError: there is no run, or not one that can be read, or `out` cannot be written.
    """
    try:
        return _write(runs, out)
    except OSError as error:
        raise InputError(
            f"{error.filename or out}: cannot write ({error.strerror}); choose another folder with --out"
        ) from error


def _write(runs: Sequence[RunFolder], out: Path) -> Report:
    first = out / "index.html"
    if len(runs) == 1:
        with _named(runs[0]):
            run = load_run(runs[0])
            write_page(first, "run", run=run, root=None)
        return Report(first, [run.slim()], [])
    specs = [tables.load(str(number)) for number in tables.numbers()]
    with Bar("write the runs' pages", len(runs)) as bar:
        written = list(bar.track(_on_all_cores(partial(_page_or_problem, specs=specs, out=out), runs)))
    views = [page for page in written if isinstance(page, RunView)]
    unreadable = [problem for problem in written if isinstance(problem, str)]
    if not views:
        raise InputError(unreadable[0] if unreadable else f"{out}: no run to report; train one with diffmatch bench")
    _shared_pages(views, specs, unreadable, out)
    return Report(first, views, unreadable)


def _on_all_cores(work: Callable[[RunFolder], RunView | str], runs: Sequence[RunFolder]) -> Iterator[RunView | str]:
    """`work` of each run, in order.

    Processes are spawned. A fork would copy the threads of numpy and matplotlib in whatever state they are.
    """
    processes = min(usable_cores(), len(runs) // RUNS_PER_PROCESS)
    if processes < 2:
        yield from map(work, runs)
        return
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(work, runs, chunksize=8)


def _page_or_problem(folder: RunFolder, specs: Sequence[tables.Table], out: Path) -> RunView | str:
    try:
        with _named(folder):
            return _run_pages(folder, specs, out)
    except InputError as error:
        return str(error)


@contextmanager
def _named(folder: RunFolder) -> Iterator[None]:
    """Turn what a foreign record makes fail into an error that names it."""
    try:
        yield
    except FOREIGN as error:
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(
            f"{folder.record_path}: what it or its evaluations hold is not what a run writes ({what})"
        ) from error


def _run_pages(folder: RunFolder, specs: Sequence[tables.Table], out: Path) -> RunView:
    """A run's page and data. Asks the run all that the shared pages ask, so that a foreign record fails here."""
    run = load_run(folder)
    name = run_name(run.folder, run.record)
    verify(run)
    any(fillings(table, [run], {}) for table in specs)  # the first that it fits asks all that the others ask
    if by_case(run):
        write_text(out / "data" / f"{name}.js", script(run))
    write_page(out / "runs" / f"{name}.html", "run", run=run, root="../")
    return run.slim()


def _shared_pages(runs: Sequence[RunView], specs: Sequence[tables.Table], unreadable: list[str], out: Path) -> None:
    shared = boards(runs)
    by_dataset = datasets(runs, shared)
    figures = write_figures(shared, out)
    filled = {}
    for table in specs:
        if shown := fillings(table, runs, tables.published(table)):
            write_page(out / "tables" / f"{table.table}.html", "table", table=table, fillings=shown, root="../")
            filled[table.table] = table
    for dataset in by_dataset:
        page = out / "datasets" / f"{safe(dataset.name)}.html"
        caveats = wording.page_caveats([run.record for run in dataset.runs])
        write_page(page, "dataset", dataset=dataset, caveats=caveats, figures=figures, oracle=ORACLE, root="../")
    write_page(
        out / "index.html",
        "index",
        datasets=by_dataset,
        runs=runs,
        unreadable=unreadable,
        period=period(runs),
        oracle=ORACLE,
        tables=filled,
        figures=figures,
        caveats=wording.page_caveats([run.record for run in runs]),
        root="",
    )
    groups = [
        (board.title, [(run_name(run.folder, run.record), title(run)) for run in board.runs if by_case(run)])
        for board in shared
    ]
    write_page(out / "compare.html", "compare", groups=groups, resamples=RESAMPLES, fewest=FEWEST_CASES, root="")
