"""A run of November 2026, committed as it was written: records of schema 1 stay readable, their pages the same."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from diffmatch.records import tables
from diffmatch.records.folder import RunFolder
from diffmatch_reports import run_table, write_report
from diffmatch_reports.load import load_run
from diffmatch_reports.matching import fillings
from diffmatch_reports.names import run_name

RUN = RunFolder(Path(__file__).parent / "fixtures" / "schema1" / "0-4a878704")
DICE = {"background": "99.5", "right ventricle": "66.3", "myocardium": "82.2", "left ventricle": "90.1"}
"""As the README prints them."""


def test_every_part_is_read() -> None:
    run = load_run(RUN)
    assert not run.problems
    assert (run.record.schema_version, run.record.status, run.record.method, run.record.seed) == (
        1,
        "done",
        "diffmatch",
        0,
    )
    assert {split: len(score.counts.cases) for split, score in run.scores.items()} == {
        "test": 10,
        "val": 6,
        "unlabeled": 13,
    }
    assert {f"{100 * run.metrics('test')['per_class'][name]['dice']:.1f}" for name in DICE} == set(DICE.values())
    assert run.series("loss/total")[""] and set(run.series("audit/truth")) == set(DICE)


def test_the_terminal_and_the_page_show_its_numbers(page: Callable[..., Any]) -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(run_table(RUN))
    printed, shown = console.export_text(), page([RUN])
    rows = {row[0][1]: [text for text, _ in row] for row in shown.table("By class, test split")[1:]}
    for name, value in DICE.items():
        assert value in rows[name]
        assert any(line.startswith(name) and value in line for line in printed.splitlines())
    assert "79.5 %" in shown.text and "test40" in shown.text and "7a66417d" in shown.text
    assert shown.html.count('<svg role="img"') == 12, (
        "four classes, their distribution, four reliability diagrams, three training curves"
    )
    assert "Warning: step 180" in shown.text


def test_it_stands_on_a_board_and_in_table_15(tmp_path: Path) -> None:
    table = tables.load("15")
    (found,) = fillings(table, [load_run(RUN)], tables.published(table))
    cell = found.filled.cells["DiffMatch (Ours)", "3 cases"]
    assert f"{cell.measured.mean:.1f}" == "79.5" and cell.published == "90.5" and cell.difference is None
    copy = tmp_path / "copy"
    shutil.copytree(RUN.path, copy)
    site = write_report([RUN, RunFolder(copy)], tmp_path / "site").page.parent
    name = run_name(RUN.path, RUN.record())
    for listing in ("index.html", "datasets/acdc.html", "tables/15.html"):
        assert "79.5" in (site / listing).read_text()
    assert (site / "runs" / f"{name}.html").is_file() and (site / "data" / f"{name}.js").is_file()
